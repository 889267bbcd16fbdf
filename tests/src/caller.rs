//! An engine that drives an OCI runtime (podman, containerd, Docker): the same shell script once with runc and once with
//! ours, each in its own mount namespace and with its own storage. What they print must be equal.

use crate::bins::{self, Said};
use crate::oracle;
use crate::skip::skip;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What differs between two runs without being a difference: ids, times, paths, how script(1) shows the end of its input, and words that runc says since 1.2.
const NEUTRAL: &str = r"
    s/\r//g
    s/\^[@D]|\x00|\x04//g
    s/error during container init: //g
    s/OCI runtime create failed: (runc|tested) create/create/g
    s/[0-9a-f]{64}/ID/g
    s/[0-9a-f]{12}/SHORT/g
    s/20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+Z?/TIME/g
";

/// `P` is podman with storage of its own, `OPTIONS` what makes a container of its need nothing of this machine.
pub const PODMAN: &str = r#"
export CONTAINERS_CONF=$DIR/containers.conf
cat >$CONTAINERS_CONF <<CONF
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
CONF
GLOBAL="--root $DIR/root --runroot $DIR/run --tmpdir $DIR/tmp --storage-driver vfs --runtime $RUNTIME"
P() { podman $GLOBAL "$@"; }
OPTIONS="--network none --cgroup-parent $CGROUP"
"#;

/// How often a script that said something else is run again with both runtimes.
const ROUNDS: usize = 3;

/// Expects the same words from the engine with runc and with ours.
///
/// Engines race with themselves: podman loses the last words of a terminal now and then, whatever the runtime. So what
/// differs is tried again: a difference between the runtimes comes back every time.
///
/// # Panics
/// When they differ in every round, or a script does not come to its end.
pub fn same(setup: &str, script: &str, end: &str) {
    let said = |ours: bool| Caller::new(ours).run(setup, script, end);
    for round in 1..=ROUNDS {
        let (expected, got) = (said(false), said(true));
        if round < ROUNDS && got.out != expected.out {
            // Not silently: the summary of all tests names it.
            let said = format!("round {round} differed, tried again: {:?}, runc {:?}", got.out, expected.out);
            skip("a caller's script", &said.replace('\n', " "));
            continue;
        }
        assert_eq!(got.out, expected.out, "ours (left) and runc (right) differ");
        assert!(expected.out.contains("end of the script"), "{expected:?}");
        return;
    }
}

/// A place for one engine with one runtime.
#[derive(Debug)]
pub struct Caller {
    directory: tempfile::TempDir,
    /// The runtime; its name is `runc`, which is how engines tell what it can do.
    runtime: PathBuf,
    /// A cgroup of its own, below which the engine is told to stay.
    cgroup: String,
}

impl Caller {
    /// With the reference, or with ours.
    ///
    /// # Panics
    /// When either, or a static busybox, is missing.
    pub fn new(ours: bool) -> Self {
        let directory =
            tempfile::Builder::new().prefix("knarr-caller-").tempdir_in("/tmp").expect("a directory");
        let runtime = directory.path().join("runc");
        let target = if ours { bins::find("knarr-runtime") } else { oracle::runc() };
        symlink(target, &runtime).expect("a link");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let cgroup = format!("/knarr-tests/caller-{}-{number}", std::process::id());
        let caller = Caller { directory, runtime, cgroup };
        caller.make_root();
        caller
    }

    /// A root filesystem of busybox with all its applets, as a directory and as an archive.
    fn make_root(&self) {
        let root = self.path().join("rootfs");
        for name in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
            std::fs::create_dir_all(root.join(name)).expect("a directory");
        }
        bins::copy_program(Path::new("/bin/busybox"), &root.join("bin/busybox"));
        let mut list = Command::new("/bin/busybox");
        for applet in bins::run(list.arg("--list")).ok().lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).expect("a link");
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").expect("a file");
        std::fs::set_permissions(self.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut tar = Command::new("tar");
        bins::run(tar.arg("-C").arg(&root).arg("-cf").arg(self.path().join("rootfs.tar")).arg(".")).ok();
    }

    /// Everything of this engine.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into its directory.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).expect("a file");
    }

    /// Runs `setup`, `script` and `end` by one shell, in a mount namespace with a `/dev/shm` of its own, with DIR,
    /// RUNTIME and CGROUP set; `end` runs whatever happens before it, and says nothing.
    ///
    /// # Panics
    /// When the script cannot be written.
    pub fn run(&self, setup: &str, script: &str, end: &str) -> Said {
        let whole = format!(
            "mount -t tmpfs shm /dev/shm\nexport DIR={dir} RUNTIME={runtime} CGROUP={cgroup}\ncd \"$DIR\"\n\
             finish() {{ {{ {end}\n}} >/dev/null 2>&1; }}\ntrap finish EXIT\n{setup}\n{script}\n",
            dir = self.path().display(),
            runtime = self.runtime.display(),
            cgroup = self.cgroup,
        );
        self.write("script", &whole);
        self.write("neutral", NEUTRAL);
        let dir = self.path().display();
        let line = format!(
            "timeout 300 unshare -m --propagation private bash {dir}/script 2>&1 | sed -E -f {dir}/neutral -e 's#{dir}#DIR#g' -e 's#{}#CGROUP#g'",
            self.cgroup
        );
        bins::run_within(Command::new("bash").arg("-c").arg(line), std::time::Duration::from_secs(330))
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        let tops = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
        for top in tops.map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]) {
            remove_cgroups(&top.join(self.cgroup.trim_start_matches('/')));
        }
    }
}

/// Engines forget cgroups (podman those of its pods on a hybrid host). Only what is empty can be removed, so nothing that
/// is in use is.
fn remove_cgroups(top: &Path) {
    let below = std::fs::read_dir(top).into_iter().flatten().flatten();
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_cgroups(&entry.path()));
    drop(std::fs::remove_dir(top));
}
