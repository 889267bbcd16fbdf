//! The certificate of the kubelet API from the cluster's signer `kubernetes.io/kubelet-serving`, where the settings ask
//! for one (`server_tls_bootstrap`): kept on disk, renewed before its end. Until somebody approves the request the API
//! goes on with the certificate it has.

use crate::kubelet::api_server::Serving;
use crate::membership::kept::Certificate;
use crate::membership::request::{Purpose, obtain};
use anyhow::Context;
use jiff::Timestamp;
use kube::Client;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Between attempts to get one.
const RETRY: Duration = Duration::from_secs(60);
/// Longest sleep: clocks jump.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Between the chain and its key in the file.
const KEY: &str = "-----BEGIN PRIVATE KEY-----";

/// What is needed for it.
pub struct ServingCertificate {
    #[allow(missing_docs)]
    pub client: Client,
    #[allow(missing_docs)]
    pub node: String,
    /// Names and addresses under which the API is reached.
    pub names: Vec<String>,
    /// Where certificate and key are kept.
    pub file: PathBuf,
    #[allow(missing_docs)]
    pub serving: Arc<Serving>,
}

impl std::fmt::Debug for ServingCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServingCertificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl ServingCertificate {
    /// Gets and renews it. Never returns.
    pub async fn run(self) {
        let mut present = read(&self.file).filter(|kept| self.show(kept));
        loop {
            let now = Timestamp::now();
            let left = present.as_ref().map_or(Duration::ZERO, |present| {
                Duration::try_from(present.renewal().duration_since(now)).unwrap_or_default()
            });
            if !left.is_zero() {
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
                continue;
            }
            match self.next().await {
                Ok(certificate) => present = Some(certificate),
                Err(error) => {
                    tracing::warn!("serving certificate: {error:#}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    fn show(&self, certificate: &Certificate) -> bool {
        self.serving.exchange(&certificate.pem, &certificate.key).is_ok()
    }

    async fn next(&self) -> anyhow::Result<Certificate> {
        let purpose = Purpose::Serving(self.names.clone());
        let certificate = obtain(self.client.clone(), &self.node, &purpose).await?;
        self.serving.exchange(&certificate.pem, &certificate.key)?;
        let (file, kept) = (self.file.clone(), certificate.clone());
        tokio::task::spawn_blocking(move || write(&file, &kept)).await??;
        Ok(certificate)
    }
}

fn read(file: &Path) -> Option<Certificate> {
    let text = std::fs::read_to_string(file).ok()?;
    let at = text.find(KEY)?;
    let kept = Certificate::new(text[..at].to_owned(), text[at..].to_owned()).ok()?;
    (Timestamp::now() < kept.ends).then_some(kept)
}

fn write(file: &Path, certificate: &Certificate) -> anyhow::Result<()> {
    let directory = file.parent().context("no directory")?;
    // Temporary files are made readable by their owner only.
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(certificate.pem.as_bytes())?;
    temporary.write_all(certificate.key.as_bytes())?;
    temporary.persist(file).with_context(|| file.display().to_string())?;
    Ok(())
}
