//! What `events --stats` prints: the files of a cgroup in runc's shape.
//!
//! Field names, units (nanoseconds, bytes) and which fields are left out when zero are runc's: containerd, cAdvisor and
//! scripts parse this. A file that this host does not have counts as zero.

mod v1;
mod v2;

use super::Cgroups;
use crate::error::{Context, Result};
use crate::intel_rdt::Group;
use rustix::event::EventfdFlags;
use rustix::fs::inotify;
use serde_json::{Map, Value, json};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// The `data` object.
pub(crate) fn read(cgroups: &Cgroups, resctrl: Option<&Group>) -> Value {
    let files = Files { cgroups };
    let mut data = if cgroups.unified { v2::read(&files) } else { v1::read(&files) };
    data["pids"] = pids(&files);
    data["intel_rdt"] = resctrl.map_or_else(|| json!({}), Group::stats);
    data["network_interfaces"] = Value::Null;
    data
}

/// The files of one container.
struct Files<'a> {
    cgroups: &'a Cgroups,
}

impl Files<'_> {
    fn text(&self, controller: &str, file: &str) -> String {
        let path = self.cgroups.directory(controller).map(|directory| directory.join(file));
        path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
    }

    /// A file with one number. `max` is the largest number there is.
    fn number(&self, controller: &str, file: &str) -> u64 {
        let text = self.text(controller, file);
        if text.trim() == "max" { u64::MAX } else { text.trim().parse().unwrap_or(0) }
    }

    /// A file with lines of `key number`.
    fn table(&self, controller: &str, file: &str) -> Map<String, Value> {
        table(&self.text(controller, file))
    }
}

fn table(text: &str) -> Map<String, Value> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_string(), Value::from(value.trim().parse::<u64>().ok()?)))
    };
    text.lines().filter_map(pair).collect()
}

fn entry(table: &Map<String, Value>, key: &str) -> u64 {
    table.get(key).and_then(Value::as_u64).unwrap_or(0)
}

/// An object without the members that are zero or empty.
fn without_zeros(object: Value) -> Value {
    let says_something = |value: &Value| match value {
        Value::Number(number) => number.as_u64() != Some(0),
        Value::Array(list) => !list.is_empty(),
        Value::String(text) => !text.is_empty(),
        other => !other.is_null(),
    };
    match object {
        Value::Object(map) => {
            Value::Object(map.into_iter().filter(|(_, value)| says_something(value)).collect())
        }
        other => other,
    }
}

/// Members of `more`, in the same object.
fn and(mut object: Value, more: Value) -> Value {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

fn pids(files: &Files<'_>) -> Value {
    let limit = files.number("pids", "pids.max");
    without_zeros(json!({
        "current": files.number("pids", "pids.current"),
        "limit": if limit == u64::MAX { 0 } else { limit },
    }))
}

/// The sizes of huge pages this host has, in the spelling of file names: `2MB`.
fn page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let size = |name: &str| {
        let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        Some(page_size(kilobytes))
    };
    let mut sizes: Vec<String> = entries.filter_map(|entry| size(entry.file_name().to_str()?)).collect();
    sizes.sort();
    sizes
}

fn page_size(kilobytes: u64) -> String {
    match kilobytes {
        n if n >= 1 << 20 => format!("{}GB", n >> 20),
        n if n >= 1 << 10 => format!("{}MB", n >> 10),
        n => format!("{n}KB"),
    }
}

/// `8:0` as `major` and `minor`.
fn device(word: &str) -> Option<(u64, u64)> {
    let (major, minor) = word.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn io_entry((major, minor): (u64, u64), op: &str, value: u64) -> Value {
    without_zeros(json!({"major": major, "minor": minor, "op": op, "value": value}))
}

/// How often the kernel's OOM killer has struck.
pub(crate) fn oom_kills(cgroups: &Cgroups) -> u64 {
    let file = if cgroups.unified { "memory.events" } else { "memory.oom_control" };
    entry(&Files { cgroups }.table("memory", file), "oom_kill")
}

/// A descriptor that becomes readable when the memory limit has been hit; nothing where the kernel has no such thing.
pub(crate) fn oom_watch(cgroups: &Cgroups) -> Result<Option<OwnedFd>> {
    let Some(directory) = cgroups.directory("memory") else { return Ok(None) };
    if cgroups.unified {
        return watch_events(&directory.join("memory.events"));
    }
    let Ok(control) = std::fs::File::open(directory.join("memory.oom_control")) else { return Ok(None) };
    let event =
        rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).context(|| "eventfd")?;
    let registration = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    // A kernel without the notification leaves what is counted at each interval.
    let registered = std::fs::write(directory.join("cgroup.event_control"), registration).is_ok();
    Ok(registered.then_some(event))
}

fn watch_events(file: &Path) -> Result<Option<OwnedFd>> {
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let watch = inotify::init(flags).context(|| "inotify_init1")?;
    let added = inotify::add_watch(&watch, file, inotify::WatchFlags::MODIFY).is_ok();
    Ok(added.then_some(watch))
}

/// The cgroup is still there.
pub(crate) fn exists(cgroups: &Cgroups) -> bool {
    let path: Option<&PathBuf> = cgroups.directories.first().map(|directory| &directory.path);
    path.is_some_and(|path| rustix::fs::stat(path).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_huge_pages_are_spelled_as_in_file_names() {
        for (kilobytes, name) in [(64, "64KB"), (2048, "2MB"), (1 << 20, "1GB"), (16 << 20, "16GB")] {
            assert_eq!(page_size(kilobytes), name);
        }
    }

    #[test]
    fn zeros_are_left_out_and_words_stay() {
        let entry = io_entry((8, 0), "Read", 5);
        assert_eq!(entry, json!({"major": 8, "op": "Read", "value": 5}));
        assert_eq!(without_zeros(json!({"a": [], "b": 0, "c": {}})), json!({"c": {}}));
    }
}
