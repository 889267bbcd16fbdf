//! Certificate signing requests say who asks; who approves or signs them must be let by roles for that signer; and
//! nobody gets the group of administrators through a certificate.

use super::{Operation, Write};
use crate::authz::Attributes;
use crate::certificates::KUBE_APISERVER_CLIENT;
use crate::registry::fields;
use crate::server::Server;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knarr_api::Status;
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;

const GROUP: &str = "certificates.k8s.io";

fn is_request(write: Write<'_>) -> bool {
    write.resource.group == GROUP && write.resource.plural == "certificatesigningrequests"
}

/// Who asks is not theirs to say.
pub(super) fn fill_in(write: Write<'_>, request: &mut Value) {
    if !is_request(write) || write.operation != Operation::Create {
        return;
    }
    let Some(spec) = fields::child(request, "spec") else { return };
    fields::set(spec, "username", json!(write.user.name));
    fields::set(spec, "groups", json!(write.user.groups));
    fields::set(spec, "extra", write.user.info()["extra"].clone());
    fields::set(spec, "uid", json!(write.user.uid));
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|name, value| !(value.is_null() || name == "uid" && value == ""));
    }
}

pub(super) async fn check(server: &Server, write: Write<'_>, request: &Value) -> Result<(), Status> {
    if !is_request(write) || write.operation == Operation::Delete {
        return Ok(());
    }
    let signer = fields::text(request, "/spec/signerName");
    let signs = |object: &Value| object["status"]["certificate"].clone();
    match write.subresource {
        "" if write.operation == Operation::Create => {
            subject_fault(signer, request).map_or(Ok(()), |why| Err(write.forbidden(&why)))
        }
        "approval" => may(server, write, "approve", signer).await,
        "status" if write.old.map(signs) != Some(signs(request)) => may(server, write, "sign", signer).await,
        _ => Ok(()),
    }
}

/// The verb on the signer itself, or on every signer of its domain.
async fn may(server: &Server, write: Write<'_>, verb: &str, signer: &str) -> Result<(), Status> {
    let domain = signer.split_once('/').map(|(domain, _)| format!("{domain}/*")).unwrap_or_default();
    for name in [signer, &domain] {
        let asked = Attributes::Resource {
            verb,
            group: GROUP,
            resource: "signers",
            subresource: "",
            namespace: "",
            name,
            fields: None,
        };
        if server.may(write.user, &asked).await {
            return Ok(());
        }
    }
    Err(write.forbidden(&format!("user not permitted to {verb} requests with signerName {signer:?}")))
}

fn subject_fault(signer: &str, request: &Value) -> Option<String> {
    if signer != KUBE_APISERVER_CLIENT {
        return None;
    }
    let pem = STANDARD.decode(fields::text(request, "/spec/request")).ok()?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).ok()?;
    let (_, parsed) = X509CertificationRequest::from_der(&pem.contents).ok()?;
    let subject = parsed.certification_request_info.subject;
    let masters =
        subject.iter_organization().any(|group| group.as_str().is_ok_and(|group| group == "system:masters"));
    masters.then(|| format!("use of {KUBE_APISERVER_CLIENT} signer with system:masters group is not allowed"))
}
