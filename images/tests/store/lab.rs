//! What the tests stand on: a registry of their own, small image trees, and deadlines instead of sleeps.

use crate::eventually::eventually;
use knarr_images::{Image, ImageStore, Mount, Pull};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// A docker-registry that ends with the test.
pub(crate) struct Registry {
    child: Child,
    pub(crate) address: String,
    pub(crate) dir: tempfile::TempDir,
}

impl Registry {
    pub(crate) fn start() -> Self {
        Self::with(tempfile::tempdir().unwrap(), "")
    }

    /// With more lines in the `http` part of its configuration.
    pub(crate) fn with(dir: tempfile::TempDir, http: &str) -> Self {
        // Others may take a port while it starts: then it ends, and another one is tried.
        let started = (0..9).find_map(|_| Self::spawn(dir.path(), http));
        let (child, address) = started.expect("a registry that stays");
        Self { child, address, dir }
    }

    fn spawn(dir: &Path, http: &str) -> Option<(Child, String)> {
        let address = format!("127.0.0.1:{}", free_port());
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp:\n  addr: '{address}'\n{http}",
            dir.join("data").display()
        );
        std::fs::write(dir.join("config.yml"), config).unwrap();
        let log = std::fs::File::create(dir.join("log")).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .expect("docker-registry (Debian package of this name) is needed");
        let mut ended = false;
        eventually("the registry listens or ends", || {
            ended = child.try_wait().unwrap().is_some();
            ended || TcpStream::connect(&address).is_ok()
        });
        (!ended).then_some((child, address))
    }

    /// `address/name`.
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Requests of this kind that were answered so far, from the registry's own log.
    pub(crate) fn requests(&self, method: &str, part: &str) -> usize {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        let matches = |line: &&str| line.contains(&format!("\"{method} ")) && line.contains(part);
        log.lines().filter(matches).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A port where nobody listens and that the kernel gives to nobody by itself. It is not bound to find out: a child that
/// another test starts at that moment would have the socket a while longer.
fn free_port() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = || (std::process::id() * 64 + NEXT.fetch_add(1, Ordering::Relaxed)) % 16_000 + 12_000;
    let free = |port: &u32| TcpStream::connect(format!("127.0.0.1:{port}")).is_err();
    std::iter::repeat_with(next).take(1000).find(free).unwrap()
}

/// A store in a directory that goes with it.
pub(crate) struct Store {
    pub(crate) store: ImageStore,
    pub(crate) dir: tempfile::TempDir,
}

impl Store {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&dir.path().join("images")).unwrap();
        Self { store, dir }
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("images")
    }

    pub(crate) async fn pull(&self, name: &str) -> Image {
        self.store.pull(Pull { reference: name.to_owned(), ..Pull::default() }).await.unwrap()
    }

    /// Mounts a snapshot for the time of one look at it.
    pub(crate) fn with_mount<T>(&self, mounts: &[Mount], look: impl FnOnce(&Path) -> T) -> T {
        let target = tempfile::tempdir().unwrap();
        for mount in mounts {
            mount.mount_at(target.path()).unwrap();
        }
        let seen = look(target.path());
        Mount::unmount(target.path()).unwrap();
        seen
    }

    /// Names in one of the store's directories.
    pub(crate) fn names(&self, part: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root().join(part)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Mounts of layers would keep the directory from being removed.
        self.store.unmount_layers().unwrap();
    }
}

/// Says that this machine cannot run a test: a silent return would look like a pass.
pub(crate) fn skip(test: &str, reason: &str) {
    if let Some(file) = std::env::var_os("KNARR_SKIPS") {
        use std::io::Write;
        let mut record = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        // In one piece: others write to the same file.
        record.write_all(format!("{test}: {reason}\n").as_bytes()).unwrap();
    }
}

/// A tree with the static busybox of this machine.
pub(crate) fn busybox_tree() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["bin", "etc", "tmp"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", dir.path().join("bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", dir.path().join("bin/sh")).unwrap();
    std::fs::write(dir.path().join("etc/motd"), "hello from knarr\n").unwrap();
    std::fs::set_permissions(dir.path().join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

/// Writes a script that is going to be executed, by a process of its own: what this one has open for writing, children that
/// other tests start meanwhile have too until they begin their programs, and so long nobody can execute the file.
pub(crate) fn write_program(to: &Path, text: &str) {
    let script = "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"";
    run("sh", &["-c", script, "sh", text, to.to_str().unwrap()]);
}

/// Runs a program to success and answers what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
