//! Whether and when a container that has ended is started again: Docker's restart policies and its back-off.
//!
//! There is no daemon that could know: what counts is kept in `DATA_DIR/containers/PLACE/restarts`, written by whoever
//! starts or stops the container and by the helper that follows each of its ends (`ended`).

use anyhow::{Context, bail};
use knarr_agent::cri::v1::ContainerStatus;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// Before the first restart; doubled for each that follows at once.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Whoever ran this long begins with the first delay again.
const HEALTHY: Duration = Duration::from_secs(10);

/// `--restart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    No,
    /// Unless somebody stops it; `unless-stopped` differs only when the machine starts anew.
    Always,
    /// When its exit code is not 0, so many times; 0 is any number.
    OnFailure(u32),
}

/// The policy, checked in Docker's words; with the name as it was written.
pub(super) fn parse(text: &str) -> anyhow::Result<(Policy, String)> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, Some(count)),
        None => (text, None),
    };
    let name = if name.is_empty() { "no" } else { name };
    if name != "on-failure" && count.is_some() {
        bail!("invalid restart policy: maximum retry count can only be used with 'on-failure'");
    }
    let policy = match name {
        "no" => Policy::No,
        "always" | "unless-stopped" => Policy::Always,
        "on-failure" => {
            let Ok(count) = count.unwrap_or("0").parse() else {
                bail!("invalid restart policy format: maximum retry count must be an integer")
            };
            Policy::OnFailure(count)
        }
        other => bail!(
            "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        ),
    };
    Ok((policy, name.to_owned()))
}

/// As `docker inspect` has it.
pub(super) fn document(policy: Policy, name: &str) -> Value {
    let count = if let Policy::OnFailure(count) = policy { count } else { 0 };
    json!({"Name": name, "MaximumRetryCount": count})
}

/// The policy of a container, from that document.
pub(super) fn of_document(document: &Value) -> Policy {
    match document["Name"].as_str() {
        Some("always" | "unless-stopped") => Policy::Always,
        Some("on-failure") => {
            let count = document["MaximumRetryCount"].as_u64().unwrap_or(0);
            Policy::OnFailure(u32::try_from(count).unwrap_or(u32::MAX))
        }
        _ => Policy::No,
    }
}

/// Whether one that has ended is started when the machine is: `always` even where somebody stopped it.
pub(super) fn starts_with_machine(document: &Value, history: &History) -> bool {
    match document["Name"].as_str() {
        Some("always") => true,
        Some("unless-stopped") => !history.stopped,
        _ => false,
    }
}

/// What is remembered between the ends of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct History {
    /// Restarts since somebody started it.
    pub(super) count: u32,
    /// The last delay, in milliseconds.
    pub(super) delay_ms: u64,
    /// Somebody wants it ended.
    pub(super) stopped: bool,
    /// A restart is being waited for.
    pub(super) waiting: bool,
}

const FILE: &str = "restarts";
/// A policy that was given later takes the place of the first one.
const CHANGED: &str = "restart-policy";

/// Gives the container in this directory another policy; appears whole.
pub(super) fn change(directory: &Path, document: &Value) -> anyhow::Result<()> {
    let (file, new) = (directory.join(CHANGED), directory.join("restart-policy.new"));
    let written = std::fs::write(&new, document.to_string()).and_then(|()| std::fs::rename(&new, &file));
    written.with_context(|| format!("write {}", file.display()))
}

/// The policy that it was given later, if any.
pub(super) fn changed(directory: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(directory.join(CHANGED)).ok()?).ok()
}

impl History {
    /// That of the container in this directory; nothing has happened where there is none.
    pub(super) fn read(directory: &Path) -> anyhow::Result<Self> {
        let file = directory.join(FILE);
        match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}", file.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
        }
    }

    /// Appears whole.
    pub(super) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let (file, new) = (directory.join(FILE), directory.join("restarts.new"));
        let written =
            std::fs::write(&new, serde_json::to_vec(self)?).and_then(|()| std::fs::rename(&new, &file));
        written.with_context(|| format!("write {}", file.display()))
    }

    /// The history once it has been decided to start the container again, and how long to wait before that; none where
    /// it stays ended.
    pub(super) fn after(&self, policy: Policy, ended: &ContainerStatus) -> Option<(Self, Duration)> {
        // One that could not even be started would fail again.
        let wanted = !self.stopped
            && ended.reason != "StartError"
            && match policy {
                Policy::No => false,
                Policy::Always => true,
                Policy::OnFailure(limit) => ended.exit_code != 0 && (limit == 0 || self.count < limit),
            };
        let lived = Duration::from_nanos(ended.finished_at.saturating_sub(ended.started_at).unsigned_abs());
        let before = if lived >= HEALTHY { Duration::ZERO } else { Duration::from_millis(self.delay_ms) };
        let delay = if before.is_zero() { FIRST_DELAY } else { LONGEST_DELAY.min(before * 2) };
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        wanted.then(|| (Self { count: self.count + 1, delay_ms, waiting: true, ..self.clone() }, delay))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(exit_code: i32, seconds: i64) -> ContainerStatus {
        ContainerStatus {
            exit_code,
            started_at: 1,
            finished_at: 1 + seconds * 1_000_000_000,
            ..Default::default()
        }
    }

    #[test]
    fn policies_read_like_dockers() {
        for (text, policy) in [
            ("no", Policy::No),
            ("", Policy::No),
            ("always", Policy::Always),
            ("unless-stopped", Policy::Always),
            ("on-failure", Policy::OnFailure(0)),
            ("on-failure:3", Policy::OnFailure(3)),
        ] {
            let (parsed, name) = parse(text).unwrap();
            assert_eq!(parsed, policy, "{text}");
            assert_eq!(of_document(&document(parsed, &name)), policy, "{text}");
        }
        let wrong = |text: &str| parse(text).unwrap_err().to_string();
        assert!(wrong("sometimes").contains("unknown policy 'sometimes'"));
        assert!(wrong("always:3").contains("can only be used with 'on-failure'"));
        assert!(wrong("on-failure:x").contains("must be an integer"));
    }

    #[test]
    fn what_starts_with_the_machine() {
        let stopped = History { stopped: true, ..History::default() };
        for (name, after_a_stop, else_) in [
            ("no", false, false),
            ("on-failure", false, false),
            ("unless-stopped", false, true),
            ("always", true, true),
        ] {
            let document = json!({"Name": name});
            assert_eq!(starts_with_machine(&document, &stopped), after_a_stop, "{name}");
            assert_eq!(starts_with_machine(&document, &History::default()), else_, "{name}");
        }
    }

    #[test]
    fn delays_double_and_begin_anew_after_a_healthy_run() {
        let mut history = History::default();
        let mut delays = Vec::new();
        for _ in 0..12 {
            let (next, delay) = history.after(Policy::Always, &ended(0, 1)).unwrap();
            delays.push(delay.as_millis());
            history = next;
        }
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        let (next, delay) = history.after(Policy::Always, &ended(0, 11)).unwrap();
        assert_eq!((delay.as_millis(), next.count), (100, 13));
    }

    #[test]
    fn only_failures_count_and_only_so_many() {
        let policy = Policy::OnFailure(2);
        let history = History::default();
        assert_eq!(history.after(policy, &ended(0, 0)), None);
        let (once, _) = history.after(policy, &ended(1, 0)).unwrap();
        let (twice, _) = once.after(policy, &ended(1, 0)).unwrap();
        assert_eq!(twice.after(policy, &ended(1, 0)), None);
        assert!(twice.after(Policy::OnFailure(0), &ended(1, 0)).is_some());
        assert_eq!(history.after(Policy::No, &ended(1, 0)), None);
    }

    #[test]
    fn what_somebody_stopped_stays_stopped() {
        let history = History { stopped: true, ..History::default() };
        assert_eq!(history.after(Policy::Always, &ended(1, 0)), None);
        let failed = ContainerStatus { reason: "StartError".into(), ..ended(128, 0) };
        assert_eq!(History::default().after(Policy::Always, &failed), None);
    }
}
