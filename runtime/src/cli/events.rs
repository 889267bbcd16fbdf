//! `events`: statistics once, or at an interval, with a line for each OOM kill.

use super::{Arguments, Flag, Global};
use crate::cgroups::stats;
use crate::container::Container;
use crate::error::{Error, Kind, Result};
use crate::state::Status;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use serde_json::json;
use std::time::Duration;

pub(super) const FLAGS: &[Flag] = &[Flag::value("interval", None), Flag::switch("stats", None)];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments, "events")?;
    let interval = interval(&arguments.text("interval")?.unwrap_or_else(|| "5s".into()))?;
    let container = Container::peek(&global.root, &id)?;
    if container.status()? == Status::Stopped {
        return Err(Error::new(Kind::State, format!("container with id {id} is not running")));
    }
    if arguments.has("stats") {
        return print_stats(&container);
    }
    stream(&container, interval)
}

fn print_stats(container: &Container) -> Result<u8> {
    let data = stats::read(&container.record.cgroups);
    super::print(&format!("{}\n", json!({"type": "stats", "id": container.record.id, "data": data})))
}

/// Until the container ends, which its pidfd tells.
fn stream(container: &Container, interval: Duration) -> Result<u8> {
    let Some(pid) = Pid::from_raw(container.record.init_process_pid) else { return Ok(0) };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(0) };
    let mut kills = stats::oom_kills(&container.record.cgroups);
    let timeout = Timespec { tv_sec: interval.as_secs() as i64, tv_nsec: interval.subsec_nanos().into() };
    loop {
        let ended =
            rustix::event::poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)).unwrap_or(1) > 0;
        let now = stats::oom_kills(&container.record.cgroups);
        if now > kills {
            super::print(&format!("{}\n", json!({"type": "oom", "id": container.record.id})))?;
        }
        kills = now;
        if ended || !stats::exists(&container.record.cgroups) {
            return Ok(0);
        }
        print_stats(container)?;
    }
}

/// `5s`, `100ms`, `1m`
fn interval(text: &str) -> Result<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => 0,
    };
    let number: u64 = number.parse().unwrap_or(0);
    match number.checked_mul(milliseconds) {
        Some(total) if total > 0 => Ok(Duration::from_millis(total)),
        _ => Err(Error::invalid("duration interval must be greater than 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals() {
        assert_eq!(interval("5s").unwrap(), Duration::from_secs(5));
        assert_eq!(interval("100ms").unwrap(), Duration::from_millis(100));
        for bad in ["0s", "5", "s", "-1s"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
