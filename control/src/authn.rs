//! Authentication: who sends a request. By client certificate (common name = user, organizations = groups) or by
//! bearer token; without either the user is anonymous. A credential that is wrong is refused, never ignored.

use knarr_api::Status;
use std::collections::HashMap;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Members may do everything.
pub const MASTERS: &str = "system:masters";
/// Agents.
pub const NODES: &str = "system:nodes";
/// Everyone who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `kubernetes-admin`, `system:node:NAME`, `system:serviceaccount:NAMESPACE:NAME`
    pub name: String,
    /// `system:masters`, ...
    pub groups: Vec<String>,
    /// Of a service account.
    pub uid: String,
}

impl User {
    /// A user who proved who they are.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&[AUTHENTICATED]).map(|group| (*group).to_owned()).collect();
        Self { name: name.into(), groups, uid: String::new() }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], uid: String::new() }
    }

    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), &[NODES])
    }

    /// The parts of the server that are clients of its own API.
    pub fn server() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// Whether the user belongs to `group`.
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }

    /// The user of a client certificate, which the TLS layer has verified.
    pub fn from_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
        let groups: Vec<&str> = subject.iter_organization().filter_map(|group| group.as_str().ok()).collect();
        Some(Self::new(name, &groups))
    }
}

/// Bearer tokens and their users.
#[derive(Default)]
pub struct Tokens {
    fixed: HashMap<String, User>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Tokens({})", self.fixed.len())
    }
}

impl Tokens {
    /// Lets `token` stand for `user`.
    pub fn insert(&mut self, token: String, user: User) {
        self.fixed.insert(token, user);
    }

    /// The user of an `Authorization` header.
    pub fn authenticate(&self, header: &str) -> Result<User, Status> {
        let token = header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("bearer "));
        token.and_then(|token| self.fixed.get(token.trim())).cloned().ok_or_else(Status::unauthorized)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::{Pki, Subject};

    #[test]
    fn a_certificate_names_the_user_and_the_group() {
        let directory = tempfile::tempdir().unwrap();
        let pki = Pki::open(directory.path()).unwrap();
        let subject = Subject { common_name: "bob", organization: Some("dev"), names: &[] };
        let identity = pki.sign(&subject).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(identity.certificate.as_bytes()).unwrap();
        assert_eq!(User::from_certificate(&pem.contents).unwrap(), User::new("bob", &["dev"]));
        assert_eq!(User::from_certificate(b"no certificate"), None);
    }

    #[test]
    fn a_wrong_token_is_refused() {
        let mut tokens = Tokens::default();
        tokens.insert("secret".into(), User::new("admin", &[MASTERS]));
        assert_eq!(tokens.authenticate("Bearer secret").unwrap().name, "admin");
        for header in ["Bearer other", "Basic secret", ""] {
            assert_eq!(tokens.authenticate(header).unwrap_err().code, 401, "{header}");
        }
    }
}
