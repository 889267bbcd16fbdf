//! A kubeconfig with one server and one client certificate: what kubectl and every other client read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What such a file says. Certificates and key are PEM.
#[derive(Clone, Copy)]
#[allow(missing_docs)] // named as in the file
pub struct Kubeconfig<'a> {
    pub cluster: &'a str,
    pub context: &'a str,
    pub user: &'a str,
    pub server: &'a str,
    pub ca_pem: &'a str,
    pub certificate_pem: &'a str,
    pub key_pem: &'a str,
}

/// The key is nobody's to see.
impl std::fmt::Debug for Kubeconfig<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfig")
            .field("server", &self.server)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// The text of the file.
impl std::fmt::Display for Kubeconfig<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cluster, context, user, server, .. } = self;
        let [ca, certificate, key] =
            [self.ca_pem, self.certificate_pem, self.key_pem].map(|pem| STANDARD.encode(pem));
        write!(
            f,
            "apiVersion: v1
kind: Config
clusters:
- name: {cluster}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {context}
  context:
    cluster: {cluster}
    user: {user}
current-context: {context}
"
        )
    }
}
