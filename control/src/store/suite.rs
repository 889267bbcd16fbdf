//! What every [`Store`] must hold, as one list of checks that each implementation runs.

use super::{Draft, EventKind, ListQuery, Store, StoreError};
use serde_json::{Value, json};

fn draft(value: i64) -> Draft {
    Draft::of(&json!({"kind": "T", "metadata": {"name": "x"}, "value": value}))
}

fn value(entry: &super::Entry) -> i64 {
    entry.object()["value"].as_i64().unwrap()
}

/// Runs every check on a store that may already hold other resources.
pub(super) async fn run(store: &dyn Store) {
    writes_are_conditional(store).await;
    revisions_grow_and_are_in_the_object(store).await;
    lists_page_in_key_order(store).await;
    lists_show_old_revisions(store).await;
    watches_give_every_change_in_order(store).await;
    watches_see_their_prefix_only(store).await;
    objects_are_found_and_followed_by_their_indexed_field(store).await;
    snapshots_are_of_one_revision(store).await;
    compacted_revisions_are_refused(store).await;
    the_future_is_refused(store).await;
}

async fn writes_are_conditional(store: &dyn Store) {
    let key = "suite/conditional/ns/a";
    let first = store.create(key, draft(1)).await.unwrap();
    assert!(matches!(store.create(key, draft(2)).await, Err(StoreError::Exists)));
    assert!(matches!(store.update(key, first.revision + 9, draft(2)).await, Err(StoreError::Conflict)));
    let second = store.update(key, first.revision, draft(2)).await.unwrap();
    assert!(matches!(store.delete(key, first.revision, draft(2)).await, Err(StoreError::Conflict)));
    assert_eq!(value(&store.get(key).await.unwrap().unwrap()), 2);
    store.delete(key, second.revision, draft(2)).await.unwrap();
    assert!(store.get(key).await.unwrap().is_none());
    assert!(matches!(store.update(key, second.revision, draft(3)).await, Err(StoreError::NotFound)));
    assert!(matches!(store.delete(key, second.revision, draft(3)).await, Err(StoreError::NotFound)));
}

async fn revisions_grow_and_are_in_the_object(store: &dyn Store) {
    let before = store.revision();
    let entry = store.create("suite/revisions/a", draft(1)).await.unwrap();
    assert!(entry.revision > before);
    assert_eq!(store.revision(), entry.revision);
    assert_eq!(entry.object()["metadata"]["resourceVersion"], Value::String(entry.revision.to_string()));
    store.wait_for(entry.revision).await;
}

async fn lists_page_in_key_order(store: &dyn Store) {
    for name in ["b", "a", "d", "c"] {
        store.create(&format!("suite/pages/ns/{name}"), draft(1)).await.unwrap();
    }
    store.create("suite/pages/other/e", draft(1)).await.unwrap();
    let query = ListQuery { prefix: "suite/pages/ns/", limit: Some(3), ..ListQuery::default() };
    let first = store.list(query).await.unwrap();
    let names =
        |page: &super::Page| page.entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>();
    assert_eq!((names(&first), first.remaining), (vec!["a".into(), "b".into(), "c".into()], 1));
    let rest = ListQuery { after: Some("suite/pages/ns/c"), revision: Some(first.revision), ..query };
    let second = store.list(rest).await.unwrap();
    assert_eq!((names(&second), second.remaining, second.revision), (vec!["d".into()], 0, first.revision));
}

async fn lists_show_old_revisions(store: &dyn Store) {
    let changed = store.create("suite/old/ns/changed", draft(1)).await.unwrap();
    let deleted = store.create("suite/old/ns/deleted", draft(1)).await.unwrap();
    let then = store.revision();
    store.update("suite/old/ns/changed", changed.revision, draft(2)).await.unwrap();
    store.delete("suite/old/ns/deleted", deleted.revision, draft(1)).await.unwrap();
    store.create("suite/old/ns/added", draft(3)).await.unwrap();
    let query = ListQuery { prefix: "suite/old/", revision: Some(then), ..ListQuery::default() };
    let page = store.list(query).await.unwrap();
    let found: Vec<_> = page.entries.iter().map(|entry| (entry.name(), value(entry))).collect();
    assert_eq!(found, [("changed", 1), ("deleted", 1)]);
}

async fn watches_give_every_change_in_order(store: &dyn Store) {
    let key = "suite/watch/ns/a";
    let from = store.revision();
    let mut watch = store.watch("suite/watch/", from).unwrap();
    let first = store.create(key, draft(1)).await.unwrap();
    let second = store.update(key, first.revision, draft(2)).await.unwrap();
    let third = store.delete(key, second.revision, draft(2)).await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        seen.extend(watch.next().await.unwrap().iter().map(|event| (event.kind, event.revision())));
    }
    let expected = [
        (EventKind::Added, first.revision),
        (EventKind::Modified, second.revision),
        (EventKind::Deleted, third.revision),
    ];
    assert_eq!(seen, expected);
    assert_eq!(watch.progress(), Some(store.revision()));
    let mut late = store.watch("suite/watch/", first.revision).unwrap();
    let revisions: Vec<_> = late.next().await.unwrap().iter().map(|event| event.revision()).collect();
    assert_eq!(revisions, [second.revision, third.revision]);
}

async fn watches_see_their_prefix_only(store: &dyn Store) {
    let mut watch = store.watch("suite/prefix/ns/", store.revision()).unwrap();
    store.create("suite/prefix/nsother/a", draft(1)).await.unwrap();
    store.create("suite/other/ns/a", draft(1)).await.unwrap();
    store.create("suite/prefix/ns/b", draft(1)).await.unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!(events.iter().map(|event| &*event.entry.key).collect::<Vec<_>>(), ["suite/prefix/ns/b"]);
    assert!(watch.take().unwrap().is_empty());
}

async fn compacted_revisions_are_refused(store: &dyn Store) {
    let first = store.create("suite/compact/a", draft(1)).await.unwrap();
    let second = store.update("suite/compact/a", first.revision, draft(2)).await.unwrap();
    let mut behind = store.watch("suite/compact/", first.revision - 1).unwrap();
    store.compact(second.revision).await.unwrap();
    assert!(matches!(store.watch("suite/compact/", first.revision), Err(StoreError::Compacted { .. })));
    assert!(matches!(behind.next().await, Err(StoreError::Compacted { .. })));
    assert!(store.watch("suite/compact/", second.revision).is_ok());
}

async fn the_future_is_refused(store: &dyn Store) {
    let ahead = store.revision() + 1000;
    assert!(matches!(store.watch("suite/future/", ahead), Err(StoreError::Future { .. })));
    let query = ListQuery { prefix: "suite/future/", revision: Some(ahead), ..ListQuery::default() };
    assert!(matches!(store.list(query).await, Err(StoreError::Future { .. })));
}

async fn objects_are_found_and_followed_by_their_indexed_field(store: &dyn Store) {
    let pod = |node: &str| {
        Draft::of(&json!({"kind": "Pod", "metadata": {"name": "x"}, "spec": {"nodeName": node}}))
    };
    let key = |name: &str| format!("core/pods/suite/{name}");
    let prefix = "core/pods/suite/";
    let from = store.revision();
    let mut own = store.watch_where(prefix, "n1", from).unwrap();
    let mut unbound = store.watch_where(prefix, "", from).unwrap();
    let first = store.create(&key("a"), pod("")).await.unwrap();
    store.create(&key("b"), pod("n2")).await.unwrap();
    let bound = store.update(&key("a"), first.revision, pod("n1")).await.unwrap();
    let deleted = store.delete(&key("a"), bound.revision, pod("n1")).await.unwrap();
    let last = store.create(&key("c"), pod("n1")).await.unwrap();
    store.wait_for(last.revision).await;
    let events = |watch: &mut super::Watch| {
        let events = watch.take().unwrap();
        events.iter().map(|event| (event.kind, event.revision())).collect::<Vec<_>>()
    };
    let expected = [
        (EventKind::Modified, bound.revision),
        (EventKind::Deleted, deleted.revision),
        (EventKind::Added, last.revision),
    ];
    assert_eq!(events(&mut own), expected);
    assert_eq!(
        events(&mut unbound),
        [(EventKind::Added, first.revision), (EventKind::Modified, bound.revision)]
    );
    let named =
        |page: super::Page| page.entries.iter().map(|entry| entry.name().to_owned()).collect::<Vec<_>>();
    let query = ListQuery { prefix, indexed: Some("n1"), ..ListQuery::default() };
    assert_eq!(named(store.list(query).await.unwrap()), ["c"]);
    let other = ListQuery { indexed: Some("n2"), ..query };
    assert_eq!(named(store.list(other).await.unwrap()), ["b"]);
    assert!(named(store.list(ListQuery { prefix: "core/pods/other/", ..query }).await.unwrap()).is_empty());
    let late = store.watch_where(prefix, "n1", first.revision).unwrap().take().unwrap();
    assert_eq!(late.len(), 3, "a watcher that comes late gets what it missed");
}

async fn snapshots_are_of_one_revision(store: &dyn Store) {
    store.create("suite/snapshot/a", draft(1)).await.unwrap();
    let (revision, entries) = store.snapshot().unwrap();
    assert!(entries.iter().any(|entry| &*entry.key == "suite/snapshot/a"));
    assert!(entries.iter().all(|entry| entry.revision <= revision));
    assert!(entries.is_sorted_by_key(|entry| entry.key.clone()));
}
