//! Work inside another network namespace, on a thread of its own.
//!
//! `setns` moves a single thread. A pooled thread that could not be moved back would poison everything that runs
//! on it later, so the thread is made for the work and ends with it.

use anyhow::{Context, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;

/// Runs `work` in the network namespace that `netns` refers to. Blocks.
pub(crate) fn inside<T: Send>(
    netns: &File,
    work: impl FnOnce() -> anyhow::Result<T> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))
                .context("setns(netns, CLONE_NEWNET)")?;
            work()
        });
        thread
            .context("start a thread")?
            .join()
            .map_err(|_| anyhow!("the thread in the pod's namespace panicked"))?
    })
}
