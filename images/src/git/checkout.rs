//! The files of one commit in a directory of their own.
//!
//! What must hold: what lies there is the commit that was asked for, as old as the commit, with the modes that git knows (an
//! executable or not) whatever the umask is: the same commit gives the same files. A directory of the repository is one
//! by itself, and not by a link out of it.

use crate::error::{Error, ErrorKind, Result};
use crate::git::command::Git;
use crate::git::commit::{Commit, verify};
use crate::layer::limits::Limits;
use rustix::fs::{AtFlags, CWD, Mode, Timespec, Timestamps, chmod, utimensat};
use std::fs::{DirEntry, FileType};
use std::path::{Path, PathBuf};

const OWN: &str = ".git";

/// Fetches a commit into the directory of `git`, which is empty. Answers where the files are that were asked for.
pub(crate) async fn checkout(git: &Git<'_>, commit: &Commit, keep: bool) -> Result<PathBuf> {
    // A directory of the repository is not one by itself.
    let keep = keep && git.reference.subdir.is_empty();
    let format: &[&str] = if commit.id.len() == 64 { &["--object-format=sha256"] } else { &[] };
    git.run(&[&["init", "--quiet"], format].concat()).await?;
    // What submodules are relative to.
    git.run(&["remote", "add", "origin", &git.reference.shown()]).await?;
    fetch(git, commit).await?;
    let peeled = format!("{}^{{commit}}", commit.object);
    let id = git.run(&["rev-parse", "--verify", "--quiet", &peeled]).await?.trim().to_owned();
    verify(&Commit { id: id.clone(), ..commit.clone() }, git.reference.checksum.as_deref())?;
    git.run(&["checkout", "--quiet", "--detach", &id, "--"]).await?;
    submodules(git).await?;
    let time = git.run(&["log", "-1", "--format=%ct", &id]).await?;
    let time = time.trim().parse().map_err(|_| Error::invalid(format!("{id}: invalid time {time:?}")))?;
    if keep {
        settle(git).await?;
    }
    let mut look = Look { time, keep, left: Limits::default().bytes };
    look.directory(git.directory)?;
    subdirectory(git.directory, &git.reference.subdir)
}

/// The commit alone where the server gives that, else as much as it takes.
async fn fetch(git: &Git<'_>, commit: &Commit) -> Result<()> {
    let remote = git.reference.shown();
    let named = format!("+{0}:{0}", commit.name);
    let wanted = if commit.name.starts_with("refs/") { named.as_str() } else { commit.name.as_str() };
    let all = ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"];
    let fetch = ["fetch", "--quiet", "--update-head-ok"];
    let attempts: [(&[&str], &[&str]); 4] = [
        (&["--depth=1", "--no-tags"], &[wanted]),
        // Files behind a web server have no depth.
        (&["--no-tags"], &[wanted]),
        // The name may stand for another commit by now.
        (&["--depth=1", "--no-tags"], &[commit.object.as_str()]),
        // A server may give its names only.
        (&[], &all),
    ];
    let mut first = None;
    for (options, what) in attempts {
        let arguments = [&fetch, options, &["--", &remote], what].concat();
        match git.run(&arguments).await {
            Ok(_) if git.run(&["cat-file", "-e", &commit.object]).await.is_ok() => return Ok(()),
            Ok(_) => {}
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.unwrap_or_else(|| {
        let message = format!("commit {} can not be found in the repository", commit.object);
        Error::new(ErrorKind::NotFound, message)
    }))
}

async fn submodules(git: &Git<'_>) -> Result<()> {
    if !git.reference.submodules || git.directory.join(".gitmodules").symlink_metadata().is_err() {
        return Ok(());
    }
    let update = ["submodule", "--quiet", "update", "--init", "--recursive"];
    match git.run(&[&update[..], &["--depth=1"]].concat()).await {
        Ok(_) => Ok(()),
        Err(_) => {
            git.run(&update).await.map(drop).map_err(|error| error.context("failed to update submodules"))
        }
    }
}

/// `.git` stays, without when it was made.
async fn settle(git: &Git<'_>) -> Result<()> {
    git.run(&["reflog", "expire", "--all", "--expire=now"]).await?;
    match std::fs::remove_file(git.directory.join(OWN).join("FETCH_HEAD")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::io("remove FETCH_HEAD", error))
        }
        _ => Ok(()),
    }
}

/// How files are to look, and how many bytes they may still have.
struct Look {
    time: i64,
    keep: bool,
    left: u64,
}

impl Look {
    fn directory(&mut self, path: &Path) -> Result<()> {
        let failed = |e| Error::path("read", path, e);
        for entry in std::fs::read_dir(path).map_err(failed)? {
            self.entry(&entry.map_err(failed)?)?;
        }
        mode(path, 0o755)?;
        self.date(path)
    }

    fn entry(&mut self, entry: &DirEntry) -> Result<()> {
        let (path, kind) =
            (entry.path(), entry.file_type().map_err(|e| Error::path("stat", &entry.path(), e))?);
        if !self.keep && entry.file_name() == OWN {
            return remove(&path, kind);
        }
        if kind.is_dir() {
            return self.directory(&path);
        }
        let stat = entry.metadata().map_err(|e| Error::path("stat", &path, e))?;
        self.left = self.left.checked_sub(stat.len()).ok_or_else(|| {
            Error::invalid(format!("the repository is larger than {} bytes", Limits::default().bytes))
        })?;
        if kind.is_file() {
            let executable = std::os::unix::fs::PermissionsExt::mode(&stat.permissions()) & 0o100 != 0;
            mode(&path, if executable { 0o755 } else { 0o644 })?;
        }
        self.date(&path)
    }

    fn date(&self, path: &Path) -> Result<()> {
        let time = Timespec { tv_sec: self.time, tv_nsec: 0 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| Error::path("utimensat", path, e))
    }
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    chmod(path, Mode::from_raw_mode(mode)).map_err(|e| Error::path("chmod", path, e))
}

/// Of a submodule it is a file.
fn remove(path: &Path, kind: FileType) -> Result<()> {
    let removed = if kind.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    removed.map_err(|e| Error::path("remove", path, e))
}

fn subdirectory(root: &Path, subdir: &str) -> Result<PathBuf> {
    let mut path = root.to_owned();
    for part in subdir.split('/').filter(|part| !part.is_empty()) {
        path.push(part);
        match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Error::invalid(format!("invalid subdir {subdir}: not a directory"))),
            Err(error) => return Err(Error::io(format!("invalid subdir {subdir}"), error)),
        }
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    #[test]
    fn files_look_the_same_everywhere() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        std::fs::create_dir_all(at("d/.git")).unwrap();
        for (name, mode) in [("plain", 0o600), ("d/tool", 0o700), ("d/.git/config", 0o600)] {
            std::fs::write(at(name), "x").unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        }
        std::fs::set_permissions(at("d"), std::fs::Permissions::from_mode(0o700)).unwrap();
        symlink("/etc/passwd", at("link")).unwrap();
        let before = std::fs::metadata("/etc/passwd").unwrap().mtime();
        Look { time: 1_000_000, keep: false, left: 100 }.directory(root.path()).unwrap();
        for (name, mode) in [("plain", 0o644), ("d/tool", 0o755), ("d", 0o755), ("link", 0o777)] {
            let found = std::fs::symlink_metadata(at(name)).unwrap();
            assert_eq!((found.mode() & 0o777, found.mtime()), (mode, 1_000_000), "{name}");
        }
        assert!(!at("d/.git").exists());
        assert_eq!(std::fs::metadata("/etc/passwd").unwrap().mtime(), before);
        let error = Look { time: 0, keep: true, left: 1 }.directory(root.path()).unwrap_err();
        assert!(error.to_string().contains("the repository is larger than"));
    }

    #[test]
    fn directories_are_no_links() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        symlink("/etc", root.path().join("link")).unwrap();
        assert_eq!(subdirectory(root.path(), "").unwrap(), root.path());
        assert_eq!(subdirectory(root.path(), "a/b").unwrap(), root.path().join("a/b"));
        for wrong in ["link", "file", "a/none", "link/ssh"] {
            let error = subdirectory(root.path(), wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("invalid subdir {wrong}")), "{error}");
        }
    }
}
