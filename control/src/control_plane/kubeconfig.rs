//! `admin.kubeconfig`: everything kubectl needs, in one file.

use crate::pki::Identity;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A kubeconfig for the server at `url`, with a client certificate.
pub(super) fn render(url: &str, ca_pem: &str, user: &Identity) -> String {
    let (ca, certificate, key) =
        (STANDARD.encode(ca_pem), STANDARD.encode(&user.certificate), STANDARD.encode(&user.key));
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: knarr
  cluster:
    server: {url}
    certificate-authority-data: {ca}
users:
- name: admin
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: knarr
  context:
    cluster: knarr
    user: admin
current-context: knarr
"
    )
}
