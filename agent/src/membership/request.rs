//! A certificate from the cluster's signers: a key is made here, a CertificateSigningRequest is created, and the
//! answer is waited for, however long a person takes to approve it.

use super::kept::Certificate;
use anyhow::{Context, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt as _};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use std::time::Duration;

/// How long a request may stay undecided before it is made anew.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The first one by which this node is a client.
    Joining,
    /// The next one.
    Renewal,
    /// The one that the kubelet API shows; names and addresses.
    Serving(Vec<String>),
}

impl Purpose {
    fn signer(&self) -> &'static str {
        match self {
            Self::Joining | Self::Renewal => "kubernetes.io/kube-apiserver-client-kubelet",
            Self::Serving(_) => "kubernetes.io/kubelet-serving",
        }
    }

    fn usages(&self) -> Vec<String> {
        let own = if matches!(self, Self::Serving(_)) { "server auth" } else { "client auth" };
        vec!["digital signature".to_owned(), own.to_owned()]
    }

    fn name_prefix(&self) -> &'static str {
        if *self == Self::Joining { "node-csr-" } else { "csr-" }
    }

    /// PKCS#10 (PEM) and the key (PEM) that signed it.
    fn signing_request(&self, node: &str) -> anyhow::Result<(String, String)> {
        let names = if let Self::Serving(names) = self { names.clone() } else { Vec::new() };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, format!("system:node:{node}"));
        let key = KeyPair::generate()?;
        Ok((params.serialize_request(&key)?.pem()?, key.serialize_pem()))
    }
}

/// Asks for a certificate and waits for it.
pub(crate) async fn obtain(client: Client, node: &str, purpose: &Purpose) -> anyhow::Result<Certificate> {
    let (request, key) = purpose.signing_request(node)?;
    let api: Api<CertificateSigningRequest> = Api::all(client);
    let object = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some(purpose.name_prefix().to_owned()), ..Default::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: purpose.signer().to_owned(),
            usages: Some(purpose.usages()),
            ..Default::default()
        },
        status: None,
    };
    let created = api.create(&PostParams::default(), &object).await.context("create a signing request")?;
    let name = created.name_any();
    tracing::info!(name, node, "waiting for the approval of a certificate signing request");
    let decided = await_condition(api, &name, |found: Option<&CertificateSigningRequest>| match found {
        Some(request) => verdict(request).is_some(),
        None => true,
    });
    let decided = tokio::time::timeout(PATIENCE, decided).await;
    let decided =
        decided.with_context(|| format!("certificate signing request {name} was not approved"))??;
    match decided.as_ref().and_then(verdict) {
        Some(Ok(pem)) => Certificate::new(pem, key),
        Some(Err(why)) => bail!("certificate signing request {name}: {why}"),
        None => bail!("certificate signing request {name} was deleted"),
    }
}

/// The certificate, or why there will be none; `None` while it is open.
fn verdict(request: &CertificateSigningRequest) -> Option<Result<String, String>> {
    let status = request.status.as_ref()?;
    for condition in status.conditions.iter().flatten() {
        if condition.type_ == "Denied" || condition.type_ == "Failed" {
            let why = condition.message.as_deref().unwrap_or("no reason given");
            return Some(Err(format!("{}: {why}", condition.type_.to_lowercase())));
        }
    }
    let pem = status.certificate.as_ref().filter(|certificate| !certificate.0.is_empty())?;
    Some(String::from_utf8(pem.0.clone()).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_open_until_somebody_decides() {
        let request = |status| -> CertificateSigningRequest {
            serde_json::from_value(json!({"metadata": {}, "status": status,
                "spec": {"request": "", "signerName": "s"}}))
            .unwrap()
        };
        let condition = |kind: &str| json!([{"type": kind, "status": "True", "message": "m"}]);
        assert_eq!(verdict(&request(json!({}))), None);
        assert_eq!(verdict(&request(json!({"conditions": condition("Approved")}))), None);
        let denied = verdict(&request(json!({"conditions": condition("Denied")})));
        assert_eq!(denied, Some(Err("denied: m".into())));
        let issued = verdict(&request(json!({"conditions": condition("Approved"), "certificate": "eA=="})));
        assert_eq!(issued, Some(Ok("x".into())));
    }

    #[test]
    fn requests_are_as_the_signers_want_them() {
        let (pem, key) = Purpose::Joining.signing_request("n").unwrap();
        assert!(pem.contains("BEGIN CERTIFICATE REQUEST") && key.contains("PRIVATE KEY"));
        let serving = Purpose::Serving(vec!["n".into(), "10.0.0.1".into()]);
        assert_eq!(serving.usages(), ["digital signature", "server auth"]);
        assert!(serving.signing_request("n").is_ok());
    }
}
