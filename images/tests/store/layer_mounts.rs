//! Layers held in one file are mounted while somebody stands on them, and no longer.

use crate::fake_registry::{Content, FakeRegistry};
use crate::lab::Store;
use knarr_images::{ImageStore, Mount};
use std::path::Path;

/// Mount points beneath a directory, as this mount namespace has them.
fn mounts_beneath(root: &Path) -> Vec<String> {
    let all = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = all.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned));
    points.filter(|point| Path::new(point).starts_with(root)).collect()
}

fn motd(root: &Path) -> String {
    std::fs::read_to_string(root.join("etc/motd")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_is_mounted_while_a_snapshot_stands_on_it() {
    let registry = FakeRegistry::start(Content::of(10_000), |_, answer| answer);
    let store = Store::new();
    let image = store.pull(&registry.name()).await;
    assert_eq!(mounts_beneath(&store.root()), [""; 0], "a pull mounts nothing");
    let one = store.store.prepare("one", &image).unwrap();
    let mounted = mounts_beneath(&store.root());
    if mounted.is_empty() {
        return crate::lab::skip("layer_mounts", "this kernel or file system cannot mount EROFS from a file");
    }
    store.store.prepare("two", &image).unwrap();
    assert_eq!(mounts_beneath(&store.root()), mounted, "shared");
    store.store.remove_snapshot("two").unwrap();
    assert_eq!(mounts_beneath(&store.root()), mounted, "still used");

    // A container that runs is not disturbed by anything that happens to the store.
    let target = tempfile::tempdir().unwrap();
    one[0].mount_at(target.path()).unwrap();
    store.store.unmount_layers().unwrap();
    assert_eq!(mounts_beneath(&store.root()), [""; 0]);
    assert_eq!(motd(target.path()), "hello\n");
    // A restarted agent mounts it again.
    let again = ImageStore::open(&store.root()).unwrap();
    assert_eq!(again.mounts("one").unwrap(), one);
    assert_eq!(mounts_beneath(&store.root()), mounted);
    store.with_mount(&one, |root| assert_eq!(motd(root), "hello\n"));
    again.remove(&image).unwrap();
    assert_eq!(motd(target.path()), "hello\n");
    again.remove_snapshot("one").unwrap();
    assert_eq!(mounts_beneath(&store.root()), [""; 0], "the last one takes the mount with it");
    again.prune(&knarr_images::Prune::default()).unwrap();
    assert_eq!(store.names("layers"), [""; 0]);
    assert_eq!(motd(target.path()), "hello\n", "what is mounted stays until it is unmounted");
    Mount::unmount(target.path()).unwrap();
}

/// A process in another mount namespace sees no mount of ours, and makes its own.
#[tokio::test(flavor = "multi_thread")]
async fn mount_namespaces_do_not_disturb_each_other() {
    let registry = FakeRegistry::start(Content::of(10_000), |_, answer| answer);
    let store = Store::new();
    let image = store.pull(&registry.name()).await;
    let root = store.root();
    let (here, elsewhere) = (store.store.clone(), image.clone());
    std::thread::spawn(move || {
        knarr_sys::namespace::unshare(knarr_sys::namespace::Kind::Mount.clone_flag()).unwrap();
        let private =
            rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let mounts = here.prepare("elsewhere", &elsewhere).unwrap();
        let target = tempfile::tempdir().unwrap();
        mounts[0].mount_at(target.path()).unwrap();
        assert_eq!(motd(target.path()), "hello\n");
        Mount::unmount(target.path()).unwrap();
    })
    .join()
    .unwrap();
    assert_eq!(mounts_beneath(&root), [""; 0]);
    let mounts = store.store.mounts("elsewhere").unwrap();
    store.with_mount(&mounts, |root| assert_eq!(motd(root), "hello\n"));
    store.store.remove_snapshot("elsewhere").unwrap();
    store.store.remove(&image).unwrap();
    assert_eq!(mounts_beneath(&root), [""; 0]);
}

/// A file in memory cannot be mounted from, as no file can before Linux 6.12: a loop device stands for it, and goes with
/// the mount.
#[tokio::test(flavor = "multi_thread")]
async fn where_a_file_cannot_be_mounted_a_loop_device_stands_for_it() {
    if !Path::new("/dev/loop-control").exists() {
        return crate::lab::skip("layer_mounts", "no loop devices here");
    }
    let dir = tempfile::tempdir_in("/dev/shm").unwrap();
    let tree = crate::lab::busybox_tree();
    let store = ImageStore::open(dir.path()).unwrap();
    let image = store.import(tree.path(), "base:1", knarr_images::ImportConfig::default()).unwrap();
    let mounts = store.prepare("one", &image).unwrap();
    if mounts_beneath(dir.path()).is_empty() {
        return crate::lab::skip("layer_mounts", "this kernel mounts EROFS from no loop device");
    }
    let all = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let layer = all.lines().find(|line| line.contains(&*dir.path().to_string_lossy())).unwrap();
    let device = layer.split(' ').next().unwrap().to_owned();
    assert!(device.starts_with("/dev/loop"), "{layer}");
    let target = tempfile::tempdir().unwrap();
    mounts.iter().for_each(|mount| mount.mount_at(target.path()).unwrap());
    assert_eq!(std::fs::read_to_string(target.path().join("etc/motd")).unwrap(), "hello from knarr\n");
    Mount::unmount(target.path()).unwrap();
    store.remove_snapshot("one").unwrap();
    store.unmount_layers().unwrap();
    let backing = format!("/sys/block/{}/loop/backing_file", device.trim_start_matches("/dev/"));
    crate::eventually::eventually("the device is free", || {
        !std::fs::read_to_string(&backing).is_ok_and(|file| file.contains(&*dir.path().to_string_lossy()))
    });
}
