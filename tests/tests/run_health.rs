//! Health checks of single containers: by options, by the image, and what is seen of them.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::eventually::eventually;
use knarr_tests::run_lab::{Lab, named};
use serde_json::Value;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

fn inspect(lab: &Lab, name: &str) -> Value {
    let said: Value = serde_json::from_str(&lab.knarr(&["inspect", name])).unwrap();
    said[0].clone()
}

/// What `inspect` calls State.Health, once it has this status.
fn becomes(lab: &Lab, name: &str, status: &str) -> Value {
    eventually(status, PATIENCE, || {
        let health = inspect(lab, name)["State"]["Health"].clone();
        if health["Status"] == status { Ok(health) } else { Err(health.to_string()) }
    })
}

/// A process looks after this container.
fn is_looked_after(name: &str) -> bool {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| String::from_utf8_lossy(&line).contains(&format!("\0health\0{name}\0")))
}

#[test]
fn a_container_is_found_ill_and_well_again() {
    let lab = Lab::new();
    let name = named("ill");
    let check = "test -e /well || { echo ill; exit 3; }";
    let options =
        ["-d", "--name", &name, "--health-cmd", check, "--health-interval", "100ms", "--health-retries", "2"];
    lab.run(&[&options[..], &["base:1", "sleep", "1000"]].concat()).ok();
    let health = becomes(&lab, &name, "unhealthy");
    assert!(health["FailingStreak"].as_u64().unwrap() >= 2, "{health}");
    let last = health["Log"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((last["ExitCode"].as_i64(), last["Output"].as_str()), (Some(3), Some("ill\n")), "{health}");
    assert!(lab.knarr(&["ps"]).contains("(unhealthy)"));
    let listed =
        |health: &str| lab.knarr(&["ps", "-q", "--filter", &format!("health={health}")]).lines().count();
    assert_eq!((listed("unhealthy"), listed("healthy"), listed("none")), (1, 0, 0));
    lab.knarr(&["exec", &name, "touch", "/well"]);
    let health = becomes(&lab, &name, "healthy");
    assert_eq!(health["FailingStreak"], 0);
    // A new life has a health of its own.
    lab.knarr(&["restart", "-t", "0", &name]);
    becomes(&lab, &name, "healthy");
    assert!(lab.knarr(&["ps"]).contains("(healthy)"));
    lab.knarr(&["rm", "-f", &name]);
    eventually("nobody looks after it", PATIENCE, || {
        if is_looked_after(&name) { Err(String::new()) } else { Ok(()) }
    });
}

#[test]
fn a_check_that_takes_too_long_has_failed() {
    let lab = Lab::new();
    let name = named("slow");
    let options = ["-d", "--name", &name, "--health-cmd", "sleep 1000", "--health-interval", "50ms"];
    let more = ["--health-timeout", "100ms", "--health-retries", "1", "base:1", "sleep", "1000"];
    lab.run(&[&options[..], &more[..]].concat()).ok();
    let health = becomes(&lab, &name, "unhealthy");
    let last = &health["Log"][0];
    assert_eq!(last["ExitCode"], -1, "{health}");
    assert!(last["Output"].as_str().unwrap().contains("exceeded timeout"), "{health}");
}

#[test]
fn an_image_says_how_and_the_user_may_say_otherwise() {
    let lab = Lab::new();
    let check = "HEALTHCHECK --interval=100ms --retries=7 CMD [\"test\", \"-e\", \"/etc/passwd\"]";
    lab.0.file("Dockerfile", &format!("FROM base:1\n{check}\nCMD [\"sleep\", \"1000\"]\n"));
    lab.knarr(&["image", "build", "-q", "-t", "well:1", "context"]);
    let (as_it_says, without, later) = (named("says"), named("without"), named("later"));
    lab.run(&["-d", "--name", &as_it_says, "well:1"]).ok();
    lab.run(&["-d", "--name", &without, "--no-healthcheck", "well:1"]).ok();
    lab.run(&["-d", "--name", &later, "--health-interval", "1h", "well:1"]).ok();
    becomes(&lab, &as_it_says, "healthy");
    let documented = &inspect(&lab, &as_it_says)["Config"]["Healthcheck"];
    assert_eq!((&documented["Retries"], &documented["Test"][0]), (&7.into(), &"CMD".into()), "{documented}");
    let none = inspect(&lab, &without);
    assert!(none["State"]["Health"].is_null(), "{none}");
    assert_eq!(none["Config"]["Healthcheck"]["Test"][0], "NONE", "{none}");
    let line = lab.knarr(&["ps", "--filter", &format!("name={later}"), "--format", "{{.Status}}"]);
    assert!(line.ends_with("(health: starting)\n"), "{line}");
    let wrong = lab.run(&["--no-healthcheck", "--health-cmd", "true", "base:1", "true"]);
    assert!(wrong.code == 125 && wrong.err.contains("conflicts with --health-* options"), "{wrong:?}");
    // Whoever waits for the next check hears of the end at once.
    lab.knarr(&["kill", &later]);
    eventually("nobody looks after it", PATIENCE, || {
        if is_looked_after(&later) { Err(String::new()) } else { Ok(()) }
    });
}
