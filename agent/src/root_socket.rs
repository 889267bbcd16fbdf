//! A unix socket at a place that others know. It takes the place of a predecessor that has ended, never of one that
//! lives; only root may connect to it, and whoever sees its file can connect: it is made beside its place and moved there
//! when it listens.

use anyhow::{Context, ensure};
use rustix::fs::Mode;
use std::path::Path;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

/// How long the child of a dead predecessor may take to begin its program: until then it has the listening socket too.
const LEFT_BEHIND: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// What it is called while it is made; shorter than any name that it gets, because addresses are short.
const NEW: &str = ".new";

/// Listens there; the directory is made on the way.
pub(crate) async fn listen(socket: &Path) -> anyhow::Result<UnixListener> {
    bind(socket).await.with_context(|| format!("listening on {}", socket.display()))
}

async fn bind(socket: &Path) -> anyhow::Result<UnixListener> {
    let new = socket.with_file_name(NEW);
    if let Some(directory) = socket.parent() {
        tokio::fs::create_dir_all(directory).await?;
    }
    ensure!(is_free(socket).await, "another process serves this socket");
    match tokio::fs::remove_file(&new).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    rustix::fs::chmod(&new, Mode::RUSR | Mode::WUSR)?;
    tokio::fs::rename(&new, socket).await?;
    Ok(listener)
}

/// Whether nobody answers there, or will not in a moment.
async fn is_free(socket: &Path) -> bool {
    let end = Instant::now() + LEFT_BEHIND;
    while is_served(socket).await {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(PAUSE).await;
    }
    true
}

async fn is_served(socket: &Path) -> bool {
    match UnixStream::connect(socket).await {
        Ok(_) => true,
        // Somebody has more to do than to take this.
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_living_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("made/kubelet.sock");
        let first = listen(&socket).await.unwrap();
        assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        let refused = format!("{:#}", listen(&socket).await.unwrap_err());
        assert!(refused.ends_with("another process serves this socket"), "{refused}");
        drop(first);
        listen(&socket).await.unwrap();
        assert_eq!(std::fs::read_dir(directory.path().join("made")).unwrap().count(), 1);
    }
}
