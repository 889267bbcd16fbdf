//! What stays of the history, and how pages are cut, without a disk.

use super::*;
use crate::store::Draft;
use serde_json::json;

fn event(key: &str, revision: Revision, text: &str) -> Event {
    let draft = Draft::of(&json!({"metadata": {"name": "x"}, "text": text}));
    let entry = Arc::new(Entry::of(key.into(), revision, draft));
    Event::new(EventKind::Added, entry, None)
}

#[test]
fn a_burst_is_remembered_until_it_is_old() {
    let cache = Cache::new(0, []);
    let text = "x".repeat(1 << 20);
    for revision in 1..=40 {
        cache.publish(vec![event("core/pods/ns/p", revision, &text)]);
    }
    assert!(cache.watch("core/pods/", 0, None).is_ok(), "40 MB, all of them new");
    for revision in 41..=120 {
        cache.publish(vec![event("core/pods/ns/p", revision, &text)]);
    }
    assert!(cache.watch("core/pods/", 0, None).is_err(), "too much even so");
    assert!(cache.watch("core/pods/", 60, None).is_ok());
    cache.shrink(Instant::now() + NEW);
    assert!(cache.watch("core/pods/", 100, None).is_err());
    assert!(cache.watch("core/pods/", 110, None).is_ok());
    let swollen = || cache.swollen.lock().unwrap().len();
    assert_eq!(swollen(), 0);
    cache.publish((121..=140).map(|revision| event("core/pods/ns/p", revision, &text)).collect());
    assert_eq!(swollen(), 1, "another burst");
    cache.publish(vec![event("core/leases/ns/l", 141, "")]);
    assert_eq!(swollen(), 1, "once");
}

#[test]
fn pages_go_on_for_five_minutes_and_watches_longer() {
    let cache = Cache::new(0, []);
    let long_ago = Instant::now().checked_sub(Duration::from_secs(301)).unwrap();
    cache.list_age.lock().unwrap().published(long_ago, 2);
    cache.publish(vec![event("core/pods/ns/p", 1, "")]);
    cache.publish(vec![event("core/leases/ns/l", 2, "")]);
    cache.publish(vec![event("core/leases/ns/l", 3, "")]);
    let at = |revision| ListQuery { prefix: "core/pods/", revision: Some(revision), ..ListQuery::default() };
    assert!(matches!(cache.list(at(1)), Err(StoreError::Compacted { wanted: 1, oldest: 2 })));
    assert_eq!(names(&cache.list(at(2)).unwrap()), ["p"]);
    assert!(cache.watch("core/pods/", 1, None).is_ok());
}

fn names(page: &Page) -> Vec<&str> {
    page.entries.iter().map(|entry| entry.name()).collect()
}

#[test]
fn pages_know_how_many_follow_without_counting() {
    let cache = Cache::new(0, []);
    let key = |name: &str| format!("core/pods/ns/{name}");
    let made = ["a", "b", "c", "e", "f"].into_iter().zip(1..);
    cache.publish(made.map(|(name, revision)| event(&key(name), revision, "")).collect());
    let query = ListQuery { prefix: "core/pods/", limit: Some(2), ..ListQuery::default() };
    let first = cache.list(query).unwrap();
    assert_eq!((names(&first), first.remaining, first.revision), (vec!["a", "b"], 3, 5));
    let gone = cache.get(&key("c")).unwrap();
    let last = Arc::new(Entry::new(gone.key.clone(), 7, gone.value.clone()));
    cache.publish(vec![event(&key("d"), 6, ""), Event::new(EventKind::Deleted, last, Some(gone))]);
    let now = ListQuery { after: Some("core/pods/ns/b"), left: Some(first.remaining), ..query };
    let page = cache.list(now).unwrap();
    assert_eq!((names(&page), page.remaining), (vec!["d", "e"], 1));
    let then = ListQuery { revision: Some(5), ..now };
    let page = cache.list(then).unwrap();
    assert_eq!((names(&page), page.remaining, page.revision), (vec!["c", "e"], 1, 5), "as it was");
    let page = cache.list(ListQuery { after: Some("core/pods/ns/e"), left: Some(1), ..then }).unwrap();
    assert_eq!((names(&page), page.remaining), (vec!["f"], 0));
    let wrong = ListQuery { left: Some(1), ..then };
    assert_eq!(cache.list(wrong).unwrap().remaining, 1, "more follow, whatever the page before said");
    assert_eq!(cache.list(ListQuery { left: None, ..then }).unwrap().remaining, 1, "counted");
}
