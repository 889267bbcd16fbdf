//! A registry of one's own on loopback (Debian's `docker-registry`), until dropped.

use crate::eventually::eventually;
use crate::free_port::free_port;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// For a start on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// `user` with the password `secret`, as htpasswd writes it.
const HTPASSWD: &str = "user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// One that serves.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    /// Where, on 127.0.0.1.
    pub port: u16,
}

impl Registry {
    /// Everybody may read and write.
    ///
    /// # Panics
    /// When it does not start.
    pub fn open(directory: &Path) -> Self {
        Self::start(directory, "")
    }

    /// Only `user` with the password `secret`.
    ///
    /// # Panics
    /// When it does not start.
    pub fn with_login(directory: &Path) -> Self {
        let auth = format!("auth: {{htpasswd: {{realm: r, path: {}/htpasswd}}}}\n", directory.display());
        Self::start(directory, &auth)
    }

    fn start(directory: &Path, auth: &str) -> Self {
        std::fs::create_dir_all(directory).expect("mkdir");
        std::fs::write(directory.join("htpasswd"), HTPASSWD).expect("htpasswd");
        // A port that was free a moment ago may be taken by now: then it ends, and another one is tried.
        eventually("a registry", PATIENCE, || {
            let mut registry = Self::spawn(directory, auth, free_port());
            eventually("the registry listens or ends", PATIENCE, || {
                let ended = registry.process.try_wait().expect("wait").is_some();
                let listens = TcpStream::connect(("127.0.0.1", registry.port)).is_ok();
                if ended || listens { Ok(()) } else { Err("neither".to_owned()) }
            });
            let ended = registry.process.try_wait().expect("wait");
            ended.map_or(Ok(registry), |status| Err(format!("it ended: {status}")))
        })
    }

    fn spawn(directory: &Path, auth: &str, port: u16) -> Self {
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}/data}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n{auth}",
            directory.display()
        );
        let file = directory.join("config.yml");
        std::fs::write(&file, config).expect("config.yml");
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: command.spawn().expect("docker-registry"), port }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}
