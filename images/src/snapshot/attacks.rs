//! The attack matrix, row by row, in both ways to hold a layer: what a hostile archive asks for, and what comes of it.
//! `docs/images-security.md` is its table.

use super::*;
use crate::layer::archive_builder::{ArchiveBuilder, Item};
use crate::options::LayerKind;
use crate::snapshot::suite::Rig;
use proptest::prelude::*;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::sync::atomic::AtomicBool;
use victim::Victim;

mod victim;

/// Stacks layers, the lowest first, and looks at them as a container does. What is refused leaves nothing behind.
fn seen<T>(kind: LayerKind, layers: &[&[Item]], look: impl FnOnce(&Path) -> T) -> Result<T> {
    let rig = Rig::new(kind);
    let mut top = None;
    for items in layers {
        let below = top.clone();
        top = Some(rig.layer(below, items).inspect_err(|_| nothing_half_made(&rig))?);
    }
    let mounts = rig.snapshots.prepare("c", top.as_ref(), Access::ReadOnly)?;
    Ok(rig.mounted(&mounts, look))
}

fn nothing_half_made(rig: &Rig) {
    assert_eq!(std::fs::read_dir(rig.dir.path().join("staging")).unwrap().count(), 0);
}

fn refused(kind: LayerKind, items: &[Item]) -> Error {
    match seen(kind, &[items], |_| ()) {
        Ok(()) => panic!("accepted: {items:?}"),
        Err(error) => error,
    }
}

fn text(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names_that_climb_stay_inside(kind: LayerKind) {
    let victim = Victim::new();
    let items = [
        Item::file(&victim.climbing("secret"), "1"),
        Item::file(&victim.path("new"), "2"),
        Item::file("a/../../../up", "3"),
        Item::dir(&victim.path("d"), 0o777),
        Item::file("./././/same", "4"),
    ];
    let look = |root: &Path| {
        assert_eq!(text(victim.inside(root, "secret")), "1");
        assert_eq!(text(victim.inside(root, "new")), "2");
        assert_eq!((text(root.join("up")), text(root.join("same"))), ("3".into(), "4".into()));
    };
    seen(kind, &[&items], look).unwrap();
    victim.untouched();
}

fn links_of_the_same_layer_lead_inside(kind: LayerKind) {
    let victim = Victim::new();
    let items = [
        Item::symlink("absolute", &victim.path("")),
        Item::file("absolute/secret", "1"),
        Item::symlink("climbing", &victim.climbing("d")),
        Item::file("climbing/new", "2"),
        Item::symlink("one", "two"),
        Item::symlink("two", "three/four"),
        Item::file("one/deep", "3"),
    ];
    let look = |root: &Path| {
        assert_eq!(text(victim.inside(root, "secret")), "1");
        assert_eq!(text(victim.inside(root, "d/new")), "2");
        assert_eq!(text(root.join("three/four/deep")), "3");
    };
    seen(kind, &[&items], look).unwrap();
    victim.untouched();
}

fn links_of_a_lower_layer_are_replaced(kind: LayerKind) {
    let victim = Victim::new();
    let below = [Item::symlink("out", &victim.path(""))];
    let above = [Item::file("out/secret", "mine")];
    let look = |root: &Path| {
        assert!(std::fs::symlink_metadata(root.join("out")).unwrap().is_dir());
        assert_eq!(text(root.join("out/secret")), "mine");
    };
    seen(kind, &[&below, &above], look).unwrap();
    victim.untouched();
}

fn links_that_go_nowhere_good_are_refused(kind: LayerKind) {
    let victim = Victim::new();
    let cases = [
        vec![Item::hardlink("h", &victim.climbing("secret"))],
        vec![Item::hardlink("h", &victim.path("secret"))],
        vec![Item::hardlink("h", "missing")],
        vec![Item::dir("d", 0o755), Item::hardlink("h", "d")],
        vec![Item::symlink("s", &victim.path("")), Item::hardlink("h", "s/secret")],
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
        assert_eq!(refused(kind, &items).kind(), ErrorKind::Invalid, "{items:?}");
    }
    victim.untouched();
}

/// CVE-2021-32760, CVE-2026-33055, CVE-2026-33056: what comes after a link under its name is not done to its target.
fn nothing_is_done_through_a_link_at_the_end(kind: LayerKind) {
    let victim = Victim::new();
    let mut items = Vec::new();
    for name in ["file", "dir", "fifo", "null", "block", "link"] {
        let target = if name == "dir" { "d" } else { "secret" };
        items.push(Item::symlink(name, &victim.path(target)));
    }
    items.extend([
        Item::hardlink("twin", "file"),
        Item::file("file", "mine").mode(0o4777).owner(7, 7),
        Item::file("twin", "mine too").mode(0o666),
        Item::dir("dir", 0o1777).owner(7, 7),
        Item::fifo("fifo").mode(0o666),
        Item::char_device("null", 1, 3).mode(0o666),
        Item::block_device("block", 8, 0).mode(0o666),
        Item::symlink("link", "elsewhere").owner(7, 7),
    ]);
    let look = |root: &Path| {
        let meta = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap();
        assert_eq!((text(root.join("file")), text(root.join("twin"))), ("mine".into(), "mine too".into()));
        assert_eq!(meta("file").mode() & 0o7777, 0o4777);
        assert!(meta("dir").is_dir() && meta("fifo").file_type().is_fifo());
        assert_eq!(meta("null").rdev(), rustix::fs::makedev(1, 3));
        assert_eq!(meta("link").uid(), 7);
    };
    seen(kind, &[&items], look).unwrap();
    victim.untouched();
}

/// CVE-2021-29136: a link named "." would make everything that follows land at its target.
fn the_root_stays_a_directory(kind: LayerKind) {
    for item in
        [Item::symlink(".", "/etc"), Item::symlink("./", "/etc"), Item::hardlink("..", "x"), Item::fifo("/")]
    {
        assert!(refused(kind, &[item]).to_string().contains("must be a directory"));
    }
}

fn whiteouts_of_parents_are_refused(kind: LayerKind) {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh..", "d/.wh..."] {
        let error = refused(kind, &[Item::file(name, "")]).to_string();
        assert!(error.contains("invalid whiteout name"), "{name}: {error}");
    }
}

fn whiteouts_reach_nothing_through_a_link(kind: LayerKind) {
    let victim = Victim::new();
    let below = [Item::symlink("out", &victim.path("")), Item::symlink("same", &victim.path("d"))];
    let above = [
        Item::file("out/.wh.secret", ""),
        Item::file("out/.wh..wh..opq", ""),
        Item::symlink("here", &victim.path("")),
        Item::file("here/.wh.secret", ""),
        Item::file(".wh.same", ""),
    ];
    let look = |root: &Path| assert!(std::fs::symlink_metadata(root.join("same")).is_err());
    seen(kind, &[&below, &above], look).unwrap();
    victim.untouched();
}

fn the_last_of_several_wins(kind: LayerKind) {
    let items = [
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
    ];
    let look = |root: &Path| {
        for (name, expected) in [
            ("d", "now a file"),
            ("f", "2"),
            ("s", "no link"),
            ("g/in", "x"),
            ("Case", "upper"),
            ("case", "lower"),
        ] {
            assert_eq!(text(root.join(name)), expected, "{name}");
        }
    };
    seen(kind, &[&items], look).unwrap();
}

/// A number that the kernel cuts down to 0:0 is as good a whiteout as 0:0 itself.
fn whiteouts_cannot_be_smuggled_in(kind: LayerKind) {
    for (major, minor) in [(0, 0), (0x1000, 0), (0, 0x10_0000), (0x2000, 0x10_0000), (0x1001, 3)] {
        let error = refused(kind, &[Item::char_device("x", major, minor)]);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{major}:{minor}: {error}");
    }
    let error = refused(kind, &[Item::block_device("x", 0x1008, 0)]).to_string();
    assert!(error.contains("out of range"), "{error}");
}

fn devices_are_what_the_archive_says(kind: LayerKind) {
    let items = [
        Item::block_device("disk", 8, 0).mode(0o660).owner(0, 6),
        Item::char_device("highest", 0xfff, 0xf_ffff),
        Item::fifo("fifo"),
    ];
    let look = |root: &Path| {
        let meta = |name: &str| std::fs::symlink_metadata(root.join(name)).unwrap();
        assert_eq!((meta("disk").rdev(), meta("disk").gid()), (rustix::fs::makedev(8, 0), 6));
        assert_eq!(meta("highest").rdev(), rustix::fs::makedev(0xfff, 0xf_ffff));
        assert!(meta("fifo").file_type().is_fifo());
    };
    seen(kind, &[&items], look).unwrap();
}

/// Orders to overlayfs in an archive are not obeyed, nor are its opinions about this machine's security labels.
fn overlay_attributes_are_stripped(kind: LayerKind) {
    let below = [
        Item::dir("d", 0o755),
        Item::file("d/below", "x"),
        Item::dir("etc", 0o755),
        Item::file("etc/f", "x"),
    ];
    let above = [
        Item::dir("d", 0o755)
            .xattr("trusted.overlay.opaque", b"y")
            .xattr("trusted.overlay.redirect", b"/etc")
            .xattr("user.overlay.opaque", b"y"),
        Item::file("f", "content")
            .xattr("trusted.overlay.metacopy", b"")
            .xattr("trusted.overlay.whiteout", b"y"),
        Item::file("g", "x")
            .xattr("user.overlay.whiteout", b"y")
            .xattr("user.ok", b"1")
            .xattr("security.selinux", b"s"),
    ];
    let look = |root: &Path| {
        assert!(root.join("d/below").exists(), "not opaque");
        assert!(!root.join("d/f").exists(), "not redirected");
        assert_eq!(text(root.join("f")), "content");
        let attribute = |name: &str| rustix::fs::getxattr(root.join("g"), name, &mut [0u8; 8][..]);
        assert_eq!(attribute("user.ok"), Ok(1));
        assert!(attribute("user.overlay.whiteout").is_err());
        assert!(attribute("security.selinux").is_err());
    };
    seen(kind, &[&below, &above], look).unwrap();
}

fn capabilities_are_whole_or_refused(kind: LayerKind) {
    let mut right = vec![0; 20];
    right[3] = 2;
    right[4] = 0x20;
    for wrong in [&b"nonsense"[..], b"", &right[..19], &[right.clone(), vec![0]].concat()] {
        let error = refused(kind, &[Item::file("f", "x").xattr("security.capability", wrong)]).to_string();
        assert!(error.contains("security.capability"), "{error}");
    }
    let item = Item::file("f", "x").owner(7, 7).mode(0o4755).xattr("security.capability", &right);
    let look = |root: &Path| {
        let mut value = [0u8; 32];
        let length = rustix::fs::getxattr(root.join("f"), "security.capability", &mut value[..]).unwrap();
        assert_eq!(value[..length], right);
        assert_eq!(
            std::fs::metadata(root.join("f")).unwrap().mode() & 0o7777,
            0o4755,
            "setuid bits are kept"
        );
    };
    seen(kind, &[&[item]], look).unwrap();
}

fn headers_that_are_too_long_are_refused(kind: LayerKind) {
    let one = Item::file("f", "x").xattr("user.big", &vec![b'x'; 2 << 20]);
    let name = Item::file(&"n/".repeat(1 << 20), "x");
    for item in [one, name] {
        let error = refused(kind, &[item]);
        assert!(error.kind() == ErrorKind::Invalid && error.to_string().contains("too long"), "{error}");
    }
}

/// Each entry is within its own limit, all of them are not: a tree is held in memory until it is written down.
fn many_large_attributes_are_refused(kind: LayerKind) {
    let value = vec![b'x'; 60_000];
    let fat = |number: usize| {
        let item = Item::dir(&format!("d{number}"), 0o755);
        (0..15).fold(item, |item, number| item.xattr(&format!("user.{number}"), &value))
    };
    let items: Vec<Item> = (0..320).map(fat).collect();
    let error = refused(kind, &items);
    // A file system may be the first to refuse so many of them.
    let limit = error.kind() == ErrorKind::Invalid && error.to_string().contains("names and attributes");
    assert!(limit || (kind == LayerKind::Directory && error.kind() == ErrorKind::Io), "{error}");
}

fn ids_and_names_that_do_not_fit_are_refused(kind: LayerKind) {
    for item in [
        Item::file("f", "x").owner(u64::from(u32::MAX), 0),
        Item::file("f", "x").owner(0, 1 << 40),
        Item::file("f\0g", "x"),
    ] {
        assert_eq!(refused(kind, &[item]).kind(), ErrorKind::Invalid);
    }
    assert!(refused(kind, &[Item::file(&"n".repeat(300), "x")]).to_string().contains("too long"));
    assert_eq!(refused(kind, &[Item::file(&"d/".repeat(3000), "x")]).kind(), ErrorKind::Io);
}

fn sparse_maps_that_lie_are_refused(kind: LayerKind) {
    let invalid = [
        Item::sparse("overlapping", 100, &[(10, b"abc"), (11, b"d")]),
        Item::sparse("backwards", 100, &[(50, b"abc"), (10, b"d")]),
        Item::sparse("beyond", 100, &[(99, b"abc")]),
        Item::sparse("overflowing", u64::MAX, &[(u64::MAX, b"abc")]),
    ];
    for item in invalid {
        assert_eq!(refused(kind, std::slice::from_ref(&item)).kind(), ErrorKind::Invalid, "{item:?}");
    }
    let endless = |name: &str| Item::sparse(name, u64::MAX - 1, &[(0, b"a"), (u64::MAX - 600, b"z")]);
    refused(kind, &[Item::file("before", "x"), endless("a"), endless("b")]);
    let huge = |name: &str| Item::sparse(name, i64::MAX as u64, &[(0, b"a")]);
    refused(kind, &[huge("a"), huge("b"), huge("c")]);
}

fn implicit_parents_stay_closed(kind: LayerKind) {
    let below = [Item::dir("secret", 0o700).owner(7, 8), Item::dir("secret/inner", 0o711).owner(9, 9)];
    let middle = [Item::file("other", "x")];
    let above = [Item::file("secret/inner/added", "x")];
    let look = |root: &Path| {
        let meta = |name: &str| std::fs::metadata(root.join(name)).unwrap();
        assert_eq!(
            (meta("secret").mode() & 0o7777, meta("secret").uid(), meta("secret").gid()),
            (0o700, 7, 8)
        );
        assert_eq!((meta("secret/inner").mode() & 0o7777, meta("secret/inner").uid()), (0o711, 9));
    };
    seen(kind, &[&below, &middle, &above], look).unwrap();
}

fn truncated_archives_are_refused(kind: LayerKind) {
    let whole = ArchiveBuilder::of(&[Item::file("f", &"x".repeat(5000)), Item::file("g", "y")]);
    let rig = Rig::new(kind);
    for cut in [1, 100, 511, 513, 1000, 5000] {
        let error = rig.archive(None, &whole[..cut]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "cut at {cut}: {error}");
        nothing_half_made(&rig);
    }
}

/// Any byte of an archive may be another one: it is refused or unpacked, and nothing lies beside the layers.
fn damaged_archives_are_harmless(kind: LayerKind) {
    let victim = Victim::new();
    let whole = ArchiveBuilder::of(&[
        Item::dir("d", 0o755).xattr("user.a", b"b"),
        Item::file("d/f", &"content".repeat(100)),
        Item::sparse("s", 4096, &[(0, b"ab"), (100, b"c")]),
        Item::symlink("l", &victim.path("")),
        Item::hardlink("h", "d/f"),
        Item::file("l/.wh.secret", ""),
        Item::char_device("c", 1, 3),
        Item::file("l/through", "x"),
    ]);
    let rig = Rig::new(kind);
    let damage = proptest::collection::vec((0..whole.len(), any::<u8>()), 1..6);
    proptest!(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }, |(damage in damage)| {
        let mut archive = whole.clone();
        for (at, byte) in damage {
            archive[at] = byte;
        }
        ArchiveBuilder::mend_checksums(&mut archive);
        if let Ok(layer) = rig.archive(None, &archive) {
            rig.forget(&layer);
        }
        nothing_half_made(&rig);
    });
    let mut names: Vec<_> =
        std::fs::read_dir(rig.dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["layers", "snapshots", "staging", "trash"]);
    victim.untouched();
}

macro_rules! rows {
    ($($row:ident),* $(,)?) => {
        mod held_as_directories {
            use super::*;
            $(#[test] fn $row() { super::$row(LayerKind::Directory) })*
        }
        mod held_as_images {
            use super::*;
            $(#[test] fn $row() { super::$row(LayerKind::Erofs) })*
        }
    };
}

rows!(
    names_that_climb_stay_inside,
    links_of_the_same_layer_lead_inside,
    links_of_a_lower_layer_are_replaced,
    links_that_go_nowhere_good_are_refused,
    nothing_is_done_through_a_link_at_the_end,
    the_root_stays_a_directory,
    whiteouts_of_parents_are_refused,
    whiteouts_reach_nothing_through_a_link,
    the_last_of_several_wins,
    whiteouts_cannot_be_smuggled_in,
    devices_are_what_the_archive_says,
    overlay_attributes_are_stripped,
    capabilities_are_whole_or_refused,
    headers_that_are_too_long_are_refused,
    many_large_attributes_are_refused,
    ids_and_names_that_do_not_fit_are_refused,
    sparse_maps_that_lie_are_refused,
    implicit_parents_stay_closed,
    truncated_archives_are_refused,
    damaged_archives_are_harmless,
);

/// CVE-2025-47290: somebody who can write to the half-made layer swaps its directories for links while it is unpacked.
#[test]
fn directories_swapped_for_links_meanwhile_lead_nowhere() {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let victim = Victim::new();
    let rig = Rig::new(LayerKind::Directory);
    let items: Vec<Item> = (0..600).map(|n| Item::file(&format!("d{}/f{n}", n % 100), "x")).collect();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let staging = rig.dir.path().join("staging");
            let link = rig.dir.path().join("swap");
            std::os::unix::fs::symlink(victim.path(""), &link).unwrap();
            while !over.load(Ordering::SeqCst) {
                let found =
                    std::fs::read_dir(&staging).unwrap().flatten().map(|entry| entry.path().join("fs"));
                for files in found {
                    for number in 0..100 {
                        // There or not, it is tried again.
                        let directory = files.join(format!("d{number}"));
                        let _ = renameat_with(CWD, &link, CWD, &directory, RenameFlags::EXCHANGE);
                        let _ = renameat_with(CWD, &link, CWD, &directory, RenameFlags::EXCHANGE);
                        std::thread::yield_now();
                    }
                }
            }
            let _ = crate::layer::removal::remove_path(&link);
        });
        for _ in 0..3 {
            // Whether such a layer can be completed is luck.
            if let Ok(layer) = rig.layer(None, &items) {
                rig.forget(&layer);
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    victim.untouched();
}
