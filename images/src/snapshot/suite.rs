//! What every snapshotter must do, with every way to hold a layer.

use super::*;
use crate::layer::archive_builder::{ArchiveBuilder, Item};
use crate::layer::limits::Limits;
use crate::layer::unpack::unpack;
use crate::manifest::{Descriptor, LayerPlan};
use crate::options::LayerKind;
use crate::snapshot::copy::Copy;
use crate::snapshot::layers::Layers;
use crate::snapshot::overlay::Overlay;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// How layers are held, and whether that is where the kernel refuses overlays: on one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground {
    kind: LayerKind,
    refused: bool,
}

impl From<LayerKind> for Ground {
    fn from(kind: LayerKind) -> Self {
        Self { kind, refused: false }
    }
}

pub(super) struct Rig {
    pub(super) dir: tempfile::TempDir,
    root: PathBuf,
    layers: Layers,
    pub(super) snapshots: Box<dyn Snapshotter>,
}

impl Rig {
    pub(super) fn new(ground: impl Into<Ground>) -> Self {
        let Ground { kind, refused } = ground.into();
        let dir = tempfile::tempdir().unwrap();
        let mut root = dir.path().to_owned();
        if refused {
            root.push("above");
            for made in [&root, &dir.path().join("lower")] {
                std::fs::create_dir(made).unwrap();
            }
            overlay::fill(dir.path(), &[]).unwrap();
            overlay::writable(&[dir.path().join("lower")], dir.path(), &[]).mount_at(&root).unwrap();
        }
        let layers = Layers::open(&root, kind).unwrap();
        let snapshots: Box<dyn Snapshotter> = match kind {
            LayerKind::Copy => Box::new(Copy::open(&root, layers.clone()).unwrap()),
            _ => Box::new(Overlay::open(&root, layers.clone()).unwrap()),
        };
        Self { dir, root, layers, snapshots }
    }

    /// Stacks layers and answers the topmost.
    fn stack(&self, layers: &[Vec<Item>]) -> Digest {
        let mut parent: Option<Digest> = None;
        for items in layers {
            parent = Some(self.layer(parent, items).unwrap());
        }
        parent.unwrap()
    }

    /// Unpacks one layer on top of another.
    pub(super) fn layer(&self, parent: Option<Digest>, items: &[Item]) -> Result<Digest> {
        self.archive(parent, &ArchiveBuilder::of(items))
    }

    /// The same of an archive's bytes.
    pub(super) fn archive(&self, parent: Option<Digest>, archive: &[u8]) -> Result<Digest> {
        let diff_id = Digest::of(archive);
        let chain_id = Digest::of(format!("{parent:?}{diff_id}").as_bytes());
        let blob = Descriptor::of("", archive);
        let plan = LayerPlan { blob, diff_id, chain_id: chain_id.clone(), parent };
        if let Some(stage) = self.layers.stage(&plan)? {
            let unpacked = unpack(archive, Limits::default(), stage.sink()?.as_mut())?;
            stage.commit(unpacked)?;
        }
        Ok(chain_id)
    }

    pub(super) fn forget(&self, layer: &Digest) {
        self.layers.remove(layer).unwrap();
        crate::gc::empty_trash(&self.root.join("trash")).unwrap();
        std::fs::remove_file(self.root.join("trash.lock")).unwrap();
    }

    pub(super) fn mounted<T>(&self, mounts: &[Mount], look: impl FnOnce(&Path) -> T) -> T {
        let target = self.dir.path().join("target");
        std::fs::create_dir_all(&target).unwrap();
        mounts.iter().for_each(|mount| mount.mount_at(&target).unwrap());
        let seen = look(&target);
        Mount::unmount(&target).unwrap();
        seen
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for chain in self.layers.walk().unwrap() {
            self.layers.remove(&chain).unwrap();
        }
        Mount::unmount(&self.root).unwrap();
    }
}

fn base() -> Vec<Item> {
    vec![
        Item::dir("./", 0o751),
        Item::dir("etc", 0o700).owner(1, 2),
        Item::file("etc/passwd", "root").mode(0o640).owner(3, 4).mtime(1_234_567_890),
        Item::dir("gone", 0o755),
        Item::file("gone/f", "x"),
        Item::dir("opaque", 0o755),
        Item::file("opaque/below", "x"),
        Item::file("changed", "old"),
        Item::symlink("link", "etc/passwd"),
        Item::file("one", "shared"),
        Item::hardlink("two", "one"),
        Item::file("big", &"0123456789abcdef".repeat(20_000)),
        Item::file("noted", "x").xattr("user.note", b"value"),
        Item::fifo("fifo"),
        Item::char_device("null", 1, 3).mode(0o666),
    ]
}

fn change() -> Vec<Item> {
    vec![
        Item::file(".wh.gone", ""),
        Item::file("opaque/.wh..wh..opq", ""),
        Item::file("opaque/above", "x"),
        Item::file("changed", "new"),
        Item::file("etc/added", "x"),
        Item::sparse("holes", 1 << 16, &[(0, b"a"), ((1 << 16) - 1, b"z")]),
    ]
}

/// A merged tree looks as the two layers say.
fn merges(kind: impl Into<Ground>) {
    let rig = Rig::new(kind);
    let top = rig.stack(&[base(), change()]);
    let mounts = rig.snapshots.prepare("c", Some(&top), Access::ReadWrite).unwrap();
    rig.mounted(&mounts, |root| {
        let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
        let meta = |path: &str| std::fs::symlink_metadata(root.join(path)).unwrap();
        assert_eq!(text("changed"), "new");
        assert_eq!(text("link"), "root");
        assert!(!root.join("gone").exists());
        assert!(!root.join("opaque/below").exists() && root.join("opaque/above").exists());
        assert_eq!(meta("").permissions().mode() & 0o7777, 0o751, "the root looks as the image says");
        assert_eq!((meta("etc").mode() & 0o7777, meta("etc").uid(), meta("etc").gid()), (0o700, 1, 2));
        let passwd = meta("etc/passwd");
        assert_eq!(
            (passwd.mode() & 0o7777, passwd.uid(), passwd.gid(), passwd.mtime()),
            (0o640, 3, 4, 1_234_567_890)
        );
        assert_eq!((text("one"), text("two")), ("shared".into(), "shared".into()));
        assert_eq!((meta("one").ino(), meta("one").nlink()), (meta("two").ino(), 2));
        assert_eq!(text("big"), "0123456789abcdef".repeat(20_000));
        let holes = std::fs::read(root.join("holes")).unwrap();
        assert_eq!((holes.len(), holes[0], holes[100], holes[(1 << 16) - 1]), (1 << 16, b'a', 0, b'z'));
        assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
        let mut value = [0; 16];
        assert_eq!(rustix::fs::getxattr(root.join("noted"), "user.note", &mut value).unwrap(), 5);
        let mut names: Vec<_> = std::fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        let expected =
            ["big", "changed", "etc", "fifo", "holes", "link", "noted", "null", "one", "opaque", "two"];
        assert_eq!(names, expected);
    });
}

/// Writes stay in their snapshot, and removing it removes them.
fn isolates(kind: impl Into<Ground>) {
    let rig = Rig::new(kind);
    let top = rig.stack(&[base()]);
    let one = rig.snapshots.prepare("one", Some(&top), Access::ReadWrite).unwrap();
    let two = rig.snapshots.prepare("two", Some(&top), Access::ReadWrite).unwrap();
    rig.mounted(&one, |root| {
        std::fs::write(root.join("changed"), "by one").unwrap();
        std::fs::remove_file(root.join("noted")).unwrap();
        std::fs::write(root.join("etc/mine"), vec![1; 100_000]).unwrap();
    });
    rig.mounted(&two, |root| {
        assert_eq!(std::fs::read_to_string(root.join("changed")).unwrap(), "old");
        assert!(root.join("noted").exists() && !root.join("etc/mine").exists());
    });
    assert_eq!(rig.snapshots.mounts("one").unwrap(), one);
    assert_eq!(rig.snapshots.prepare("one", Some(&top), Access::ReadWrite).unwrap(), one, "the same again");
    rig.mounted(&one, |root| assert_eq!(std::fs::read_to_string(root.join("changed")).unwrap(), "by one"));
    let (bytes, inodes) = rig.snapshots.usage("one").unwrap();
    assert!(bytes >= 100_000 && inodes >= 3, "{bytes} bytes, {inodes} inodes");
    assert_eq!(
        rig.snapshots.walk().unwrap(),
        [("one".into(), Some(top.clone())), ("two".into(), Some(top.clone()))]
    );
    rig.snapshots.remove("one").unwrap();
    rig.snapshots.remove("one").unwrap();
    assert_eq!(rig.snapshots.mounts("one").unwrap_err().kind(), ErrorKind::NotFound);
    let again = rig.snapshots.prepare("one", Some(&top), Access::ReadWrite).unwrap();
    rig.mounted(&again, |root| assert_eq!(std::fs::read_to_string(root.join("changed")).unwrap(), "old"));
}

fn views_are_read_only(kind: impl Into<Ground>) {
    let rig = Rig::new(kind);
    for (key, layers) in [("one", vec![base()]), ("two", vec![base(), change()])] {
        let top = rig.stack(&layers);
        let mounts = rig.snapshots.prepare(key, Some(&top), Access::ReadOnly).unwrap();
        rig.mounted(&mounts, |root| {
            let error = std::fs::write(root.join("new"), "x").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
            assert!(root.join("etc/passwd").exists());
        });
        assert!(
            rig.snapshots.prepare(key, Some(&top), Access::ReadWrite).is_err(),
            "another access is no repetition"
        );
    }
    let empty = rig.snapshots.prepare("empty", None, Access::ReadWrite).unwrap();
    rig.mounted(&empty, |root| std::fs::write(root.join("new"), "x").unwrap());
}

/// More layers than one page of mount options can name.
fn stacks_high(kind: impl Into<Ground>) {
    let rig = Rig::new(kind);
    let layers: Vec<Vec<Item>> =
        (0..150).map(|n| vec![Item::file(&format!("f{n}"), &n.to_string())]).collect();
    let top = rig.stack(&layers);
    let mounts = rig.snapshots.prepare("c", Some(&top), Access::ReadWrite).unwrap();
    rig.mounted(&mounts, |root| {
        for n in [0, 77, 149] {
            assert_eq!(std::fs::read_to_string(root.join(format!("f{n}"))).unwrap(), n.to_string());
        }
    });
}

fn refuses_bad_keys(kind: impl Into<Ground>) {
    let rig = Rig::new(kind);
    for key in ["", ".", "..", "a/b", "../x", "-a", "a\0", "a b", &"k".repeat(300)] {
        let error = rig.snapshots.prepare(key, None, Access::ReadWrite).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{key:?}");
    }
    let missing = Digest::of(b"missing");
    let error = rig.snapshots.prepare("c", Some(&missing), Access::ReadWrite).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(rig.snapshots.walk().unwrap(), []);
    assert_eq!(std::fs::read_dir(rig.root.join("staging")).unwrap().count(), 0);
}

/// Whether this machine has what the ground needs; says by name what cannot be run.
fn is_possible(ground: impl Into<Ground>, test: &str) -> bool {
    let possible = !ground.into().refused || crate::fuse_overlay::is_installed();
    if !possible && let Some(file) = std::env::var_os("KNARR_SKIPS") {
        use std::io::Write;
        let mut record = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        record.write_all(format!("{test}: no fuse-overlayfs\n").as_bytes()).unwrap();
    }
    possible
}

macro_rules! suite {
    ($name:ident, $kind:expr) => {
        suite!($name, $kind, merges isolates views_are_read_only stacks_high refuses_bad_keys);
    };
    ($name:ident, $kind:expr, $($case:ident)*) => {
        mod $name {
            use super::*;

            $(
                #[test]
                fn $case() {
                    if is_possible($kind, concat!(stringify!($name), "::", stringify!($case))) {
                        super::$case($kind);
                    }
                }
            )*
        }
    };
}

suite!(overlay_on_directories, LayerKind::Directory);
suite!(overlay_on_erofs, LayerKind::Erofs);
suite!(overlay_in_user_space, Ground { kind: LayerKind::Erofs, refused: true });
suite!(plain_copy, LayerKind::Copy);
