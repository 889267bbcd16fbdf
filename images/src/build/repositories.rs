//! The git repositories that a build adds: which commit a name stands for is asked once, so all steps of one build
//! see the same; what a server is shown of us are secrets and agents that the caller lent.

use crate::build::job::{Job, locked};
use crate::error::{Error, Result};
use crate::git::{Commit, Git, GitAccess, GitReference, checkout, failed, resolve};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// A repository of an ADD.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) reference: GitReference,
    /// `--keep-git-dir`
    pub(crate) keep: bool,
    pub(crate) access: GitAccess,
}

/// Empty until the server was asked; who asks it holds it.
type Slot = Arc<Mutex<Option<Commit>>>;

/// Commits by remote and name.
#[derive(Debug, Default)]
pub(crate) struct Repositories(Mutex<BTreeMap<(String, String), Slot>>);

impl Repositories {
    /// The commit that this build means.
    pub(crate) fn commit(&self, job: &Job<'_>, repository: &Repository) -> Result<Commit> {
        let reference = &repository.reference;
        let key = (reference.remote.clone(), format!("{reference:?}"));
        let slot = locked(&self.0).entry(key).or_default().clone();
        let mut slot = locked(&slot);
        if let Some(commit) = &*slot {
            return Ok(commit.clone());
        }
        let git = Git { reference, access: &repository.access, directory: Path::new("/") };
        let commit = job.web.wait(job, resolve(&git)).map_err(|error| failed(reference, error))?;
        Ok(slot.insert(commit).clone())
    }

    /// Its files, in an empty directory. Answers where in it.
    pub(crate) fn checkout(&self, job: &Job<'_>, repository: &Repository, into: &Path) -> Result<PathBuf> {
        let commit = self.commit(job, repository)?;
        let reference = &repository.reference;
        let git = Git { reference, access: &repository.access, directory: into };
        let files = job.web.wait(job, checkout(&git, &commit, repository.keep));
        files.map_err(|error| failed(reference, error))
    }

    /// All that decides what the files are, wherever the repository is.
    pub(crate) fn words(&self, job: &Job<'_>, repository: &Repository) -> Result<String> {
        let (commit, reference) = (self.commit(job, repository)?, &repository.reference);
        let id = if repository.keep { format!("{commit:?} {}", reference.shown()) } else { commit.id };
        Ok(format!("git {id} {:?} {} {}", reference.subdir, reference.submodules, repository.keep))
    }
}

/// What an ADD says of a repository.
pub(crate) fn repository(
    mut reference: GitReference,
    (keep, checksum): (Option<bool>, Option<&str>),
    secret: &dyn Fn(&str) -> Option<Vec<u8>>,
    agent: Option<&PathBuf>,
) -> Result<Repository> {
    if let (Some(one), Some(other)) = (keep, reference.keep_git_dir)
        && one != other
    {
        return Err(Error::invalid("inconsistent keep-git-dir configuration"));
    }
    if let Some(checksum) = checksum {
        let known = reference.checksum.get_or_insert_with(|| checksum.to_owned());
        if known != checksum {
            return Err(Error::invalid(format!("checksum mismatch {checksum:?} != {known:?}")));
        }
    }
    let keep = keep.or(reference.keep_git_dir).unwrap_or(false);
    Ok(Repository { access: GitAccess::lent(&reference, secret, agent), keep, reference })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(text: &str) -> GitReference {
        GitReference::parse(text).unwrap().unwrap()
    }

    #[test]
    fn what_is_said_twice_is_the_same() {
        let none = |_: &str| None;
        let said = |url: &str, keep, sum| {
            repository(reference(url), (keep, sum), &none, None).map_err(|error| error.to_string())
        };
        assert!(said("https://h/a.git", Some(true), None).unwrap().keep);
        assert!(said("https://h/a.git?keep-git-dir", None, None).unwrap().keep);
        assert!(!said("https://h/a.git", None, None).unwrap().keep);
        let wrong = said("https://h/a.git?keep-git-dir=false", Some(true), None).unwrap_err();
        assert_eq!(wrong, "inconsistent keep-git-dir configuration");
        let wrong = said("https://h/a.git?checksum=ab", None, Some("cd")).unwrap_err();
        assert_eq!(wrong, "checksum mismatch \"cd\" != \"ab\"");
        let found = said("https://h/a.git", None, Some("cd")).unwrap();
        assert_eq!(found.reference.checksum.as_deref(), Some("cd"));
    }
}
