//! Authentication: who sends a request. By client certificate (common name = user, organizations = groups) or by
//! bearer token; without either the user is anonymous. A credential that is wrong is refused, never ignored.

use crate::store::Store;
use jiff::Timestamp;
use knarr_api::Status;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub mod bootstrap_token;
pub(crate) mod front_proxy;
pub(crate) mod service_account;

use service_account::{ISSUER, Issuer};

/// Members may do everything.
pub const MASTERS: &str = "system:masters";
/// Agents.
pub const NODES: &str = "system:nodes";
/// Everyone who proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";
/// Everyone who did not.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";

/// Who sends a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// `kubernetes-admin`, `system:node:NAME`, `system:serviceaccount:NAMESPACE:NAME`
    pub name: String,
    /// `system:masters`, ...
    pub groups: Vec<String>,
    /// Of a service account.
    pub uid: String,
    /// What else the credential says, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A user who proved who they are.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let groups = groups.iter().chain(&[AUTHENTICATED]).map(|group| (*group).to_owned()).collect();
        Self { name: name.into(), groups, ..Self::default() }
    }

    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    /// The agent of a node.
    pub fn node(name: &str) -> Self {
        Self::new(format!("system:node:{name}"), &[NODES])
    }

    /// The parts of the server that are clients of its own API.
    pub fn server() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    /// As reviews and the audit log tell of them.
    pub(crate) fn info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
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

/// Bearer tokens and their users: fixed ones, and those of service accounts.
#[derive(Debug)]
pub(crate) struct Tokens {
    fixed: HashMap<String, User>,
    pub(crate) issuer: Arc<Issuer>,
}

impl Tokens {
    pub(crate) fn new(issuer: Arc<Issuer>) -> Self {
        Self { fixed: HashMap::new(), issuer }
    }

    /// Lets `token` stand for `user`.
    pub(crate) fn insert(&mut self, token: String, user: User) {
        self.fixed.insert(token, user);
    }

    /// The user of an `Authorization` header.
    pub(crate) async fn authenticate(&self, header: &str, store: &dyn Store) -> Result<User, Status> {
        let token = header.strip_prefix("Bearer ").or_else(|| header.strip_prefix("bearer "));
        let token =
            token.map(str::trim).filter(|token| !token.is_empty()).ok_or_else(Status::unauthorized)?;
        self.user(token, &[ISSUER], store).await.map(|(user, _)| user).ok_or_else(Status::unauthorized)
    }

    /// The user of a token that is for one of `audiences`, and for which of them it is.
    pub(crate) async fn user(
        &self,
        token: &str,
        audiences: &[&str],
        store: &dyn Store,
    ) -> Option<(User, Vec<String>)> {
        if let Some(user) = self.fixed.get(token) {
            return Some((user.clone(), Vec::new()));
        }
        if let Some(user) = bootstrap_token::user(token, store).await {
            return Some((user, Vec::new()));
        }
        if let Some(user) = self.issuer.kept(token, store).await {
            // It names nobody that it is for, which means this server.
            return audiences.contains(&ISSUER).then(|| (user, vec![ISSUER.to_owned()]));
        }
        let claims = self.issuer.verify(token, Timestamp::now())?;
        let meant: Vec<String> =
            claims.aud.iter().filter(|audience| audiences.contains(&audience.as_str())).cloned().collect();
        if meant.is_empty() {
            return None;
        }
        claims.user(store).await.map(|user| (user, meant))
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
}
