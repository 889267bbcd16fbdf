//! A large layer costs no more memory than a small one, and no byte on the disk that does not stay there.

use crate::eventually::within;
use crate::fake_registry::{Answer, Content, FakeRegistry, gzip};
use crate::lab::Store;
use knarr_images::{ImageStore, LayerKind, Options, Pull};
use ring::digest::{Context, SHA256};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const ROOT: &str = "KNARR_TEST_LARGE_ROOT";
const NAME: &str = "KNARR_TEST_LARGE_NAME";
const KIND: &str = "KNARR_TEST_LARGE_KIND";
/// Megabytes of the layer; `make soak` takes more.
const SIZE: &str = "KNARR_TEST_LARGE_MB";
const PIECE: usize = 8 << 20;
const LONGEST: Duration = Duration::from_secs(600);

/// Kilobytes that this process has had in memory at most.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

async fn pull_in_a_process_of_its_own(root: &Path) {
    let layers = match std::env::var(KIND).unwrap().as_str() {
        "Directory" => LayerKind::Directory,
        _ => LayerKind::Erofs,
    };
    let before = peak();
    let store =
        ImageStore::open_with(&root.join("images"), Options { layers, ..Options::default() }).unwrap();
    store.pull(Pull { reference: std::env::var(NAME).unwrap(), ..Pull::default() }).await.unwrap();
    std::fs::write(root.join("peak"), format!("{before} {}", peak())).unwrap();
}

/// A layer of one large file that shrinks to about a half, in pieces: the compressed ones, and what they add up to.
fn large(megabytes: usize) -> (Vec<Arc<Vec<u8>>>, Content) {
    let mut state = 1u64;
    let half_noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0] & 0x0f | 0x40
    });
    let piece: Vec<u8> = half_noise.take(PIECE).collect();
    let count = megabytes * (1 << 20) / PIECE;
    let mut header = tar::Header::new_gnu();
    header.set_path("large").unwrap();
    header.set_size((count * PIECE) as u64);
    header.set_mode(0o644);
    header.set_cksum();
    let plain = [vec![&header.as_bytes()[..]], vec![&piece[..]; count], vec![&[0; 1024][..]]].concat();
    let packed = Arc::new(gzip(&piece));
    let ends = [header.as_bytes(), &[0; 1024][..]].map(|bytes| Arc::new(gzip(bytes)));
    let pieces = [vec![ends[0].clone()], vec![packed; count], vec![ends[1].clone()]].concat();
    let content = Content {
        layer: Vec::new(),
        diff_id: sha256(plain.into_iter()),
        size: Some(pieces.iter().map(|piece| piece.len() as u64).sum()),
        digest: Some(sha256(pieces.iter().map(|piece| &piece[..]))),
    };
    (pieces, content)
}

fn sha256<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> String {
    let mut context = Context::new(&SHA256);
    pieces.for_each(|piece| context.update(piece));
    context.finish().as_ref().iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Bytes that a store takes. What moves meanwhile is looked for first where it goes: it may be missed, never counted
/// twice.
fn taken(root: &Path) -> u64 {
    fn of(path: &Path) -> u64 {
        use std::os::unix::fs::MetadataExt;
        let Ok(meta) = std::fs::symlink_metadata(path) else { return 0 };
        let below = std::fs::read_dir(path).into_iter().flatten().flatten();
        meta.blocks() * 512 + below.map(|entry| of(&entry.path())).sum::<u64>()
    }
    ["blobs", "layers", "ingest", "staging"].iter().map(|part| of(&root.join(part))).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_layer_takes_little_memory_and_no_second_copy() {
    if let Some(root) = std::env::var_os(ROOT) {
        return pull_in_a_process_of_its_own(root.as_ref()).await;
    }
    let megabytes = std::env::var(SIZE).ok().map_or(256, |text| text.parse().unwrap());
    let (pieces, content) = large(megabytes);
    let path = format!("/v2/repo/blobs/{}", content.digest.clone().unwrap());
    let registry = FakeRegistry::start(content, move |request, answer| match request.path == path {
        true => Answer::pieces(pieces.clone()),
        false => answer,
    });
    for kind in ["Directory", "Erofs"] {
        let (store, elsewhere) = (Store::new(), tempfile::tempdir().unwrap());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::a_large_layer_takes_little_memory_and_no_second_copy"])
            .env(ROOT, store.dir.path())
            .env(NAME, registry.name())
            .env(KIND, kind)
            .env("TMPDIR", elsewhere.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut most = 0;
        within(LONGEST, "the pull ends", || {
            most = most.max(taken(&store.root()));
            assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "a temporary file");
            child.try_wait().unwrap().is_some()
        });
        assert!(child.wait().unwrap().success());
        let left = taken(&store.root());
        let layer = (megabytes as u64) << 20;
        assert!(left > layer && most <= left + (16 << 20), "{kind}: {most} bytes at most, {left} in the end");
        let said = std::fs::read_to_string(store.dir.path().join("peak")).unwrap();
        let peak: u64 = said.split(' ').next_back().unwrap().parse().unwrap();
        assert!(peak < 64 << 10, "{kind}: {said} kB in memory (before and at most)");
    }
}
