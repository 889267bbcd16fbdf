//! What a group has used, from the files of either version. A file that is not there leaves its figure unknown.

use super::{Hierarchies, Psi, pressure_of};
use std::path::{Path, PathBuf};

/// Usage of one group.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Usage {
    /// Nanoseconds of CPU time since the group was made.
    pub(crate) cpu_nanoseconds: Option<u64>,
    /// Bytes, page cache included.
    pub(crate) memory: Option<u64>,
    /// Bytes that cannot be reclaimed easily: usage less inactive page cache.
    pub(crate) working_set: Option<u64>,
    /// Bytes of anonymous memory.
    pub(crate) rss: Option<u64>,
    /// Bytes; `None` where unlimited.
    pub(crate) memory_limit: Option<u64>,
    pub(crate) page_faults: Option<u64>,
    pub(crate) major_page_faults: Option<u64>,
    /// Bytes.
    pub(crate) swap: Option<u64>,
    pub(crate) processes: Option<u64>,
    pub(crate) cpu_pressure: Option<Psi>,
    pub(crate) memory_pressure: Option<Psi>,
    pub(crate) io_pressure: Option<Psi>,
}

/// Version 1 says "unlimited" by a number near 2^63.
const UNLIMITED: u64 = 1 << 60;

/// Reads the files of `group`.
pub(crate) fn usage(hierarchies: &Hierarchies, group: &str) -> Usage {
    let directory = |controller: &str| hierarchies.group(controller, group);
    let memory = directory("memory");
    let pids = directory("pids").and_then(|directory| number(&directory.join("pids.current")));
    let usage = if hierarchies.is_unified() {
        memory.map(|directory| unified(&directory)).unwrap_or_default()
    } else {
        legacy(memory, directory("cpuacct"))
    };
    let pressure = |resource: &str| pressure_of(hierarchies, group, resource);
    Usage {
        processes: pids,
        cpu_pressure: pressure("cpu"),
        memory_pressure: pressure("memory"),
        io_pressure: pressure("io"),
        ..usage
    }
}

fn unified(directory: &Path) -> Usage {
    let stat = text(&directory.join("memory.stat"));
    let memory = number(&directory.join("memory.current"));
    Usage {
        cpu_nanoseconds: field(&text(&directory.join("cpu.stat")), "usage_usec").map(|micros| micros * 1000),
        memory,
        working_set: working_set(memory, field(&stat, "inactive_file")),
        rss: field(&stat, "anon"),
        memory_limit: number(&directory.join("memory.max")),
        page_faults: field(&stat, "pgfault"),
        major_page_faults: field(&stat, "pgmajfault"),
        swap: number(&directory.join("memory.swap.current")),
        ..Usage::default()
    }
}

fn legacy(memory: Option<PathBuf>, cpuacct: Option<PathBuf>) -> Usage {
    let read = |file: &str| memory.as_ref().and_then(|directory| number(&directory.join(file)));
    let stat = memory.as_ref().map(|directory| text(&directory.join("memory.stat"))).unwrap_or_default();
    let used = read("memory.usage_in_bytes");
    let with_swap = read("memory.memsw.usage_in_bytes");
    Usage {
        cpu_nanoseconds: cpuacct.and_then(|directory| number(&directory.join("cpuacct.usage"))),
        memory: used,
        working_set: working_set(used, field(&stat, "total_inactive_file")),
        rss: field(&stat, "total_rss"),
        memory_limit: read("memory.limit_in_bytes").filter(|&limit| limit < UNLIMITED),
        page_faults: field(&stat, "total_pgfault"),
        major_page_faults: field(&stat, "total_pgmajfault"),
        swap: with_swap.zip(used).map(|(both, memory)| both.saturating_sub(memory)),
        ..Usage::default()
    }
}

fn working_set(usage: Option<u64>, inactive: Option<u64>) -> Option<u64> {
    usage.map(|usage| usage.saturating_sub(inactive.unwrap_or(0)))
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn number(path: &Path) -> Option<u64> {
    text(path).trim().parse().ok()
}

/// The value of `key` in lines of `key value`.
pub(crate) fn field(stat: &str, key: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let stat = "inactive_file_x 1\ninactive_file 7\nbroken\n";
        assert_eq!(field(stat, "inactive_file"), Some(7));
        assert_eq!(field(stat, "file"), None);
    }

    #[test]
    fn a_version_2_group_is_read() {
        let directory = tempfile::tempdir().unwrap();
        for (file, content) in [
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.stat", "anon 300\ninactive_file 200\npgfault 5\npgmajfault 1\n"),
            ("cpu.stat", "usage_usec 12\n"),
        ] {
            std::fs::write(directory.path().join(file), content).unwrap();
        }
        let usage = unified(directory.path());
        assert_eq!(
            (usage.cpu_nanoseconds, usage.working_set, usage.memory_limit),
            (Some(12_000), Some(800), None)
        );
        assert_eq!((usage.rss, usage.page_faults, usage.swap), (Some(300), Some(5), None));
    }
}
