//! Requests that need no person: an agent's first client certificate, asked for with a bootstrap token, and its
//! renewal, asked for with the old one.

use super::request::{Decoded, KUBELET_CLIENT, fault};
use crate::registry::fields;
use serde_json::{Value, json};

/// A kind of request that roles can allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// By somebody else, for a new node.
    Node,
    /// By the node itself.
    SelfNode,
}

impl Kind {
    pub(super) fn subresource(self) -> &'static str {
        match self {
            Self::Node => "nodeclient",
            Self::SelfNode => "selfnodeclient",
        }
    }

    pub(super) fn condition(self) -> Value {
        let message = match self {
            Self::Node => "Auto approving kubelet client certificate after SubjectAccessReview.",
            Self::SelfNode => "Auto approving self kubelet client certificate after SubjectAccessReview.",
        };
        json!({"type": "Approved", "status": "True", "reason": "AutoApproved", "message": message})
    }
}

/// What kind of node request it is, if any.
pub(super) fn recognize(request: &Value) -> Option<Kind> {
    if fields::text(request, "/spec/signerName") != KUBELET_CLIENT {
        return None;
    }
    let decoded = Decoded::read(request).ok()?;
    if fault(KUBELET_CLIENT, &decoded).is_some() {
        return None;
    }
    let own = fields::text(request, "/spec/username") == decoded.common_name;
    Some(if own { Kind::SelfNode } else { Kind::Node })
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn request(user: &str, organization: &str, names: &[&str]) -> Value {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, organization);
        params.distinguished_name.push(DnType::CommonName, "system:node:n");
        let key = KeyPair::generate().unwrap();
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        json!({"spec": {"signerName": KUBELET_CLIENT, "username": user, "request": STANDARD.encode(pem),
            "usages": ["digital signature", "client auth"]}})
    }

    #[test]
    fn node_requests_are_recognized() {
        let bootstrap = request("system:bootstrap:abcdef", "system:nodes", &[]);
        assert_eq!(recognize(&bootstrap), Some(Kind::Node));
        assert_eq!(recognize(&request("system:node:n", "system:nodes", &[])), Some(Kind::SelfNode));
        assert_eq!(recognize(&request("system:node:n", "system:masters", &[])), None);
        assert_eq!(recognize(&request("system:node:n", "system:nodes", &["evil.example"])), None);
        let mut usages = bootstrap.clone();
        usages["spec"]["usages"] = json!(["digital signature", "client auth", "server auth"]);
        assert_eq!(recognize(&usages), None);
        let mut broken = bootstrap;
        broken["spec"]["request"] = "bm8gcGVt".into();
        assert_eq!(recognize(&broken), None);
    }
}
