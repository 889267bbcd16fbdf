//! Copies into root file systems: what becomes of what lies there already.

use super::*;
use crate::build::ignore::Ignore;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

fn copied(from: &Path, source: &str, to: &Path, target: &str) -> Result<()> {
    let tree = Tree::open(from, Ignore::default())?;
    let mut copier = Copier::new(to, Look { owner: Some((7, 8)), ..Look::default() })?;
    for found in tree.find(source, &Ignore::default())? {
        copier.copy(&tree, &found.files, &TreePath::clean(target.as_bytes()))?;
    }
    copier.finish()
}

#[test]
fn an_archive_replaces_what_is_of_another_kind() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(from.path().join("a/below")).unwrap();
    std::fs::create_dir(from.path().join("link")).unwrap();
    std::fs::write(from.path().join("b"), "b").unwrap();
    std::fs::write(to.path().join("a"), "").unwrap();
    std::fs::create_dir_all(to.path().join("b/full")).unwrap();
    symlink("b", to.path().join("link")).unwrap();
    let tree = Tree::open(from.path(), Ignore::default()).unwrap();
    let found = tree.find("/", &Ignore::default()).unwrap();
    let mut copier = Copier::new(to.path(), Look { replace: true, ..Look::default() }).unwrap();
    copier.copy(&tree, &found[0].files, &TreePath::default()).unwrap();
    copier.finish().unwrap();
    assert!(to.path().join("a/below").is_dir());
    assert_eq!(std::fs::read(to.path().join("b")).unwrap(), b"b");
    assert!(to.path().join("link").symlink_metadata().unwrap().is_dir());
    assert!(copied(from.path(), "a", to.path(), "/b").is_err());
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(from.path().join("d/sub")).unwrap();
    std::fs::write(from.path().join("d/first"), "same").unwrap();
    std::fs::hard_link(from.path().join("d/first"), from.path().join("d/sub/second")).unwrap();
    std::fs::hard_link(from.path().join("d/first"), from.path().join("outside")).unwrap();
    std::fs::write(from.path().join("d/third"), "same").unwrap();
    std::fs::create_dir(to.path().join("real")).unwrap();
    std::fs::create_dir(to.path().join("real/sub")).unwrap();
    std::fs::write(to.path().join("real/sub/second"), "in the way").unwrap();
    symlink("real", to.path().join("t")).unwrap();
    copied(from.path(), "d", to.path(), "/t").unwrap();
    let stat = |name: &str| std::fs::metadata(to.path().join("real").join(name)).unwrap();
    assert_eq!(stat("first").ino(), stat("sub/second").ino());
    assert_eq!((stat("first").nlink(), stat("first").uid()), (2, 7));
    assert_eq!(
        (stat("third").nlink(), std::fs::read(to.path().join("t/third")).unwrap()),
        (1, b"same".to_vec())
    );
    // What is copied alone shares nothing with its source.
    copied(from.path(), "outside", to.path(), "/alone").unwrap();
    assert_eq!(std::fs::metadata(to.path().join("alone")).unwrap().nlink(), 1);
}

#[test]
fn a_link_that_leads_nowhere_is_followed() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(from.path().join("x"), "x").unwrap();
    symlink("sub/made", to.path().join("link")).unwrap();
    symlink("/../../outside", to.path().join("out")).unwrap();
    symlink("loop", to.path().join("loop")).unwrap();
    copied(from.path(), "x", to.path(), "/link/deeper/x").unwrap();
    assert_eq!(std::fs::read(to.path().join("sub/made/deeper/x")).unwrap(), b"x");
    copied(from.path(), "x", to.path(), "/out/x").unwrap();
    assert!(to.path().join("outside/x").exists() && to.path().join("out").is_symlink());
    let error = copied(from.path(), "x", to.path(), "/loop/x").unwrap_err().to_string();
    assert!(error.contains("/loop: too many links"), "{error}");
}

#[test]
fn merges_and_keeps_what_was_there() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(from.path().join("d/sub")).unwrap();
    std::fs::write(from.path().join("d/sub/new"), "new").unwrap();
    std::fs::create_dir_all(to.path().join("t/sub")).unwrap();
    std::fs::write(to.path().join("t/sub/old"), "old").unwrap();
    std::fs::set_permissions(to.path().join("t"), Permissions::from_mode(0o700)).unwrap();
    let before = std::fs::metadata(to.path().join("t")).unwrap();
    copied(from.path(), "d", to.path(), "t").unwrap();
    let after = std::fs::metadata(to.path().join("t")).unwrap();
    assert_eq!((after.mode(), after.uid(), after.mtime()), (before.mode(), before.uid(), before.mtime()));
    assert_eq!(std::fs::read_dir(to.path().join("t/sub")).unwrap().count(), 2);
    assert_eq!(std::fs::metadata(to.path().join("t/sub")).unwrap().uid(), 7);
    copied(from.path(), "d/sub/new", to.path(), "made/up/name").unwrap();
    assert_eq!(std::fs::metadata(to.path().join("made/up")).unwrap().mtime(), 0);
    assert!(
        copied(from.path(), "d/sub/new", to.path(), "t/sub").unwrap_err().to_string().contains("directory")
    );
    assert!(copied(from.path(), "d", to.path(), "made/up/name/x").is_err());
}

#[test]
fn links_of_the_image_lead_nowhere_outside() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(from.path().join("f"), "x").unwrap();
    std::fs::create_dir(to.path().join("real")).unwrap();
    symlink("/real", to.path().join("inside")).unwrap();
    symlink(outside.path(), to.path().join("outside")).unwrap();
    symlink("/etc/passwd", to.path().join("file")).unwrap();
    copied(from.path(), "f", to.path(), "inside/f").unwrap();
    assert_eq!(std::fs::read(to.path().join("real/f")).unwrap(), b"x");
    copied(from.path(), "f", to.path(), "outside/f").unwrap();
    let within = to.path().join(outside.path().strip_prefix("/").unwrap());
    assert_eq!(std::fs::read(within.join("f")).unwrap(), b"x");
    copied(from.path(), "f", to.path(), "file").unwrap();
    assert!(std::fs::symlink_metadata(to.path().join("file")).unwrap().is_file());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn below_its_target_a_copy_meets_links_as_they_are() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for dir in ["d/sub", "e"] {
        std::fs::create_dir_all(from.path().join(dir)).unwrap();
    }
    std::fs::write(from.path().join("d/sub/f"), "x").unwrap();
    symlink("anywhere", from.path().join("e/sub")).unwrap();
    std::fs::create_dir(to.path().join("real")).unwrap();
    symlink("real", to.path().join("sub")).unwrap();
    symlink("/", to.path().join("top")).unwrap();
    let said = |source: &str, target: &str| copied(from.path(), source, to.path(), target);
    let refused = said("d", "/").unwrap_err().to_string();
    assert!(refused.ends_with("cannot copy to non-directory: /sub"), "{refused}");
    let refused = said("d", "/top").unwrap_err().to_string();
    assert!(refused.ends_with("cannot copy to non-directory: /top/sub"), "{refused}");
    said("d/sub", "/top/sub").unwrap();
    assert_eq!(std::fs::read(to.path().join("real/f")).unwrap(), b"x");
    said("e", "/").unwrap();
    assert_eq!(std::fs::read_link(to.path().join("sub")).unwrap(), Path::new("anywhere"));
    std::fs::create_dir(to.path().join("real/sub")).unwrap();
    let refused = said("e", "/real").unwrap_err().to_string();
    assert!(refused.ends_with("cannot replace to directory /real/sub with file"), "{refused}");
    std::fs::write(to.path().join("file"), "").unwrap();
    let refused = said("d", "/file").unwrap_err().to_string();
    assert!(refused.ends_with("cannot copy to non-directory: /file"), "{refused}");
}

#[test]
fn what_only_lies_on_the_way_goes_through_links() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::create_dir_all(from.path().join("run/lock/made")).unwrap();
    std::fs::write(from.path().join("run/lock/made/f"), "x").unwrap();
    std::fs::set_permissions(from.path().join("run/lock/made"), Permissions::from_mode(0o711)).unwrap();
    std::fs::create_dir(to.path().join("closed")).unwrap();
    std::fs::set_permissions(to.path().join("closed"), Permissions::from_mode(0o700)).unwrap();
    symlink("/closed", to.path().join("run")).unwrap();
    let tree = Tree::open(from.path(), Ignore::default()).unwrap();
    let found = tree.find("/", &Ignore::default()).unwrap();
    let through = ["/", "/run", "/run/lock"].map(|path| TreePath::clean(path.as_bytes())).into();
    let mut copier = Copier::new(to.path(), Look { replace: true, through, ..Look::default() }).unwrap();
    copier.copy(&tree, &found[0].files, &TreePath::default()).unwrap();
    copier.finish().unwrap();
    let mode = |path: &str| std::fs::symlink_metadata(to.path().join(path)).unwrap().mode() & 0o7777;
    assert!(to.path().join("run").is_symlink() && to.path().join("closed/lock/made/f").exists());
    assert_eq!((mode("closed"), mode("closed/lock"), mode("closed/lock/made")), (0o700, 0o755, 0o711));
}
