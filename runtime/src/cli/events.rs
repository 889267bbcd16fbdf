//! `events`: statistics once, or at an interval, with a line for each OOM kill.

use super::{Arguments, Flag, Global};
use crate::cgroups::stats;
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::state::Status;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use serde_json::json;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

pub(super) const FLAGS: &[Flag] = &[Flag::value("interval", None), Flag::switch("stats", None)];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    let id = super::container_id(arguments);
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

/// The members in this order: scripts compare the beginnings of lines.
fn print_stats(container: &Container) -> Result<u8> {
    let data = stats::read(&container.record.cgroups, container.record.resctrl.as_ref());
    super::print(&format!("{{\"type\":\"stats\",\"id\":{},\"data\":{data}}}\n", json!(container.record.id)))
}

fn print_oom(container: &Container) -> Result<u8> {
    super::print(&format!("{{\"type\":\"oom\",\"id\":{}}}\n", json!(container.record.id)))
}

/// Until the container ends, which its pidfd tells. A line about a hit memory limit does not wait for the interval.
fn stream(container: &Container, interval: Duration) -> Result<u8> {
    let cgroups = &container.record.cgroups;
    let Some(pid) = Pid::from_raw(container.record.init_process_pid) else { return Ok(0) };
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(0) };
    let before = stats::oom_kills(cgroups);
    let watch = stats::oom_watch(cgroups)?;
    let mut kills = stats::oom_kills(cgroups);
    if kills > before {
        print_oom(container)?;
    }
    // Version 1 tells of a hit before its victim is counted.
    let counts = cgroups.unified || watch.is_none();
    let mut due = Instant::now() + interval;
    loop {
        let (ended, hit) = wait(&pidfd, watch.as_ref(), due)?;
        let now = stats::oom_kills(cgroups);
        // It tells of the end of the cgroup, too.
        let struck = if counts { now > kills } else { hit && stats::exists(cgroups) };
        if struck {
            print_oom(container)?;
        }
        kills = now;
        if ended || !stats::exists(cgroups) {
            return Ok(0);
        }
        if !hit || Instant::now() >= due {
            due = Instant::now() + interval;
            print_stats(container)?;
        }
    }
}

/// Until the end, a hit limit, or the time; says which of the first two it was.
fn wait(pidfd: &OwnedFd, watch: Option<&OwnedFd>, due: Instant) -> Result<(bool, bool)> {
    let left = due.saturating_duration_since(Instant::now());
    let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
    fds.extend(watch.map(|watch| PollFd::new(watch, PollFlags::IN)));
    match rustix::event::poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(errno) => return Err(errno).context(|| "poll"),
    }
    let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
    let (ended, hit) = (ready(0), ready(1));
    if let Some(watch) = watch.filter(|_| hit) {
        // What it says does not matter; that it is read arms it again.
        let _ = rustix::io::read(watch, &mut [0_u8; 4096]);
    }
    Ok((ended, hit))
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
