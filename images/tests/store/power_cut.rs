//! The power fails: what was not synced is gone. The store lies on a file system in a file; a copy of that file shows
//! what the disk had at that moment, without the page cache of the living file system.

use crate::eventually::eventually;
use crate::fake_registry::{Content, FakeRegistry};
use crate::lab::{run, skip};
use knarr_images::{Image, ImageStore, Mount, Pull};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = "KNARR_TEST_POWER_CUT_ROOT";
const NAME: &str = "KNARR_TEST_POWER_CUT_NAME";
const NOISE: usize = 2_000_000;

/// A mounted file system in a file.
struct Disk {
    file: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// None where this machine has no loop devices.
    fn make(dir: &Path) -> Option<Self> {
        let (file, at) = (dir.join("disk"), dir.join("mounted"));
        std::fs::File::create(&file).unwrap().set_len(96 << 20).unwrap();
        run("mkfs.ext4", &["-q", "-F", file.to_str().unwrap()]);
        // The journal is committed by syncs alone, not by time.
        Self::mount(file, at, "loop,commit=600")
    }

    fn mount(file: PathBuf, at: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let arguments = ["-o", options, file.to_str().unwrap(), at.to_str().unwrap()];
        let mounted = Command::new("mount").args(arguments).output().unwrap();
        mounted.status.success().then_some(Self { file, at })
    }

    /// The disk as it would be found after the power came back.
    fn after_power_cut(&self, dir: &Path, round: u64) -> Self {
        // One of its own each time: the last one's device may be busy for a moment after the unmount.
        let copy = dir.join(format!("copy{round}"));
        run("cp", &["--sparse=always", self.file.to_str().unwrap(), copy.to_str().unwrap()]);
        let cut = Self::mount(copy, dir.join(format!("cut{round}")), "loop").unwrap();
        let boot = cut.root().join("boot");
        if boot.exists() {
            std::fs::write(boot, "another boot").unwrap();
        }
        cut
    }

    fn root(&self) -> PathBuf {
        self.at.join("images")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Mount::unmount(&self.at).unwrap();
    }
}

async fn pull(store: &ImageStore, reference: &str) -> Image {
    store.pull(Pull { reference: reference.to_owned(), ..Pull::default() }).await.unwrap()
}

/// Every listed image is whole, to the last byte; what is not listed is gone.
fn whole(disk: &Disk, scratch: &Path) -> usize {
    let store = ImageStore::open(&disk.root()).unwrap();
    let images = store.list().unwrap();
    for image in &images {
        let mounts = store.view("look", image).unwrap();
        let target = scratch.join("target");
        std::fs::create_dir_all(&target).unwrap();
        mounts[0].mount_at(&target).unwrap();
        assert_eq!(std::fs::read_to_string(target.join("etc/motd")).unwrap(), "hello\n");
        let noise = std::fs::read(target.join("noise")).unwrap();
        assert!(noise.len() == NOISE && noise.iter().filter(|byte| **byte == 0).count() < NOISE / 64);
        Mount::unmount(&target).unwrap();
        store.remove_snapshot("look").unwrap();
        store.save(&image.tags, knarr_images::Format::Oci, &mut std::io::sink()).unwrap();
    }
    let count = |part: &str| std::fs::read_dir(disk.root().join(part)).unwrap().count();
    eventually("what no image needs is gone", || {
        count("layers") == images.len() && count("staging") == 0 && count("trash") == 0
    });
    images.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_synced_is_not_listed() {
    if let Ok(root) = std::env::var(ROOT) {
        let store = ImageStore::open(root.as_ref()).unwrap();
        loop {
            let image = pull(&store, &std::env::var(NAME).unwrap()).await;
            store.remove(&image).unwrap();
        }
    }
    let registry = FakeRegistry::start(Content::of(NOISE), |_, answer| answer);
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::make(dir.path()) else { return skip("power_cut", "no loop devices") };
    for round in 0..12u64 {
        let before = registry.requests("/manifests/").len();
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "power_cut::what_was_not_synced_is_not_listed"])
            .env(ROOT, disk.root())
            .env(NAME, registry.name())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        eventually("the victim works", || registry.requests("/manifests/").len() > before);
        let until = Instant::now() + Duration::from_millis(round * 13);
        while Instant::now() < until {
            std::thread::yield_now();
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        whole(&disk.after_power_cut(dir.path(), round), dir.path());
        std::fs::remove_file(dir.path().join(format!("copy{round}"))).unwrap();
    }
    // What a pull has returned is there, whatever happens next.
    let store = ImageStore::open(&disk.root()).unwrap();
    pull(&store, &registry.name()).await;
    assert_eq!(whole(&disk.after_power_cut(dir.path(), 100), dir.path()), 1);
}
