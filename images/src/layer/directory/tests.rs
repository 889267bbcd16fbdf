//! What hostile and odd archives leave on the disk: the rows of the attack matrix that concern unpacking.

use crate::error::{Error, ErrorKind, Result};
use crate::layer::archive_builder::{ArchiveBuilder, Item};
use crate::layer::directory::{DirectorySink, OPAQUE, is_whiteout};
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
fn names_cannot_leave_the_root() {
    let unpacked = Unpacking::of(&[
        Item::file("../../../escaped", "1"),
        Item::file("/absolute", "2"),
        Item::symlink("abs", "/target"),
        Item::file("abs/through", "3"),
        Item::symlink("rel", "../../../../up"),
        Item::file("rel/through", "4"),
        Item::symlink("a", "b"),
        Item::symlink("b", "c/d"),
        Item::file("a/deep", "5"),
    ])
    .ok();
    for (path, text) in
        [("escaped", "1"), ("absolute", "2"), ("target/through", "3"), ("up/through", "4"), ("c/d/deep", "5")]
    {
        assert_eq!(unpacked.text(path), text, "{path}");
    }
}

#[test]
fn links_that_go_nowhere_good_are_errors() {
    let cases = [
        vec![Item::hardlink("h", "../../etc/passwd")],
        vec![Item::hardlink("h", "/etc/passwd")],
        vec![Item::hardlink("h", "missing")],
        vec![Item::dir("d", 0o755), Item::hardlink("h", "d")],
        vec![
            Item::dir("d", 0o755),
            Item::file("d/f", "x"),
            Item::symlink("s", "d"),
            Item::hardlink("h", "s/f"),
        ],
        vec![Item::file(".wh.w", ""), Item::hardlink("h", "w")],
        vec![Item::symlink("loop", "loop"), Item::file("loop/f", "x")],
        vec![Item::symlink("s", "")],
        vec![Item::file("f", "x"), Item::file("f/below", "x")],
    ];
    for items in cases {
        let shown = format!("{items:?}");
        assert_eq!(Unpacking::of(&items).error().kind(), ErrorKind::Invalid, "{shown}");
    }
}

#[test]
fn the_root_stays_a_directory() {
    for item in
        [Item::symlink(".", "/etc"), Item::symlink("./", "/etc"), Item::hardlink("..", "x"), Item::fifo("/")]
    {
        assert!(Unpacking::of(&[item]).error().to_string().contains("must be a directory"));
    }
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
    for bad in [".wh.", ".wh..", ".wh...", "d/.wh..."] {
        let error = Unpacking::of(&[Item::file(bad, "")]).error();
        assert!(error.to_string().contains("invalid whiteout name"), "{bad}: {error}");
    }
}

#[test]
fn smuggled_whiteouts_and_overlay_attributes() {
    let error = Unpacking::of(&[Item::char_device("x", 0, 0)]).error();
    assert!(error.to_string().contains("0:0"), "{error}");
    let unpacked = Unpacking::of(&[
        Item::dir("d", 0o755).xattr("trusted.overlay.redirect", b"/etc").xattr(OPAQUE, b"y"),
        Item::file("f", "x").xattr("user.overlay.metacopy", b"").xattr("user.ok", b"1"),
    ])
    .ok();
    assert!(!unpacked.is_opaque("d"));
    let mut value = [0; 8];
    let attribute = |path: &str, name: &str, value: &mut [u8; 8]| {
        rustix::fs::getxattr(unpacked.path(path), name, &mut value[..])
    };
    assert!(attribute("d", "trusted.overlay.redirect", &mut value).is_err());
    assert!(attribute("f", "user.overlay.metacopy", &mut value).is_err());
    assert_eq!(attribute("f", "user.ok", &mut value).unwrap(), 1);
    let bad = Item::file("f", "x").xattr("security.capability", b"nonsense");
    assert!(Unpacking::of(&[bad]).error().to_string().contains("security.capability"));
}

#[test]
fn the_last_of_several_wins() {
    let unpacked = Unpacking::of(&[
        Item::dir("d/sub", 0o755),
        Item::file("d/sub/f", "x"),
        Item::file("d", "now a file"),
        Item::file("f", "1"),
        Item::file("f", "2"),
        Item::symlink("s", "f"),
        Item::file("s", "no link"),
        Item::file("g", "file"),
        Item::dir("g", 0o711),
        Item::file("g/in", "x"),
        Item::file("Case", "upper"),
        Item::file("case", "lower"),
    ])
    .ok();
    assert_eq!(unpacked.text("d"), "now a file");
    assert_eq!(unpacked.text("f"), "2");
    assert_eq!(unpacked.text("s"), "no link");
    assert_eq!(unpacked.text("g/in"), "x");
    assert_eq!((unpacked.text("Case"), unpacked.text("case")), ("upper".into(), "lower".into()));
}

#[test]
fn ids_and_names_that_do_not_fit() {
    for item in [
        Item::file("f", "x").owner(u64::from(u32::MAX), 0),
        Item::file("f", "x").owner(0, 1 << 40),
        Item::file("f\0g", "x"),
    ] {
        assert_eq!(Unpacking::of(&[item]).error().kind(), ErrorKind::Invalid);
    }
    let long = Item::file(&"n".repeat(300), "x");
    assert!(Unpacking::of(&[long]).error().to_string().contains("too long"));
}

#[test]
fn limits() {
    let few = Limits { entries: 2, ..Limits::default() };
    let items = [Item::file("a", ""), Item::file("b", ""), Item::file("c", "")];
    assert!(Unpacking::with(&items, few).error().to_string().contains("more than 2 entries"));
    let huge = Item::file("f", "x").xattr("user.big", &vec![b'x'; 2 << 20]);
    assert!(Unpacking::of(&[huge]).error().to_string().contains("too long"));
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
fn truncated_archives_are_errors() {
    let whole = ArchiveBuilder::of(&[Item::file("f", &"x".repeat(5000)), Item::file("g", "y")]);
    for cut in [1, 100, 511, 513, 1000, 5000] {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = DirectorySink::new(dir.path()).unwrap();
        let error = unpack(&whole[..cut], Limits::default(), &mut sink).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "cut at {cut}: {error}");
    }
}

#[test]
fn paths_as_deep_as_the_kernel_takes() {
    let deep = "d/".repeat(2000) + "f";
    let unpacked = Unpacking::of(&[Item::file(&deep, "x"), Item::file(&(deep.clone() + "2"), "y")]).ok();
    assert_eq!(unpacked.text(&deep), "x");
    crate::layer::removal::remove_path(&unpacked.path("")).unwrap();
    assert_eq!(Unpacking::of(&[Item::file(&"d/".repeat(3000), "x")]).error().kind(), ErrorKind::Io);
}
