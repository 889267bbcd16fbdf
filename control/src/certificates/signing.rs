//! Signing what was approved, by the rules of the signer that the request names.

use super::request::{Decoded, KUBE_APISERVER_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, fault};
use crate::pki::{Pki, Usages};
use crate::registry::fields;
use crate::server::now;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// No certificate holds longer, seconds.
const LONGEST: i64 = 365 * 24 * 3600;
/// None holds shorter, seconds.
const SHORTEST: i64 = 600;

/// The status with the certificate, or with why there is none; `None` for other people's signers.
pub(super) fn sign(pki: &Pki, request: &Value) -> Option<Value> {
    let signer = fields::text(request, "/spec/signerName");
    if ![KUBE_APISERVER_CLIENT, KUBELET_CLIENT, KUBELET_SERVING].contains(&signer) {
        return None;
    }
    let made = Decoded::read(request).and_then(|decoded| {
        fault(signer, &decoded).map_or(Ok(()), Err)?;
        let seconds =
            fields::int(request, "/spec/expirationSeconds").unwrap_or(LONGEST).clamp(SHORTEST, LONGEST);
        let usages = if signer == KUBELET_SERVING { Usages::Server } else { Usages::Client };
        pki.sign_request(decoded.params, usages, seconds).map_err(|error| format!("{error:#}"))
    });
    Some(match made {
        Ok(pem) => json!({"certificate": STANDARD.encode(pem)}),
        Err(why) => {
            let failed = json!({"type": "Failed", "status": "True", "reason": "SignerValidationFailure",
                "message": why, "lastUpdateTime": now(), "lastTransitionTime": now()});
            let mut conditions = fields::list(request, "/status/conditions").to_vec();
            conditions.push(failed);
            json!({"conditions": conditions})
        }
    })
}
