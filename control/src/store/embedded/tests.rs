//! The embedded store against the common suite, restarts, many writers at once and random histories.

use super::super::{Event, EventKind, suite};
use super::*;
use crate::store::ListQuery;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn draft(value: i64) -> Draft {
    Draft::of(&json!({"kind": "T", "metadata": {"name": "x"}, "value": value}))
}

fn open(directory: &Path) -> Embedded {
    Embedded::open(&directory.join("store.redb")).unwrap()
}

#[test]
fn holds_the_common_suite() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(suite::run(&open(directory.path())));
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let revision = runtime().block_on(async {
        let store = open(directory.path());
        let kept = store.create("t/a/1", draft(1)).await.unwrap();
        store.update("t/a/1", kept.revision, draft(2)).await.unwrap();
        let gone = store.create("t/a/2", draft(1)).await.unwrap();
        store.delete("t/a/2", gone.revision, draft(1)).await.unwrap();
        store.revision()
    });
    runtime().block_on(async {
        let store = open(directory.path());
        assert_eq!(store.revision(), revision);
        assert_eq!(store.get("t/a/1").await.unwrap().unwrap().object()["value"], 2);
        assert!(store.get("t/a/2").await.unwrap().is_none());
        assert!(matches!(store.watch("t/a/", revision - 1), Err(StoreError::Compacted { .. })));
        assert!(store.create("t/a/3", draft(3)).await.unwrap().revision > revision);
    });
}

#[test]
fn a_closed_store_refuses_writes() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = open(directory.path());
        store.close();
        assert!(matches!(store.create("t/a/1", draft(1)).await, Err(StoreError::Unavailable(_))));
    });
}

/// Each writer adds one to the same object until it succeeded twenty times: no increment may be lost.
#[test]
fn concurrent_writers_never_lose_an_update() {
    let directory = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let store = Arc::new(open(directory.path()));
        store.create("t/counter/c", draft(0)).await.unwrap();
        let mut watch = store.watch("t/counter/", store.revision()).unwrap();
        let writers: Vec<_> = (0..8).map(|_| tokio::spawn(increment(store.clone(), 20))).collect();
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(store.get("t/counter/c").await.unwrap().unwrap().object()["value"], 160);
        let mut seen = Vec::new();
        while seen.len() < 160 {
            seen.extend(
                watch.next().await.unwrap().iter().map(|event| event.entry.object()["value"].clone()),
            );
        }
        assert_eq!(seen, (1..=160).map(|value| json!(value)).collect::<Vec<_>>());
    });
}

async fn increment(store: Arc<Embedded>, times: usize) {
    let mut done = 0;
    while done < times {
        let entry = store.get("t/counter/c").await.unwrap().unwrap();
        let next = entry.object()["value"].as_i64().unwrap() + 1;
        match store.update("t/counter/c", entry.revision, draft(next)).await {
            Ok(_) => done += 1,
            Err(StoreError::Conflict) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

type Model = BTreeMap<String, i64>;

fn apply(model: &mut Model, event: &Event) {
    let value = event.entry.object()["value"].as_i64().unwrap();
    match event.kind {
        EventKind::Deleted => model.remove(event.entry.name()),
        EventKind::Added | EventKind::Modified => model.insert(event.entry.name().to_owned(), value),
    };
}

async fn listed(store: &Embedded, revision: Revision) -> Model {
    let query = ListQuery { prefix: "t/random/", revision: Some(revision), ..ListQuery::default() };
    let page = store.list(query).await.unwrap();
    page.entries
        .iter()
        .map(|entry| (entry.name().to_owned(), entry.object()["value"].as_i64().unwrap()))
        .collect()
}

/// Writes (key, value) pairs; a value of 0 deletes. Gives the state after every revision.
async fn play(store: &Embedded, steps: &[(u8, i64)]) -> BTreeMap<Revision, Model> {
    let mut model = Model::new();
    let mut states = BTreeMap::from([(store.revision(), model.clone())]);
    for (key, value) in steps {
        let (name, path) = (key.to_string(), format!("t/random/{key}"));
        let current = store.get(&path).await.unwrap();
        let written = match (current, value) {
            (None, 0) => continue,
            (Some(entry), 0) => store.delete(&path, entry.revision, draft(0)).await,
            (Some(entry), value) => store.update(&path, entry.revision, draft(*value)).await,
            (None, value) => store.create(&path, draft(*value)).await,
        };
        if *value == 0 {
            model.remove(&name)
        } else {
            model.insert(name, *value)
        };
        states.insert(written.unwrap().revision, model.clone());
    }
    states
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn list_and_watch_equal_the_store_at_every_revision(
        steps in proptest::collection::vec((0u8..6, 0i64..4), 1..40),
    ) {
        let directory = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let store = open(directory.path());
            let states = play(&store, &steps).await;
            for (start, state) in &states {
                assert_eq!(&listed(&store, *start).await, state, "list at {start}");
                let mut followed = state.clone();
                let mut watch = store.watch("t/random/", *start).unwrap();
                for event in watch.take().unwrap() {
                    apply(&mut followed, &event);
                    assert_eq!(&followed, &states[&event.revision()], "watch from {start}");
                }
                assert_eq!(Some(&followed), states.values().last());
            }
        });
    }
}

/// Tells the test below that it runs as its own child, and where.
const CHILD_STORE: &str = "KNARR_TEST_STORE";

/// The child: writes from four tasks, and says on its standard output which writes were acknowledged, until it is
/// killed.
async fn write_until_killed(directory: &Path) {
    use std::io::Write as _;
    let store = Arc::new(open(directory));
    let round = store.revision();
    let writers = (0..4).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for index in 0.. {
                let key = format!("t/kill/{round}-{writer}-{index}");
                let entry = store.create(&key, draft(index)).await.unwrap();
                let line = format!("ack {key} {}\n", entry.revision);
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        })
    });
    futures_util::future::join_all(writers).await;
}

#[test]
fn a_kill_loses_nothing_that_was_acknowledged() {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    if let Some(directory) = std::env::var_os(CHILD_STORE) {
        return runtime().block_on(write_until_killed(Path::new(&directory)));
    }
    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(String, Revision)> = Vec::new();
    for round in 1..=4 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "store::embedded::tests::a_kill_loses_nothing_that_was_acknowledged",
                "--nocapture",
            ])
            .env(CHILD_STORE, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        for line in lines {
            if let Some((key, revision)) = line.strip_prefix("ack ").and_then(|rest| rest.split_once(' ')) {
                acknowledged.push((key.to_owned(), revision.parse().unwrap()));
            }
            if acknowledged.len() >= round * 40 {
                child.kill().ok();
            }
        }
        child.wait().unwrap();
        let store = open(directory.path());
        runtime().block_on(async {
            for (key, revision) in &acknowledged {
                let entry = store.get(key).await.unwrap().unwrap_or_else(|| panic!("{key} is lost"));
                assert_eq!(entry.revision, *revision, "{key}");
            }
            assert!(store.revision() >= acknowledged.iter().map(|(_, revision)| *revision).max().unwrap());
        });
    }
}
