//! Git repositories as sources of a build: of ADD, and as contexts.
//!
//! `reference` understands what names one, `commit` asks the server which commit that is now, `checkout` fetches that
//! commit's files, with the proofs of `access`; `command` runs the program `git` for both, since what it speaks is no
//! protocol of ours.

mod access;
mod checkout;
mod command;
mod commit;
mod reference;

use crate::error::{Error, Result};
pub use access::GitAccess;
pub(crate) use checkout::checkout;
pub(crate) use command::Git;
pub(crate) use commit::{Commit, resolve};
pub use reference::GitReference;
pub(crate) use reference::is_hex;
use std::path::{Path, PathBuf};

/// Fetches a repository into an empty directory as a context. Answers where in it the files are that were asked for.
pub async fn git_context(
    reference: &GitReference,
    access: &GitAccess,
    keep: bool,
    into: &Path,
) -> Result<PathBuf> {
    let git = Git { reference, access, directory: into };
    let keep = keep || reference.keep_git_dir == Some(true);
    fetched(&git, keep).await.map_err(|error| failed(reference, error))
}

async fn fetched(git: &Git<'_>, keep: bool) -> Result<PathBuf> {
    let commit = resolve(git).await?;
    checkout(git, &commit, keep).await
}

/// Says of what.
pub(crate) fn failed(reference: &GitReference, error: Error) -> Error {
    error.context(format!("failed to fetch remote {}", reference.shown()))
}
