//! What clients build upon: no update is lost, every watcher sees every change once and in order however often it comes
//! back, and a list with the changes after it is the state.

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

const WRITERS: usize = 6;
const ROUNDS: usize = 15;

fn increment(object: &Value) -> Value {
    let count: usize = object["data"]["count"].as_str().unwrap().parse().unwrap();
    let mut next = object.clone();
    next["data"]["count"] = (count + 1).to_string().into();
    next
}

#[test]
fn concurrent_writers_lose_no_update() {
    let lab = lab();
    lab.post(CONFIG_MAPS, &json!({"metadata": {"name": "shared"}, "data": {"count": "0"}}));
    let path = format!("{CONFIG_MAPS}/shared");
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (lab, path) = (&lab, &path);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    // The version that was read goes along: whoever is late must read again.
                    while lab.put(path, &increment(&lab.get(path).body)).code == 409 {}
                    // A patch without a version never conflicts, and touches nothing else.
                    let own = json!({"data": {format!("writer-{writer}"): "was here"}});
                    assert_eq!(lab.patch(path, "merge", &own).code, 200);
                }
            });
        }
    });
    let last = lab.get(&path);
    assert_eq!(last.text("/data/count"), (WRITERS * ROUNDS).to_string());
    assert_eq!(last.at("/data").as_object().unwrap().len(), 1 + WRITERS);
}

/// One change as a watcher saw it.
type Seen = (u64, String, String);

/// Watches in pieces of a second, each from where the one before ended, until nothing is written any more and
/// nothing comes.
fn follow(lab: &Lab, from: &str, done: &AtomicBool) -> Vec<Seen> {
    let (mut seen, mut position) = (Vec::new(), from.to_owned());
    loop {
        let last_round = done.load(Ordering::SeqCst);
        let answer = lab.get(&format!("{CONFIG_MAPS}?watch=1&timeoutSeconds=1&resourceVersion={position}"));
        let text = match answer.body {
            Value::String(lines) => lines,
            // A single line reads as JSON.
            Value::Null => String::new(),
            one => one.to_string(),
        };
        let before = seen.len();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            position = event["object"]["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
            let text = |field: &Value| field.as_str().unwrap().to_owned();
            let name = text(&event["object"]["metadata"]["name"]);
            seen.push((position.parse().unwrap(), text(&event["type"]), name));
        }
        if last_round && seen.len() == before {
            return seen;
        }
    }
}

#[test]
fn every_watcher_sees_every_change_once_and_in_order() {
    let lab = lab();
    let start = lab.get(CONFIG_MAPS);
    let (from, done) = (start.text("/metadata/resourceVersion"), AtomicBool::new(false));
    let all = std::thread::scope(|scope| {
        let watchers: Vec<_> = (0..4).map(|_| scope.spawn(|| follow(&lab, &from, &done))).collect();
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let lab = &lab;
                scope.spawn(move || {
                    for round in 0..30 {
                        let name = format!("w{writer}-{}", round % 4);
                        match round % 3 {
                            0 => drop(lab.post(CONFIG_MAPS, &json!({"metadata": {"name": name}}))),
                            1 => {
                                let change = json!({"data": {"round": round.to_string()}});
                                drop(lab.patch(&format!("{CONFIG_MAPS}/{name}"), "merge", &change));
                            }
                            _ => drop(lab.delete(&format!("{CONFIG_MAPS}/{name}"), &Value::Null)),
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        watchers.into_iter().map(|watcher| watcher.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(!all[0].is_empty());
    assert!(all[0].is_sorted_by(|one, next| one.0 < next.0), "in order, none twice");
    assert!(all.iter().all(|seen| *seen == all[0]), "all the same");
    let mut state: BTreeMap<String, u64> = start.names().into_iter().map(|name| (name, 0)).collect();
    for (revision, kind, name) in &all[0] {
        match kind.as_str() {
            "ADDED" => assert_eq!(state.insert(name.clone(), *revision), None, "{name}@{revision}"),
            "MODIFIED" => assert!(state.insert(name.clone(), *revision).is_some(), "{name}@{revision}"),
            _ => assert!(state.remove(name).is_some(), "{name}@{revision}"),
        }
        let query = format!("{CONFIG_MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact");
        let listed = lab.get(&query);
        assert_eq!(listed.names(), state.keys().cloned().collect::<Vec<_>>(), "the list at {revision}");
    }
    assert_eq!(lab.get(CONFIG_MAPS).names(), state.into_keys().collect::<Vec<_>>());
}

#[test]
fn what_is_not_served_is_told_as_by_kubernetes() {
    let lab = lab();
    let page = "404 page not found\n";
    for path in ["/apis/none.example.com", "/apis/none.example.com/v1", "/apis/none.example.com/v1/things/a"]
    {
        let missing = lab.get(path);
        assert_eq!((missing.code, missing.body.as_str()), (404, Some(page)), "{path}");
    }
    for path in ["/apis/apps/v9/deployments", "/apis/apps/v1/things", "/api/v1/things"] {
        assert_eq!(lab.get(path).refusal().1, "the server could not find the requested resource", "{path}");
    }
    for path in [CONFIG_MAPS, &format!("{CONFIG_MAPS}/a")] {
        assert_eq!(lab.call("HEAD", path, "", &Value::Null).code, 405, "{path}");
    }
}

#[test]
fn evictions_come_in_two_versions() {
    let lab = lab();
    for version in ["v1", "v1beta1"] {
        lab.post(PODS, &pod("p"));
        let eviction =
            json!({"apiVersion": format!("policy/{version}"), "kind": "Eviction", "metadata": {"name": "p"}});
        let evicted = lab.post(&format!("{PODS}/p/eviction"), &eviction);
        assert_eq!(evicted.code, 201, "{evicted:?}");
    }
}
