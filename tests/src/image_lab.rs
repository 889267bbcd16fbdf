//! A store with a busybox image `base:1` made from this machine's static busybox, and a directory for contexts.
//!
//! Its directories, bridge and table are nobody else's; what is run in it must be removed by whoever ran it.

use crate::bins::{self, Said};
use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Programs of the base image.
const APPLETS: [&str; 20] = [
    "sh", "ls", "cat", "echo", "cp", "mkdir", "true", "false", "id", "env", "rm", "touch", "stat", "test",
    "ln", "pwd", "chmod", "readlink", "sleep", "hostname",
];

/// One store and everything around it.
#[derive(Debug)]
pub struct ImageLab {
    directory: tempfile::TempDir,
}

impl ImageLab {
    /// Makes the base image.
    ///
    /// # Panics
    /// When anything fails.
    pub fn new() -> Self {
        let lab =
            Self { directory: tempfile::Builder::new().prefix("knarr-lab-").tempdir().expect("a directory") };
        let base = lab.path("base");
        for name in ["bin", "etc", "tmp", "root"] {
            std::fs::create_dir_all(base.join(name)).expect("mkdir");
        }
        std::fs::copy("/bin/busybox", base.join("bin/busybox")).expect("a static busybox");
        for name in APPLETS {
            symlink("busybox", base.join("bin").join(name)).expect("symlink");
        }
        let passwd = "root:x:0:0::/root:/bin/sh\nwww:x:33:44::/srv:/bin/sh\n";
        std::fs::write(base.join("etc/passwd"), passwd).expect("passwd");
        std::fs::write(base.join("etc/group"), "root:x:0:\nwww:x:44:\naudio:x:29:\n").expect("group");
        std::fs::set_permissions(&base, PermissionsExt::from_mode(0o755)).expect("chmod");
        std::fs::set_permissions(base.join("tmp"), PermissionsExt::from_mode(0o1777)).expect("chmod");
        std::fs::create_dir(lab.path("context")).expect("mkdir");
        lab.write_config();
        lab.knarr(&["image", "import", &base.to_string_lossy(), "base:1"]).ok();
        lab
    }

    fn write_config(&self) {
        let (process, lab) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let number = process % 1000 + 1000 * lab;
        // Thirty addresses for each: two bridges with one range would take each other's packets.
        let first = (process % 128 * 16 + lab % 16) * 32;
        // `down` clears away what is below the root of pods, of whichever node it is.
        let cidr = format!("10.146.{}.{}/27", first / 256, first % 256);
        let config = format!(
            "[engine]\nmonitor_cgroup = \"/knarr-lab-{number}\"\n\
             [kubelet]\ncgroup_root = \"/knarr-lab-pods-{number}\"\n\
             [run_network]\nbridge = \"kni{number}\"\ntable = \"kni{number}\"\n\
             pod_cidr = \"{cidr}\"\ncluster_cidr = \"{cidr}\"\n"
        );
        std::fs::write(self.path("config.toml"), config).expect("config.toml");
    }

    /// A path in the lab.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs `knarr` on this lab's store.
    pub fn knarr(&self, arguments: &[&str]) -> Said {
        bins::run(&mut self.command(arguments))
    }

    /// The same, for a caller who has more to set.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(bins::find("knarr"));
        command.arg("--data-dir").arg(self.path("data")).arg("--state-dir").arg(self.path("state"));
        command.arg("--config").arg(self.path("config.toml")).args(arguments);
        command.current_dir(self.directory.path());
        command
    }

    /// An image as umoci unpacks it: its root, and its config as skopeo reads it.
    ///
    /// # Panics
    /// When either of them cannot.
    pub fn unpack(&self, image: &str) -> (PathBuf, serde_json::Value) {
        let path = |name: &str| self.path(name).to_string_lossy().into_owned();
        drop(std::fs::remove_dir_all(self.path("bundle")));
        self.knarr(&["image", "save", "--format", "oci", "-o", "out.tar", image]).ok();
        let (archive, layout) = (format!("oci-archive:{}", path("out.tar")), format!("{}:1", path("layout")));
        bins::run(Command::new("skopeo").args(["copy", "-q", &archive, &format!("oci:{layout}")])).ok();
        bins::run(Command::new("umoci").args(["unpack", "--image", &layout, &path("bundle")])).ok();
        let config = bins::run(Command::new("skopeo").args(["inspect", "--config", &archive])).ok();
        (self.path("bundle/rootfs"), serde_json::from_str(&config).expect("a config"))
    }

    /// Writes a file of the context.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, content: &str) -> &Self {
        let path = self.path("context").join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("mkdir");
        std::fs::write(path, content).expect("a file of the context");
        self
    }
}

/// Every file beneath a directory but the base's programs: path, mode, owner, size or target.
///
/// # Panics
/// When it cannot be looked at.
pub fn listing(root: &Path) -> BTreeSet<String> {
    let mut find = Command::new("find");
    find.arg(root).args(["-mindepth", "1", "-path", "*/bin/*", "-prune", "-o"]);
    find.args(["-type", "d", "-printf", "%P %M %U:%G\\n", "-o", "-printf", "%P %M %U:%G %s %l\\n"]);
    bins::run(&mut find).ok().lines().map(str::to_owned).collect()
}

impl Default for ImageLab {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ImageLab {
    fn drop(&mut self) {
        let said = self.knarr(&["down"]);
        assert!(said.code == 0 || std::thread::panicking(), "knarr down: {said:?}");
    }
}
