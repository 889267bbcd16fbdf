//! Backups of a store that goes on being written, and files that are not what they should be.

use super::*;
use crate::store::{Draft, StoreError};

fn draft(value: usize) -> Draft {
    Draft::of(&json!({"kind": "T", "apiVersion": "v1", "metadata": {"name": "x"}, "value": value}))
}

async fn bytes(store: &dyn Store) -> Vec<u8> {
    use http_body_util::BodyExt as _;
    stream(store).unwrap().into_body().collect().await.unwrap().to_bytes().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_is_the_one_that_was_saved() {
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(Embedded::open(&directory.path().join("store.redb")).unwrap());
    for number in 0..50 {
        store.create(&format!("core/t/ns/{number:03}"), draft(number)).await.unwrap();
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for number in 50..150 {
                store.create(&format!("core/u/ns/{number:03}"), draft(number)).await.unwrap();
            }
        }
    });
    let saved = bytes(&*store).await;
    writer.await.unwrap();
    let file = directory.path().join("backup");
    std::fs::write(&file, [b"{\"file\":\"ca.key\",\"content\":\"c2VjcmV0\"}\n".as_slice(), &saved].concat())
        .unwrap();
    let target = directory.path().join("restored");
    let summary = restore(&file, &target, false).unwrap();
    assert_eq!(std::fs::read(target.join("pki/ca.key")).unwrap(), b"secret");
    let again = Embedded::open(&target.join("store.redb")).unwrap();
    let (revision, entries) = again.snapshot().unwrap();
    assert_eq!(revision, summary.revision + LEAP);
    assert_eq!(entries.len() as u64, summary.objects);
    assert!(entries.len() >= 50, "everything acknowledged before it began");
    for entry in &entries {
        assert!(entry.revision <= summary.revision);
        let before = store.get(&entry.key).await.unwrap().unwrap();
        assert_eq!((before.revision, before.object()), (entry.revision, entry.object()));
    }
    let stale = again.watch("core/t/", summary.revision);
    assert!(matches!(stale, Err(StoreError::Compacted { .. })), "old watchers must list again");
    let next = again.create("core/t/ns/new", draft(1)).await.unwrap();
    assert_eq!(next.revision, revision + 1);
    assert!(restore(&file, &target, false).unwrap_err().to_string().contains("--force"));
    drop(again);
    restore(&file, &target, true).unwrap();
    assert!(target.join("store.redb.before-restore").exists());
}

#[tokio::test]
async fn a_broken_backup_restores_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Embedded::open(&directory.path().join("store.redb")).unwrap();
    for number in 0..3 {
        store.create(&format!("core/t/ns/{number}"), draft(number)).await.unwrap();
    }
    let whole = bytes(&store).await;
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let text = |lines: &[&[u8]]| lines.concat();
    let changed =
        String::from_utf8(whole.clone()).unwrap().replace("\"value\":1", "\"value\":7").into_bytes();
    let cases = [
        (text(&lines[..lines.len() - 1]), "cut off"),
        (text(&[lines[0], lines[1], lines[4]]), "objects of 3"),
        (changed, "digest"),
        ([&whole[..], b"{}\n"].concat(), "goes on after its end"),
        ([b"{\"file\":\"../x\",\"content\":\"\"}\n", &whole[..]].concat(), "names a file"),
        (b"nonsense".to_vec(), "no JSON"),
    ];
    for (number, (content, fault)) in cases.into_iter().enumerate() {
        let file = directory.path().join(format!("broken-{number}"));
        std::fs::write(&file, content).unwrap();
        let target = directory.path().join(format!("target-{number}"));
        let error = format!("{:#}", restore(&file, &target, false).unwrap_err());
        assert!(error.contains(fault), "{error}");
        assert!(!target.join("store.redb").exists() && !target.join("pki").exists(), "{fault}");
    }
}
