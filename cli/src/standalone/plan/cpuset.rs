//! `--cpuset-cpus` and `--cpuset-mems`: lists of numbers, which this machine has to have.

use crate::args::Share;
use anyhow::bail;
use std::collections::BTreeSet;

/// More than any machine has; what is larger is no list, but an attack on our memory.
const MOST: u32 = 8192;

/// Refuses what cannot be had, in Docker's words.
pub(super) fn check(share: &Share) -> anyhow::Result<()> {
    let online = |what: &str| {
        std::fs::read_to_string(format!("/sys/devices/system/{what}/online")).unwrap_or_default()
    };
    among(share.cpuset_cpus.as_deref(), &online("cpu"), "cpuset cpus", "CPUs")?;
    among(share.cpuset_mems.as_deref(), &online("node"), "cpuset mems", "memory nodes")
}

/// A machine that does not say what it has is left to the kernel's own judgement.
fn among(wanted: Option<&str>, online: &str, option: &str, what: &str) -> anyhow::Result<()> {
    let (Some(text), online) = (wanted.filter(|text| !text.is_empty()), online.trim()) else { return Ok(()) };
    let Some(wanted) = numbers(text) else { bail!("Invalid value {text} for {option}") };
    match numbers(online) {
        Some(there) if !wanted.is_subset(&there) => {
            bail!("Requested {what} are not available - requested {text}, available: {online}")
        }
        _ => Ok(()),
    }
}

/// `0-2,5`.
fn numbers(text: &str) -> Option<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if first > last || last > MOST {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_of_what_there_is() {
        let words =
            |wanted, online| among(wanted, online, "cpuset cpus", "CPUs").map_err(|error| error.to_string());
        assert_eq!(words(Some("0,2-3"), "0-3\n"), Ok(()));
        assert_eq!(words(None, "0-3"), Ok(()));
        assert_eq!(words(Some("7"), ""), Ok(()));
        let refused = "Requested CPUs are not available - requested 0,100, available: 0-1";
        assert_eq!(words(Some("0,100"), "0-1\n"), Err(refused.to_owned()));
        for wrong in ["x", "1-0", "0-999999999", "1,,2"] {
            assert_eq!(words(Some(wrong), "0-1"), Err(format!("Invalid value {wrong} for cpuset cpus")));
        }
    }
}
