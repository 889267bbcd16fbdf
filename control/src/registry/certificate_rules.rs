//! The rules of certificate signing requests: what is asked for, by whom it may be signed, and which conditions may
//! come and go through which path.

use super::faults::Faults;
use super::{fields, validation};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use knarr_api::names;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

/// Shorter certificates could not be renewed in time.
const MIN_SECONDS: i64 = 600;
/// Conditions that never become false or go away.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];
/// Shown instead of a certificate.
const HIDDEN: &str = "<certificate data>";

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// Every fault of what is asked for. It never changes, so only a new object is judged.
pub(super) fn validate_new(request: &Value, faults: &mut Faults) {
    let encoded = fields::text(request, "/spec/request");
    if let Err(fault) = parse(encoded) {
        faults.invalid("spec.request", &json!(encoded), &fault);
    }
    usages(request, faults);
    signer(fields::text(request, "/spec/signerName"), faults);
    if let Some(seconds) = fields::int(request, "/spec/expirationSeconds").filter(|one| *one < MIN_SECONDS) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        faults.invalid("spec.expirationSeconds", &json!(seconds), detail);
    }
}

/// Whether it is a PKCS#10 request in a PEM block, as far as its form says; signers verify the signature.
fn parse(encoded: &str) -> Result<(), String> {
    let block = STANDARD.decode(encoded).ok().and_then(|pem| blocks(&pem).into_iter().next());
    match block {
        Some(block) if block.label == "CERTIFICATE REQUEST" => {
            X509CertificationRequest::from_der(&block.contents).map(drop).map_err(|error| error.to_string())
        }
        _ => Err("PEM block type must be CERTIFICATE REQUEST".to_owned()),
    }
}

/// The PEM blocks of a text, whatever stands between them.
fn blocks(text: &[u8]) -> Vec<Pem> {
    Pem::iter_from_buffer(text).map_while(Result::ok).collect()
}

fn usages(request: &Value, faults: &mut Faults) {
    let usages = fields::list(request, "/spec/usages");
    if usages.is_empty() {
        faults.required("spec.usages", "");
    }
    let mut seen = BTreeSet::new();
    for (index, usage) in usages.iter().enumerate() {
        let (field, name) = (format!("spec.usages[{index}]"), usage.as_str().unwrap_or_default());
        if !USAGES.contains(&name) {
            faults.not_supported(&*field, name, &USAGES);
        }
        if !seen.insert(name) {
            faults.duplicate(field, usage);
        }
    }
}

/// `example.com/signer-name`
fn signer(name: &str, faults: &mut Faults) {
    const FIELD: &str = "spec.signerName";
    let parts: Vec<&str> = name.split('/').collect();
    match parts.as_slice() {
        [""] => faults.required(FIELD, ""),
        ["kubernetes.io", "legacy-unknown"] => {
            faults.invalid(FIELD, &json!(name), "the legacy signerName is not allowed via this API version");
        }
        [domain, path] => {
            for label in domain.split('.') {
                named(domain, label, &names::dns1123_label(label), faults);
            }
            if !domain.contains('.') {
                let detail = "should be a domain with at least two segments separated by dots";
                faults.invalid(FIELD, &json!(domain), detail);
            }
            named(path, path, &names::dns1123_subdomain(path), faults);
        }
        _ => {
            let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            faults.invalid(FIELD, &json!(name), detail);
        }
    }
}

fn named(part: &str, label: &str, found: &[String], faults: &mut Faults) {
    for fault in found {
        faults.invalid("spec.signerName", &json!(part), &format!("validating label {label:?}: {fault}"));
    }
}

/// Every fault of the conditions and of the certificate, whichever way they came.
pub(super) fn validate_status(request: &Value, faults: &mut Faults) {
    let (mut seen, mut decided) = (BTreeSet::new(), BTreeSet::new());
    for (index, condition) in fields::list(request, "/status/conditions").iter().enumerate() {
        let (kind, status) = (fields::text(condition, "/type"), fields::text(condition, "/status"));
        let field = format!("status.conditions[{index}]");
        if kind.is_empty() {
            faults.required(format!("{field}.type"), "");
        }
        let allowed: &[&str] =
            if DECISIONS.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        match status {
            "" => faults.required(format!("{field}.status"), ""),
            status if !allowed.contains(&status) => {
                faults.not_supported(format!("{field}.status"), status, allowed);
            }
            _ => {}
        }
        if matches!(kind, "Approved" | "Denied") && decided.insert(kind) && decided.len() > 1 {
            let detail = "Approved and Denied conditions are mutually exclusive";
            faults.invalid("status.conditions", &json!(kind), detail);
        }
        if !seen.insert(kind) {
            faults.duplicate(format!("{field}.type"), &json!(kind));
        }
    }
    certificate(fields::text(request, "/status/certificate"), faults);
}

fn certificate(encoded: &str, faults: &mut Faults) {
    if encoded.is_empty() {
        return;
    }
    let blocks = blocks(&STANDARD.decode(encoded).unwrap_or_default());
    let mut refuse = |detail: &str| faults.invalid("status.certificate", &json!(HIDDEN), detail);
    if blocks.is_empty() {
        refuse("must contain at least one CERTIFICATE PEM block");
    }
    for block in blocks {
        if block.label != "CERTIFICATE" {
            return refuse(&format!("only CERTIFICATE PEM blocks are allowed, found {:?}", block.label));
        }
        if let Err(error) = block.parse_x509() {
            return refuse(&error.to_string());
        }
    }
}

/// Every fault of a change that is judged by both states: what was decided stays, and only `/approval` decides.
pub(super) fn validate_decisions(new: &Value, old: &Value, approves: bool, faults: &mut Faults) {
    const FIELD: &str = "status.conditions";
    for kind in DECISIONS {
        let (before, after) = (count(old, kind), count(new, kind));
        if after < before {
            faults.forbidden(FIELD, &format!("updates may not remove a condition of type {kind:?}"));
        } else if after > before && kind != "Failed" && !approves {
            faults.forbidden(FIELD, &format!("updates may not add a condition of type {kind:?}"));
        }
    }
    let certificate = |request: &Value| fields::text(request, "/status/certificate").to_owned();
    if !certificate(old).is_empty() && certificate(old) != certificate(new) {
        faults.forbidden("status.certificate", "updates may not modify existing certificate content");
    }
}

fn count(request: &Value, kind: &str) -> usize {
    let conditions = fields::list(request, "/status/conditions").iter();
    conditions.filter(|condition| fields::text(condition, "/type") == kind).count()
}

/// Every fault of an update: what was asked for stays.
pub(super) fn validate_update(new: &Value, old: &Value, faults: &mut Faults) {
    validation::unchanged(new, old, "spec", faults);
}
