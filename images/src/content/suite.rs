//! What every content store must do.

use super::*;
use crate::error::ErrorKind;
use std::io::Read;

fn conforms(store: &dyn ContentStore) {
    let data = b"hello blob".to_vec();
    let digest = Digest::of(&data);
    assert_eq!(store.stat(&digest).unwrap(), None);
    assert_eq!(store.open(&digest).unwrap_err().kind(), ErrorKind::NotFound);

    let mut ingest = store.ingest(&digest).unwrap().unwrap();
    ingest.write(&data[..4]).unwrap();
    drop(ingest);
    assert_eq!(store.stat(&digest).unwrap(), None, "half a blob has no name");

    let mut ingest = store.ingest(&digest).unwrap().unwrap();
    assert_eq!(ingest.kept(), 4, "half a blob is kept");
    let mut buffer = [0; 64];
    assert_eq!(ingest.replay(&mut buffer).unwrap(), 4);
    assert_eq!(ingest.replay(&mut buffer).unwrap(), 0);
    ingest.write(&data[4..]).unwrap();
    ingest.commit(10).unwrap();
    assert_eq!(store.stat(&digest).unwrap(), Some(10));
    let mut read = Vec::new();
    store.open(&digest).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, data);
    assert!(store.ingest(&digest).unwrap().is_none(), "written once");
    assert_eq!(store.walk().unwrap(), [(digest.clone(), 10)]);

    let other = Digest::of(b"other");
    for (bytes, size) in [(&b"wrong"[..], 5), (b"other", 4), (b"other!", 5)] {
        let mut ingest = store.ingest(&other).unwrap().unwrap();
        assert_eq!(ingest.kept(), 0, "what was wrong is not kept");
        ingest.write(bytes).unwrap();
        assert_eq!(ingest.commit(size).unwrap_err().kind(), ErrorKind::Mismatch);
        assert_eq!(store.stat(&other).unwrap(), None);
    }
    drop(store.ingest(&other).unwrap().unwrap());
    put(store, b"other").unwrap();
    assert_eq!(put(store, b"other").unwrap(), other);

    store.remove(&digest).unwrap();
    store.remove(&digest).unwrap();
    assert_eq!(store.stat(&digest).unwrap(), None);
}

/// Many writers of one blob: one writes, the others wait and find it.
fn writes_once(store: &dyn ContentStore) {
    let data = vec![7u8; 1 << 16];
    let digest = Digest::of(&data);
    let wrote = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                if let Some(mut ingest) = store.ingest(&digest).unwrap() {
                    wrote.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    ingest.write(&data).unwrap();
                    ingest.commit(1 << 16).unwrap();
                }
                assert_eq!(store.stat(&digest).unwrap(), Some(1 << 16));
            });
        }
    });
    assert_eq!(wrote.into_inner(), 1);
}

#[test]
fn directory_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobDirectory::open(dir.path()).unwrap();
    conforms(&store);
    writes_once(&store);
    assert_eq!(std::fs::read_dir(dir.path().join("ingest")).unwrap().count(), 0, "nothing left behind");
}

#[test]
fn partial_blobs_are_forgotten_unless_somebody_writes() {
    let dir = tempfile::tempdir().unwrap();
    let store = BlobDirectory::open(dir.path()).unwrap();
    let (kept, busy) = (Digest::of(b"kept"), Digest::of(b"busy"));
    store.ingest(&kept).unwrap().unwrap().write(b"ke").unwrap();
    let mut writer = store.ingest(&busy).unwrap().unwrap();
    writer.write(b"bu").unwrap();
    assert_eq!(store.forget_partial(std::time::Duration::from_secs(3600)).unwrap(), 0);
    assert_eq!(store.forget_partial(std::time::Duration::ZERO).unwrap(), 2);
    writer.write(b"sy").unwrap();
    writer.commit(4).unwrap();
}
