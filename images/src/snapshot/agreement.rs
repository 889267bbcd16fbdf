//! Whatever an archive holds, both ways to hold a layer refuse it or show the same tree of it.

use super::*;
use crate::layer::archive_builder::Item;
use crate::options::LayerKind;
use crate::snapshot::suite::Rig;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;

/// One line per file: everything that a container can see of it. Links are numbered by their first name.
fn listing(root: &Path) -> String {
    let mut lines = String::new();
    let mut names = std::collections::HashMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let shown = path.strip_prefix(root).unwrap().display().to_string();
        let first = names.entry((meta.dev(), meta.ino())).or_insert_with(|| shown.clone()).clone();
        let (mut content, mut size, mut links, mut times) =
            (String::new(), meta.len(), meta.nlink(), meta.mtime());
        if meta.is_dir() {
            // A merged directory's size, links and time are those of whatever overlayfs made.
            (size, links, times) = (0, 0, 0);
            let mut below: Vec<_> =
                std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.sort();
            pending.extend(below.into_iter().rev());
        } else if meta.is_file() {
            content = std::fs::read_to_string(&path).unwrap();
        } else if meta.is_symlink() {
            content = std::fs::read_link(&path).unwrap().display().to_string();
        }
        let (mode, uid, gid, device) = (meta.mode(), meta.uid(), meta.gid(), meta.rdev());
        writeln!(lines, "{shown} {mode:o} {uid}:{gid} {size} {links} {times} {device} ={first} {content}")
            .unwrap();
    }
    lines
}

/// What the two layers show together, or the kind of the refusal.
fn shown(kind: LayerKind, below: &[Item], above: &[Item]) -> std::result::Result<String, ErrorKind> {
    let rig = Rig::new(kind);
    let base = rig.layer(None, below).map_err(|error| error.kind())?;
    let top = rig.layer(Some(base), above).map_err(|error| error.kind())?;
    let mounts = rig.snapshots.prepare("c", Some(&top), Access::ReadOnly).unwrap();
    Ok(rig.mounted(&mounts, listing))
}

fn name() -> impl Strategy<Value = String> {
    let part = || prop::sample::select(vec!["a", "b", "c", "d"]);
    prop_oneof![
        4 => part().prop_map(str::to_owned),
        4 => (part(), part()).prop_map(|(one, two)| format!("{one}/{two}")),
        2 => (part(), part(), part()).prop_map(|(one, two, three)| format!("{one}/{two}/{three}")),
        1 => (part(), part()).prop_map(|(one, two)| format!("{one}/.wh.{two}")),
        1 => part().prop_map(|one| format!(".wh.{one}")),
        1 => part().prop_map(|one| format!("{one}/.wh..wh..opq")),
        1 => prop::sample::select(vec!["./", "../a", "/b", "a/../c", "a//b", "a/./b", "../../d/e", ".wh.."])
            .prop_map(str::to_owned),
    ]
}

fn target() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "/a", "../b", "c/d", "../../c", "/", ".", "a/b", "nowhere", "d"])
        .prop_map(str::to_owned)
}

fn item() -> impl Strategy<Value = Item> {
    let mode = prop::sample::select(vec![0o755, 0o700, 0o2711, 0o1777, 0o4755, 0]);
    let owned = move || (name(), mode.clone(), 0u64..3);
    prop_oneof![
        4 => owned().prop_map(|(name, mode, id): (String, u32, u64)| Item::file(&name, &name).mode(mode).owner(id, id).mtime(7)),
        4 => owned().prop_map(|(name, mode, id): (String, u32, u64)| Item::dir(&name, mode).owner(id, 1)),
        2 => (name(), target()).prop_map(|(name, target)| Item::symlink(&name, &target)),
        2 => (name(), name()).prop_map(|(name, target)| Item::hardlink(&name, &target)),
        1 => name().prop_map(|name| Item::fifo(&name)),
        1 => name().prop_map(|name| Item::char_device(&name, 1, 3)),
    ]
}

/// The same archives in every run. One difference is known: where an archive describes a directory through a link and
/// then replaces that link, only the tree in memory still knows which directory was meant; the other way refuses.
#[test]
fn directories_and_images_agree() {
    let config = ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() };
    let random = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let archives = (prop::collection::vec(item(), 0..6), prop::collection::vec(item(), 0..8));
    let agree = |(below, above): (Vec<Item>, Vec<Item>)| {
        let directory = shown(LayerKind::Directory, &below, &above);
        let image = shown(LayerKind::Erofs, &below, &above);
        if directory != Err(ErrorKind::Io) {
            prop_assert_eq!(directory, image);
        }
        Ok(())
    };
    TestRunner::new_with_rng(config, random).run(&archives, agree).unwrap();
}
