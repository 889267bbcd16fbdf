//! Kills a process with all its descendants, also those that were left behind by a parent that has ended.
//!
//! The whole set is stopped before any of it is killed: a child whose parent dies first gets another parent and would
//! be lost. A process that detached itself is still found by its session, because every process that a runtime
//! starts by `exec` leads one; only one that did both (parent gone, own session) belongs to the container from then on.

use rustix::process::{Pid, Signal};
use std::collections::BTreeSet;
use std::fs;

/// Rounds of stopping before giving up on a process that forks faster than it can be stopped.
const ROUNDS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// Kills `root` and its descendants.
pub(crate) fn kill_tree(root: Pid) {
    let root = root.as_raw_nonzero().get();
    let mut tree = BTreeSet::from([root]);
    signal(root, Signal::STOP);
    for _ in 0..ROUNDS {
        let grown = grow(&tree, root, &processes());
        let new: Vec<_> = grown.difference(&tree).copied().collect();
        if new.is_empty() {
            break;
        }
        new.iter().for_each(|pid| signal(*pid, Signal::STOP));
        tree = grown;
    }
    tree.iter().for_each(|pid| signal(*pid, Signal::KILL));
}

/// Adds the children, grandchildren and so on, and the session, of what is known.
fn grow(tree: &BTreeSet<i32>, root: i32, processes: &[Process]) -> BTreeSet<i32> {
    let mut grown = tree.clone();
    loop {
        let before = grown.len();
        for process in processes {
            if process.session == root || grown.contains(&process.parent) {
                grown.insert(process.pid);
            }
        }
        if grown.len() == before {
            return grown;
        }
    }
}

fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            parse_stat(pid, &fs::read_to_string(entry.path().join("stat")).ok()?)
        })
        .collect()
}

/// `PID (NAME) STATE PARENT GROUP SESSION ...`; the name may hold anything, also parentheses.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ').skip(1);
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session })
}

/// A process that has ended meanwhile needs no signal, hence the ignored error.
fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = rustix::process::kill_process(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_and_the_session_belong_to_the_tree() {
        let p = |pid, parent, session| Process { pid, parent, session };
        let all = [p(1, 0, 1), p(20, 10, 10), p(10, 1, 10), p(30, 20, 30), p(40, 1, 10), p(50, 1, 50)];
        let tree = grow(&BTreeSet::from([10]), 10, &all);
        assert_eq!(tree, BTreeSet::from([10, 20, 30, 40]));
    }

    #[test]
    fn a_name_cannot_forge_the_fields() {
        let stat = "77 (a) S 1 1 (b) ) R 5 6 7 0 -1";
        assert_eq!(parse_stat(77, stat), Some(Process { pid: 77, parent: 5, session: 7 }));
    }
}
