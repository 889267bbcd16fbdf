//! What the streaming server asks of the engine once a client has redeemed its URL: a process to talk to, a
//! container's own stdio, or the network namespace in which a port is dialled.
//!
//! The engine checks the request (container running, terminal or not) when it hands out the URL *and* when the URL
//! is redeemed, because up to a minute may lie between the two. The server holds the engine weakly
//! (`StreamingServer::start(address, Weak<dyn StreamTarget>)`), the engine owns the server as [`StreamUrls`].

use super::monitors::{AttachSession, ExecSession};
use async_trait::async_trait;
use knarr_cri::{Status, v1};
use std::path::PathBuf;

/// The engine as the streaming server sees it.
#[async_trait]
pub trait StreamTarget: Send + Sync + 'static {
    /// Starts `cmd` in a running container; dropping the session kills its process tree.
    async fn exec_session(
        &self,
        container_id: &str,
        cmd: Vec<String>,
        tty: bool,
        stdin: bool,
    ) -> Result<ExecSession, Status>;

    /// Sets the size of an exec's terminal.
    fn resize_exec(&self, session: &ExecSession, columns: u16, rows: u16) -> anyhow::Result<()>;

    /// Joins the stdio of a running container.
    async fn attach_session(&self, container_id: &str) -> Result<AttachSession, Status>;

    /// Where the pod's network namespace is pinned; `None` for a pod in the host's network.
    async fn netns_of(&self, sandbox_id: &str) -> Result<Option<PathBuf>, Status>;
}

/// The streaming server as the engine sees it: a URL, good once and for a minute, for each request.
pub trait StreamUrls: Send + Sync + 'static {
    #[allow(missing_docs)]
    fn exec_url(&self, request: &v1::ExecRequest) -> Result<String, Status>;
    #[allow(missing_docs)]
    fn attach_url(&self, request: &v1::AttachRequest) -> Result<String, Status>;
    #[allow(missing_docs)]
    fn port_forward_url(&self, request: &v1::PortForwardRequest) -> Result<String, Status>;
}
