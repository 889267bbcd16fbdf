//! A web server of one's own on loopback (busybox's), until dropped. It tells versions of files apart by time and size.

use crate::free_port::serve;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

/// One that serves a directory.
#[derive(Debug)]
pub struct WebServer {
    process: Child,
    port: u16,
    directory: PathBuf,
    log: PathBuf,
}

impl WebServer {
    /// Serves what will be in `directory`, and writes a log beside it.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(directory: &Path) -> Self {
        std::fs::create_dir_all(directory).expect("mkdir");
        let log = directory.with_extension("log");
        let (process, port) = serve("a web server", |port| {
            let mut command = Command::new("busybox");
            command.args(["httpd", "-f", "-vv", "-p", &format!("127.0.0.1:{port}"), "-h"]).arg(directory);
            command.stdout(Stdio::null()).stderr(File::create(&log).expect("a log"));
            command
        });
        Self { process, port, directory: directory.to_owned(), log }
    }

    /// `http://127.0.0.1:PORT/PATH`
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// Puts a file there, last changed so many seconds after 1970.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, path: &str, content: &[u8], modified: u64) -> &Self {
        let path = self.directory.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(&path, content).expect("write");
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(modified);
        File::open(&path).and_then(|file| file.set_modified(time)).expect("utimens");
        self
    }

    /// How often a path was asked for.
    ///
    /// # Panics
    /// When the log cannot be read.
    pub fn requests(&self, path: &str) -> usize {
        let log = std::fs::read_to_string(&self.log).expect("a log");
        log.lines().filter(|line| line.ends_with(&format!("url:/{path}"))).count()
    }
}

impl Drop for WebServer {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}
