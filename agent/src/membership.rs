//! How a machine becomes a node of a cluster by a bootstrap token, and stays one: the cluster's CA is found and
//! checked, a client certificate is asked for and kept, and it is renewed long before its end.
//!
//! What must hold: the token goes to nobody whose certificate the checked CA has not signed; the private key never
//! leaves this machine; what is on disk is whole at every instant; a renewal changes no client that is in use, only
//! what its next request is sent with.

mod client;
mod discovery;
pub(crate) mod kept;
pub(crate) mod request;

pub use discovery::{Pin, Token};

use crate::node::Cluster;
use anyhow::{Context, bail};
use client::Exchangeable;
use jiff::Timestamp;
use kept::{Certificate, Kept};
use request::{Purpose, obtain};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between attempts to renew a certificate.
const RETRY: Duration = Duration::from_secs(60);
/// Longest sleep: clocks jump, and a machine may have been suspended.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Where to join, and by what right.
#[derive(Debug, Clone)]
pub struct Invitation {
    /// `https://HOST:PORT`
    pub server: String,
    #[allow(missing_docs)]
    pub token: Token,
    /// Of the cluster's CA, where the one who invites has told it.
    pub pin: Option<Pin>,
}

/// A node's own credentials in a cluster.
pub struct Membership {
    file: PathBuf,
    node: String,
    kept: Kept,
    exchangeable: Exchangeable,
}

impl std::fmt::Debug for Membership {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Membership").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Where the credentials of the node of this data directory are kept.
pub fn kubeconfig(data_dir: &Path) -> PathBuf {
    data_dir.join("node.kubeconfig")
}

impl Membership {
    /// Takes up the credentials that are kept in `file`, or joins: an invitation is only needed the first time, and
    /// when the certificate has ended meanwhile.
    pub async fn begin(file: &Path, node: &str, invitation: Option<&Invitation>) -> anyhow::Result<Self> {
        let (kept, why_not) = match Kept::read(file, node, Timestamp::now()) {
            Ok(kept) => (kept, None),
            Err(error) => (None, Some(error)),
        };
        let kept = match (kept, invitation) {
            (Some(kept), None) => kept,
            (Some(kept), Some(invitation)) if kept.server == invitation.server => kept,
            (_, Some(invitation)) => {
                if let Some(error) = why_not {
                    tracing::warn!("{error:#}: joining again");
                }
                let kept = join(node, invitation).await?;
                kept.write(file)?;
                kept
            }
            (None, None) => match why_not {
                Some(error) => return Err(error.context("join again: --server URL --token TOKEN")),
                None => bail!("{}: not there", file.display()),
            },
        };
        let exchangeable = Exchangeable::new(kept.client()?);
        Ok(Self { file: file.to_path_buf(), node: node.to_owned(), kept, exchangeable })
    }

    /// The cluster, by a client whose certificate is always the present one.
    pub fn cluster(&self) -> Cluster {
        Cluster { client: self.exchangeable.client(), client_ca_pem: Some(self.kept.ca_pem.clone()) }
    }

    /// Renews the certificate whenever most of its time has passed. Never returns.
    pub async fn keep(mut self) {
        loop {
            let due = self.kept.certificate.renewal();
            let left = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or_default();
            if !left.is_zero() {
                tokio::time::sleep(left.min(LONGEST_WAIT)).await;
                continue;
            }
            if let Err(error) = self.renew().await {
                tracing::warn!("renew the node's certificate: {error:#}");
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn renew(&mut self) -> anyhow::Result<()> {
        let client = self.exchangeable.client();
        let certificate = obtain(client, &self.node, &Purpose::Renewal).await?;
        let kept = Kept { certificate, ..self.kept.clone() };
        let (file, renewed) = (self.file.clone(), kept.clone());
        tokio::task::spawn_blocking(move || renewed.write(&file)).await??;
        self.exchangeable.exchange(kept.client()?);
        self.kept = kept;
        tracing::info!(node = self.node, until = %self.kept.certificate.ends, "renewed the node's certificate");
        Ok(())
    }
}

async fn join(node: &str, invitation: &Invitation) -> anyhow::Result<Kept> {
    let ca_pem = discovery::certificate_authority(invitation).await?;
    let client = client::with_token(&invitation.server, &ca_pem, &invitation.token)?;
    let certificate: Certificate = obtain(client, node, &Purpose::Joining)
        .await
        .with_context(|| format!("join {}", invitation.server))?;
    Ok(Kept { server: invitation.server.clone(), ca_pem, certificate })
}
