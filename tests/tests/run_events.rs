//! `knarr events`: what docker's clients learn from `docker events`, without a daemon.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::run_lab::{Lab, named};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything that has happened, one line for each event that passes.
fn told(lab: &Lab, format: &str, filters: &[&str]) -> Vec<String> {
    let mut words = vec!["events", "--since", "0", "--until", "0s", "--format", format];
    words.extend(filters.iter().flat_map(|filter| ["--filter", filter]));
    lab.knarr(&words).lines().map(str::to_owned).collect()
}

#[test]
fn the_life_of_a_container_is_told() {
    let lab = Lab::new();
    let (web, shop) = (&*named("web"), &*named("shop"));
    lab.run(&["-d", "--name", web, "--label", "tier=front", "base:1", "sleep", "600"]).ok();
    assert_eq!(lab.0.knarr(&["exec", web, "sh", "-c", "exit 7"]).code, 7);
    for command in
        [&["pause", web][..], &["unpause", web], &["rename", web, shop], &["stop", "-t", "0", shop]]
    {
        lab.knarr(command);
    }
    lab.knarr(&["start", shop]);
    lab.knarr(&["restart", "-s", "KILL", shop]);
    lab.knarr(&["kill", shop]);
    lab.knarr(&["rm", shop]);
    let actions = told(&lab, "{{.Action}} {{.Actor.Attributes.name}}", &["type=container"]);
    let actions: Vec<String> =
        actions.iter().map(|line| line.replace(web, "web").replace(shop, "shop")).collect();
    let expected = [
        "create web",
        "start web",
        "exec_create: sh -c exit 7 web",
        "exec_start: sh -c exit 7 web",
        "exec_die web",
        "pause web",
        "unpause web",
        "rename shop",
        "kill shop",
        "die shop",
        "stop shop",
        "start shop",
        "kill shop",
        "die shop",
        "stop shop",
        "start shop",
        "restart shop",
        "kill shop",
        "die shop",
        "destroy shop",
    ];
    assert_eq!(actions, expected);
    let codes = told(&lab, "{{.Actor.Attributes.exitCode}}", &["event=exec_die", "event=die"]);
    assert_eq!(codes, ["7", "137", "137", "137"]);
    assert_eq!(told(&lab, "{{.Actor.Attributes.signal}}", &["event=kill"]), ["9", "9", "9"]);
    assert_eq!(told(&lab, "{{.Actor.Attributes.oldName}}", &["event=rename"]), [format!("/{web}")]);
    assert_eq!(told(&lab, "{{.Action}}", &["label=tier=front", "event=exec_create"]).len(), 1);
    assert_eq!(
        told(&lab, "{{.Action}}", &[&format!("container={web}"), "event=create", "event=die"]),
        ["create"]
    );
    assert!(told(&lab, "{{.Action}}", &["label=tier=back"]).is_empty());
    assert_eq!(lab.0.knarr(&["events", "--until", "0s"]).ok(), "", "only what is to come");
    let refused = lab.0.knarr(&["events", "--filter", "colour=red"]).failed();
    assert!(refused.contains("invalid filter 'colour'"), "{refused}");
}

#[test]
fn ends_are_told_once_whoever_sees_them() {
    let lab = Lab::new();
    let (short, helped) = (&*named("short"), &*named("helped"));
    lab.run(&["--rm", "--name", short, "base:1", "sh", "-c", "exit 3"]);
    let actions = told(&lab, "{{.Action}}", &[&format!("container={short}")]);
    assert_eq!(actions, ["create", "attach", "start", "die", "destroy"]);
    let document: Value = serde_json::from_str(&told(&lab, "json", &["event=die"])[0]).unwrap();
    let attributes = &document["Actor"]["Attributes"];
    assert_eq!((&attributes["exitCode"], &attributes["image"]), (&"3".into(), &"base:1".into()));
    assert_eq!((&document["status"], &document["Type"]), (&"die".into(), &"container".into()));
    assert_eq!((&document["from"], &document["scope"]), (&"base:1".into(), &"local".into()));
    assert_eq!(document["id"], document["Actor"]["ID"]);
    assert_eq!(document["time"].as_i64().unwrap(), document["timeNano"].as_i64().unwrap() / 1_000_000_000);
    // One that nobody waits for is told by its helper, and by who waits for it, but once.
    lab.run(&["-d", "--name", helped, "base:1", "true"]).ok();
    lab.knarr(&["wait", helped]);
    lab.knarr(&["start", helped]);
    lab.knarr(&["wait", helped]);
    lab.knarr(&["rm", "-f", helped]);
    let actions = told(&lab, "{{.Action}}", &[&format!("container={helped}")]);
    assert_eq!(actions, ["create", "start", "die", "start", "die", "destroy"]);
}

#[test]
fn images_and_volumes_are_told() {
    let lab = Lab::new();
    lab.knarr(&["image", "tag", "base:1", "other"]);
    lab.knarr(&["image", "rm", "other"]);
    lab.knarr(&["volume", "create", "data"]);
    lab.run(&["--rm", "-v", "data:/a", "-v", "/b", "base:1", "true"]).ok();
    lab.knarr(&["volume", "rm", "data"]);
    let images = told(&lab, "{{.Action}} {{.Actor.Attributes.name}}", &["type=image"]);
    assert_eq!(images, ["import base:1", "tag other:latest", "untag other:latest"]);
    assert_eq!(told(&lab, "{{.Action}}", &["type=image", "image=other"]), ["tag", "untag"]);
    let volumes = told(&lab, "{{.Action}} {{.Actor.Attributes.driver}}", &["type=volume"]);
    assert_eq!(volumes, ["create local", "create local", "destroy local", "destroy local"]);
    assert_eq!(told(&lab, "{{.Actor.ID}}", &["volume=data"]), ["data", "data"]);
    let text = lab.knarr(&["events", "--since", "0", "--until", "0s", "--filter", "volume=data"]);
    assert!(
        text.lines().all(|line| line.ends_with(" volume create data (driver=local)")
            || line.ends_with(" volume destroy data (driver=local)")),
        "{text}"
    );
}

#[test]
fn events_are_followed() {
    let lab = Lab::new();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // It ends by itself should nothing come.
    let until = (now + 120).to_string();
    let words = ["events", "--since", "0", "--until", &until, "--filter", "event=die", "--format", "{{.ID}}"];
    let mut follower = lab.0.command(&words).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let id = lab.run(&["-d", "base:1", "true"]).ok();
        assert_eq!(lines.next().unwrap().unwrap(), id.trim());
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}
