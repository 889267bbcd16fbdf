//! What odd archives leave on the disk. Hostile ones: `snapshot::attacks`.

use crate::error::{Error, ErrorKind, Result};
use crate::layer::archive_builder::{ArchiveBuilder, Item};
use crate::layer::directory::{DirectorySink, is_whiteout};
use crate::layer::inherit::{Below, has_opaque, inherit};
use crate::layer::limits::Limits;
use crate::layer::unpack::{Unpacked, unpack};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::PathBuf;

struct Unpacking {
    dir: tempfile::TempDir,
    result: Result<Unpacked>,
}

impl Unpacking {
    fn of(items: &[Item]) -> Self {
        Self::with(items, Limits::default())
    }

    fn with(items: &[Item], limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("layer");
        std::fs::create_dir(&root).unwrap();
        let archive = ArchiveBuilder::of(items);
        let result = DirectorySink::new(&root).and_then(|mut sink| unpack(&archive[..], limits, &mut sink));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the layer's root");
        Self { dir, result }
    }

    fn ok(self) -> Self {
        if let Err(error) = &self.result {
            panic!("{error}");
        }
        self
    }

    fn error(self) -> Error {
        self.result.unwrap_err()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("layer").join(path)
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.path(path)).unwrap()
    }

    fn is_whiteout(&self, path: &str) -> bool {
        is_whiteout(&rustix::fs::lstat(self.path(path)).unwrap())
    }

    fn is_opaque(&self, path: &str) -> bool {
        has_opaque(std::fs::File::open(self.path(path)).unwrap())
    }
}

#[test]
fn everything_an_archive_can_describe() {
    let unpacked = Unpacking::of(&[
        Item::dir("./", 0o755),
        Item::dir("d", 0o2750).owner(3, 4),
        Item::file("d/f", "content").mode(0o4755).owner(1, 2).mtime(1_000_000_000),
        Item::file("d/empty", ""),
        Item::symlink("d/s", "f").owner(5, 6),
        Item::hardlink("d/h", "d/f"),
        Item::fifo("d/p"),
        Item::char_device("d/null", 1, 3),
        Item::block_device("d/b", 8, 0),
        Item::file("d/x", "x").xattr("user.note", b"hi"),
    ])
    .ok();
    let meta = std::fs::metadata(unpacked.path("d/f")).unwrap();
    assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.mtime()), (0o4755, 1, 2, 1_000_000_000));
    assert_eq!(meta.ino(), std::fs::metadata(unpacked.path("d/h")).unwrap().ino());
    let dir = std::fs::metadata(unpacked.path("d")).unwrap();
    assert_eq!((dir.mode() & 0o7777, dir.uid(), dir.gid(), dir.mtime()), (0o2750, 3, 4, 0));
    assert_eq!(
        std::fs::metadata(unpacked.path("d/empty")).unwrap().gid(),
        0,
        "not inherited from the setgid parent"
    );
    assert_eq!(std::fs::symlink_metadata(unpacked.path("d/s")).unwrap().uid(), 5);
    assert!(std::fs::metadata(unpacked.path("d/p")).unwrap().file_type().is_fifo());
    assert_eq!(std::fs::metadata(unpacked.path("d/null")).unwrap().rdev(), rustix::fs::makedev(1, 3));
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(unpacked.path("d/x"), "user.note", &mut value).unwrap(), 2);
    assert_eq!(unpacked.result.as_ref().unwrap().implicit, [], "every directory was described");
}

#[test]
fn whiteouts_hide_what_is_beneath_and_only_that() {
    let unpacked = Unpacking::of(&[
        Item::file(".wh.gone", ""),
        Item::file("d/.wh.gone", ""),
        Item::file("o/.wh..wh..opq", ""),
        Item::file("o/kept", "x"),
        Item::file("both", "new"),
        Item::file(".wh.both", ""),
        Item::file(".wh.remade", ""),
        Item::dir("remade", 0o700),
        Item::dir("late", 0o700),
        Item::file(".wh.late", ""),
        Item::file(".wh.implied", ""),
        Item::file("implied/f", "x"),
        Item::file(".wh..wh.plnk", "ignored"),
    ])
    .ok();
    assert!(unpacked.is_whiteout("gone") && unpacked.is_whiteout("d/gone"));
    assert!(unpacked.is_opaque("o") && unpacked.path("o/kept").exists());
    assert_eq!(unpacked.text("both"), "new", "a whiteout never hides its own layer");
    for remade in ["remade", "late", "implied"] {
        assert!(unpacked.is_opaque(remade), "{remade}: deleted below and made anew");
    }
    assert!(!unpacked.path(".wh..wh.plnk").exists());
}

#[test]
fn limits() {
    let few = Limits { entries: 2, ..Limits::default() };
    let items = [Item::file("a", ""), Item::file("b", ""), Item::file("c", "")];
    assert!(Unpacking::with(&items, few).error().to_string().contains("more than 2 entries"));
    let limits = Limits::default();
    assert!(limits.check_expansion(3 << 20, 3 << 30).is_err(), "3 MB that become 3 GB");
    assert!(limits.check_expansion(1 << 10, 1 << 20).is_ok(), "small layers of zeros are fine");
    assert!(limits.check_expansion(1 << 40, 1 << 39).is_err(), "too large at any ratio");
}

#[test]
fn sparse_files_stay_sparse() {
    let unpacked = Unpacking::of(&[
        Item::sparse("old", 1 << 20, &[(0, b"start"), ((1 << 20) - 3, b"end")]),
        Item::file("after", "still in step"),
    ])
    .ok();
    let meta = std::fs::metadata(unpacked.path("old")).unwrap();
    assert_eq!(meta.len(), 1 << 20);
    assert!(meta.blocks() * 512 < 1 << 19, "{} blocks", meta.blocks());
    let bytes = std::fs::read(unpacked.path("old")).unwrap();
    assert!(bytes.starts_with(b"start\0") && bytes.ends_with(b"\0end"));
    assert_eq!(unpacked.text("after"), "still in step");
}

#[test]
fn implicit_parents_look_as_below() {
    let below = Unpacking::of(&[
        Item::dir("./", 0o700),
        Item::dir("secret", 0o700).owner(7, 8).mtime(5),
        Item::dir("hidden", 0o711),
    ])
    .ok();
    let above = Unpacking::of(&[
        Item::file("secret/new", "x"),
        Item::file("fresh/new", "x"),
        Item::file("hidden/.wh..wh..opq", ""),
    ])
    .ok();
    let implicit = above.result.as_ref().unwrap().implicit.clone();
    inherit(&above.path(""), &implicit, &[Below::directory(&below.path("")).unwrap()]).unwrap();
    let look = |path: &str| {
        let meta = std::fs::metadata(above.path(path)).unwrap();
        (meta.permissions().mode() & 0o7777, meta.uid(), meta.mtime())
    };
    assert_eq!(look("secret"), (0o700, 7, 5));
    assert_eq!(look(""), (0o700, 0, 0));
    assert_eq!(look("fresh"), (0o755, 0, 0), "a fixed time where nothing is below");
    assert_eq!(look("hidden").0, 0o711);
}

#[test]
fn paths_as_deep_as_the_kernel_takes() {
    let deep = "d/".repeat(2000) + "f";
    let unpacked = Unpacking::of(&[Item::file(&deep, "x"), Item::file(&(deep.clone() + "2"), "y")]).ok();
    assert_eq!(unpacked.text(&deep), "x");
    crate::layer::removal::remove_path(&unpacked.path("")).unwrap();
    assert_eq!(Unpacking::of(&[Item::file(&"d/".repeat(3000), "x")]).error().kind(), ErrorKind::Io);
}
