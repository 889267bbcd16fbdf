//! What attacks aim at: files of the host that must be afterwards what they were before.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A directory of the host that every attack aims at.
pub(super) struct Victim(tempfile::TempDir);

impl Victim {
    pub(super) fn new() -> Self {
        let victim = Self(tempfile::tempdir().unwrap());
        std::fs::write(victim.0.path().join("secret"), "secret").unwrap();
        std::fs::set_permissions(victim.0.path().join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::create_dir(victim.0.path().join("d")).unwrap();
        std::fs::set_permissions(victim.0.path().join("d"), PermissionsExt::from_mode(0o700)).unwrap();
        victim
    }

    pub(super) fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    pub(super) fn climbing(&self, name: &str) -> String {
        "../".repeat(12) + self.path(name).trim_start_matches('/')
    }

    /// Where a container finds what was meant for the host.
    pub(super) fn inside(&self, root: &Path, name: &str) -> PathBuf {
        root.join(self.path(name).trim_start_matches('/'))
    }

    pub(super) fn untouched(&self) {
        let secret = self.0.path().join("secret");
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), "secret");
        let meta = std::fs::metadata(&secret).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.nlink()), (0o600, 0, 1));
        assert_eq!(std::fs::metadata(self.0.path().join("d")).unwrap().mode() & 0o7777, 0o700);
        assert_eq!(std::fs::read_dir(self.0.path()).unwrap().count(), 2, "nothing was added");
        assert_eq!(std::fs::read_dir(self.0.path().join("d")).unwrap().count(), 0);
    }
}
