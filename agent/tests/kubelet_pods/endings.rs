//! How pods end: hooks run all at once, signals come in turn, and only readiness is probed meanwhile.

use super::lab::{self, is_ready};
use super::{pod, shell};
use serde_json::{Value, json};

/// A container that tells of each thing that happens to it.
fn witness(name: &str, script: &str) -> Value {
    let mut container = shell(name, script);
    container["volumeMounts"] = json!([{"name": "log", "mountPath": "/log"}]);
    container
}

fn says(what: &str) -> Value {
    json!({"exec": {"command": ["sh", "-c", format!("echo {what} >> /log/all")]}, "periodSeconds": 1, "timeoutSeconds": 30})
}

/// Without a grace period there is still time for a last word, and not for more.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_grace_period_is_asked_to_end_all_the_same() {
    lab::with(async |lab| {
        let log = lab.path("log");
        std::fs::create_dir(&log).unwrap();
        let polite = "trap 'echo asked >> /log/all; exit 0' TERM; while :; do sleep 0.1; done";
        let deaf = "trap '' TERM; while :; do sleep 0.1; done";
        let spec = json!({"terminationGracePeriodSeconds": 0,
            "containers": [witness("polite", polite), witness("deaf", deaf)],
            "volumes": [{"name": "log", "hostPath": {"path": log}}]});
        lab.write("e.json", pod("e", spec));
        lab.pod_when("e", is_ready).await;
        lab.delete("e.json");
        lab.gone("e").await;
        assert_eq!(std::fs::read_to_string(log.join("all")).unwrap(), "asked\n");
    })
    .await;
}

/// The main container's hook waits for the sidecar's, and its end for a while.
#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_at_once_and_signals_come_in_turn() {
    lab::with(async |lab| {
        let log = lab.path("log");
        std::fs::create_dir(&log).unwrap();
        let ends = |name: &str| {
            format!("trap 'echo {name} ended >> /log/all; exit 0' TERM; while :; do sleep 0.1; done")
        };
        let hook = |script: &str| json!({"preStop": {"exec": {"command": ["sh", "-c", script]}}});
        let mut main = witness("main", &ends("main"));
        main["lifecycle"] = hook(
            "while ! test -e /log/asked; do sleep 0.1; done; echo stopping >> /log/all; sleep 4; echo stopped >> /log/all",
        );
        main["livenessProbe"] = says("live");
        main["readinessProbe"] = says("ready");
        let mut side = witness("side", &ends("side"));
        side["restartPolicy"] = json!("Always");
        side["lifecycle"] = hook("touch /log/asked");
        let spec = json!({"terminationGracePeriodSeconds": 120, "initContainers": [side], "containers": [main],
            "volumes": [{"name": "log", "hostPath": {"path": log}}]});
        lab.write("e.json", pod("e", spec));
        lab.pod_when("e", is_ready).await;
        lab.delete("e.json");
        lab.gone("e").await;
        let all = std::fs::read_to_string(log.join("all")).unwrap();
        let lines: Vec<&str> = all.lines().collect();
        let at = |what: &str| lines.iter().position(|line| *line == what).expect(what);
        assert!(at("stopped") < at("main ended") && at("main ended") < at("side ended"), "{all}");
        let meanwhile = &lines[at("stopping")..at("stopped")];
        let count = |what: &str| meanwhile.iter().filter(|line| **line == what).count();
        assert!(count("ready") >= 1, "{all}");
        // One may have been under way.
        assert!(count("live") <= 1, "{all}");
    })
    .await;
}
