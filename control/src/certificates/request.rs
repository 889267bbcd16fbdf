//! What a certificate signing request asks for: the decoded PKCS#10 request and the rules of the cluster's signers.

use crate::registry::fields;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateSigningRequestParams, DnType, DnValue, SanType};
use serde_json::Value;

/// Certificates for any client.
pub(crate) const KUBE_APISERVER_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Certificates by which an agent is a client.
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Certificates by which an agent serves.
pub(super) const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// A request, read and its signature verified.
pub(super) struct Decoded {
    pub(super) params: CertificateSigningRequestParams,
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) usages: Vec<String>,
}

impl Decoded {
    pub(super) fn read(request: &Value) -> Result<Self, String> {
        let encoded = fields::text(request, "/spec/request");
        let pem = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
        let pem = String::from_utf8(pem).map_err(|error| error.to_string())?;
        let params = CertificateSigningRequestParams::from_pem(&pem).map_err(|error| error.to_string())?;
        let name = &params.params.distinguished_name;
        let all = |wanted: &DnType| -> Vec<String> {
            name.iter().filter(|(kind, _)| *kind == wanted).filter_map(|(_, value)| text(value)).collect()
        };
        let common_name = all(&DnType::CommonName).pop().unwrap_or_default();
        let organizations = all(&DnType::OrganizationName);
        let usages = fields::list(request, "/spec/usages").iter().filter_map(Value::as_str);
        Ok(Self { common_name, organizations, usages: usages.map(str::to_owned).collect(), params })
    }

    pub(super) fn names(&self) -> &[SanType] {
        &self.params.params.subject_alt_names
    }

    /// Whether the usages are `needed` and at most `more` besides.
    pub(super) fn usages_are(&self, needed: &[&str], more: &[&str]) -> bool {
        let all = |usage: &String| needed.contains(&usage.as_str()) || more.contains(&usage.as_str());
        needed.iter().all(|usage| self.usages.iter().any(|own| own == usage)) && self.usages.iter().all(all)
    }

    /// Whether the subject is that of a node's agent.
    pub(super) fn is_node(&self) -> bool {
        self.organizations == ["system:nodes"] && self.common_name.starts_with("system:node:")
    }
}

fn text(value: &DnValue) -> Option<String> {
    match value {
        DnValue::Utf8String(text) => Some(text.clone()),
        DnValue::PrintableString(text) => Some(text.as_str().to_owned()),
        DnValue::Ia5String(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// Why the signer that the request names does not sign it.
pub(super) fn fault(signer: &str, request: &Decoded) -> Option<String> {
    let client = request.usages_are(&["client auth"], &["digital signature", "key encipherment"]);
    let of = |needed: &[&str]| request.usages_are(needed, &["key encipherment"]);
    let names = request.names();
    match signer {
        KUBE_APISERVER_CLIENT if !client => Some("usages did not match: want client auth".to_owned()),
        KUBE_APISERVER_CLIENT => None,
        KUBELET_CLIENT if !request.is_node() => Some("subject is not that of a node".to_owned()),
        KUBELET_CLIENT if !names.is_empty() => Some("subject alternative names are not allowed".to_owned()),
        KUBELET_CLIENT if !of(&["client auth", "digital signature"]) => {
            Some("usages did not match: want digital signature, client auth".to_owned())
        }
        KUBELET_CLIENT => None,
        KUBELET_SERVING if !request.is_node() => Some("subject is not that of a node".to_owned()),
        KUBELET_SERVING if names.is_empty() => Some("DNS or IP subjectAltName is required".to_owned()),
        KUBELET_SERVING if !of(&["server auth", "digital signature"]) => {
            Some("usages did not match: want digital signature, server auth".to_owned())
        }
        KUBELET_SERVING => None,
        other => Some(format!("signer {other:?} is not one of this cluster")),
    }
}
