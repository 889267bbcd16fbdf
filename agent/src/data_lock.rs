//! One agent per data directory: two would remove each other's pods.
//!
//! The kernel drops the lock with its last descriptor. A process that an agent is just starting has a copy of each until
//! it begins its program: so the lock is given back explicitly, and the copy that a killed agent left is waited for.

use anyhow::Context;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long the child of a killed agent may take to begin its program.
const LEFT_BEHIND: Duration = Duration::from_secs(3);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Held for as long as the agent runs.
#[derive(Debug)]
pub(crate) struct DataLock(OwnedFd);

impl DataLock {
    pub(crate) async fn take(data_dir: &Path) -> anyhow::Result<DataLock> {
        std::fs::create_dir_all(data_dir).with_context(|| data_dir.display().to_string())?;
        let file = data_dir.join("agent.lock");
        let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
        let lock = rustix::fs::open(&file, flags, Mode::RUSR | Mode::WUSR)
            .with_context(|| file.display().to_string())?;
        let end = Instant::now() + LEFT_BEHIND;
        loop {
            match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(DataLock(lock)),
                Err(Errno::WOULDBLOCK) if Instant::now() < end => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    let text = format!("another agent uses {}", data_dir.display());
                    return Err(error).context(text);
                }
            }
        }
    }
}

impl Drop for DataLock {
    fn drop(&mut self) {
        // Fails only where there is no lock.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_is_free_once_dropped_whoever_has_a_copy() {
        let directory = tempfile::tempdir().unwrap();
        let first = DataLock::take(directory.path()).await.unwrap();
        let copy = first.0.try_clone().unwrap();
        let refused = DataLock::take(directory.path()).await.unwrap_err().to_string();
        assert!(refused.starts_with("another agent uses "), "{refused}");
        drop(first);
        DataLock::take(directory.path()).await.unwrap();
        drop(copy);
    }
}
