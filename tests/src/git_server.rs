//! A git server of one's own on loopback (`git daemon`), until dropped, and repositories whose commits are always the
//! same ones.

use crate::bins;
use crate::free_port::serve;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// When every commit was made.
pub const COMMITTED: i64 = 1_000_000_000;

/// One that serves every repository beneath a directory.
#[derive(Debug)]
pub struct GitServer {
    process: Child,
    port: u16,
    directory: PathBuf,
}

impl GitServer {
    /// Serves what will be in `directory`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("mkdir");
        let (process, port) = serve("a git server", |port| {
            let mut command = Command::new("git");
            command.args(["daemon", "--reuseaddr", "--export-all", "--listen=127.0.0.1"]);
            command.arg(format!("--port={port}")).arg(format!("--base-path={}", directory.display()));
            command.arg(directory).process_group(0);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        });
        Self { process, port, directory: directory.to_owned() }
    }

    /// `git://127.0.0.1:PORT/PATH`
    pub fn url(&self, path: &str) -> String {
        format!("git://127.0.0.1:{}/{path}", self.port)
    }

    /// Runs git in a repository of the directory, which is made where there is none. Answers what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn git(&self, repository: &str, arguments: &[&str]) -> String {
        let path = self.directory.join(repository);
        if !path.exists() {
            std::fs::create_dir_all(&path).expect("mkdir");
            self.git(repository, &["init", "--quiet", "--initial-branch=main"]);
        }
        let mut git = Command::new("git");
        git.arg("-C").arg(&path).args(["-c", "protocol.file.allow=always"]).args(arguments);
        git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("HOME", "/dev/null");
        for who in ["AUTHOR", "COMMITTER"] {
            git.env(format!("GIT_{who}_NAME"), "A").env(format!("GIT_{who}_EMAIL"), "a@b");
            git.env(format!("GIT_{who}_DATE"), format!("{COMMITTED} +0000"));
        }
        bins::run(&mut git).ok().trim().to_owned()
    }

    /// Writes files and commits everything. Answers the commit's id.
    ///
    /// # Panics
    /// When it fails.
    pub fn commit(&self, repository: &str, files: &[(&str, &str)]) -> String {
        self.git(repository, &["status"]);
        for (name, content) in files {
            let path = self.directory.join(repository).join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
            std::fs::write(path, content).expect("write");
        }
        self.git(repository, &["add", "--all"]);
        self.git(repository, &["commit", "--quiet", "-m", "more"]);
        self.git(repository, &["rev-parse", "HEAD"])
    }

    /// A path in a repository.
    pub fn path(&self, path: &str) -> PathBuf {
        self.directory.join(path)
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        // It has a child for each client, and one of its own.
        let group = format!("-{}", self.process.id());
        let _gone = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _gone = self.process.wait();
    }
}
