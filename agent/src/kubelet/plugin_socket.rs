//! A socket of the kubelet's at a place that others know. It takes the place of a predecessor that has ended, never of
//! one that lives; only root may connect to it.

use anyhow::{Context, bail};
use std::path::Path;
use tokio::net::{UnixListener, UnixStream};

/// Listens there; the directory is made on the way.
pub async fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    if let Some(directory) = socket.parent() {
        tokio::fs::create_dir_all(directory).await?;
    }
    if UnixStream::connect(socket).await.is_ok() {
        bail!("another kubelet listens on {}", socket.display());
    }
    match tokio::fs::remove_file(socket).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    UnixListener::bind(socket).with_context(|| socket.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("made/kubelet.sock");
        let first = listen(&socket).await.unwrap();
        let refused = listen(&socket).await.unwrap_err().to_string();
        assert!(refused.contains("another kubelet"), "{refused}");
        drop(first);
        listen(&socket).await.unwrap();
    }
}
