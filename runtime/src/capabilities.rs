//! Capabilities: root's powers, one by one.
//!
//! The five sets are applied in two moments: the bounding set while we may still change it, the others after the user
//! has changed (with keep-caps, or changing the user would drop them).

use crate::error::{Context, Result};
use caps::Capability;
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Serialize, Serializer};
use std::str::FromStr;

/// The five sets as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

impl Serialize for Capabilities {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let sets = [
            ("bounding", self.bounding),
            ("effective", self.effective),
            ("permitted", self.permitted),
            ("inheritable", self.inheritable),
            ("ambient", self.ambient),
        ];
        let mut map = to.serialize_map(Some(sets.len()))?;
        for (name, set) in sets {
            map.serialize_entry(name, &names_of(set))?;
        }
        map.end()
    }
}

/// The names in a set, in the kernel's order.
pub(crate) fn names_of(set: u64) -> Vec<String> {
    let mut found: Vec<Capability> = caps::all().into_iter().filter(|c| c.bitmask() & set != 0).collect();
    found.sort_by_key(|capability| capability.index());
    found.iter().map(ToString::to_string).collect()
}

/// Names that this program does not know grant nothing; runc warns and goes on, and so do we.
pub(crate) fn plan(given: Option<&crate::spec::Capabilities>, warnings: &mut Vec<String>) -> Capabilities {
    let Some(given) = given else { return Capabilities::default() };
    let mut set = |names: &[String]| names.iter().fold(0, |set, name| set | bit(name, warnings));
    let mut sets = Capabilities {
        bounding: set(&given.bounding),
        effective: set(&given.effective),
        permitted: set(&given.permitted),
        inheritable: set(&given.inheritable),
        ambient: set(&given.ambient),
    };
    // The kernel refuses these; without them the program has less, never more.
    let impossible = sets.ambient & !(sets.inheritable & sets.permitted);
    sets.ambient &= !impossible;
    // With nothing inheritable nothing is ambient, which is how callers closed CVE-2022-29162 (buildah still lists the
    // ambient ones): a warning for each, in the output of each build step, would tell nobody anything.
    if sets.inheritable != 0 {
        let warn = |name| format!("can't raise ambient capability {name}: operation not permitted");
        warnings.extend(names_of(impossible).into_iter().map(warn));
    }
    sets
}

fn bit(name: &str, warnings: &mut Vec<String>) -> u64 {
    match Capability::from_str(name) {
        Ok(capability) => capability.bitmask(),
        Err(_) => {
            let warning = format!("ignoring unknown or unavailable capabilities: [{name}]");
            if !warnings.contains(&warning) {
                warnings.push(warning);
            }
            0
        }
    }
}

/// Takes everything else out of the bounding set.
pub(crate) fn limit(wanted: &Capabilities) -> Result<()> {
    for index in (0..64).filter(|index| wanted.bounding & (1 << index) == 0) {
        let one = CapabilitySet::from_bits_retain(1 << index);
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            // Beyond the last one this kernel has.
            Err(Errno::INVAL) => break,
            Err(errno) => {
                return Err(errno)
                    .context(|| format!("unable to apply bounding set: prctl(PR_CAPBSET_DROP, {index})"));
            }
        }
    }
    Ok(())
}

/// The other four sets.
pub(crate) fn apply(wanted: &Capabilities) -> Result<()> {
    let sets = CapabilitySets {
        effective: CapabilitySet::from_bits_retain(wanted.effective),
        permitted: CapabilitySet::from_bits_retain(wanted.permitted),
        inheritable: CapabilitySet::from_bits_retain(wanted.inheritable),
    };
    rustix::thread::set_capabilities(None, sets).context(|| "unable to apply caps: capset")?;
    rustix::thread::clear_ambient_capability_set()
        .context(|| "unable to apply caps: prctl(PR_CAP_AMBIENT)")?;
    for index in (0..64).filter(|index| wanted.ambient & (1 << index) != 0) {
        let _ = rustix::thread::configure_capability_in_ambient_set(
            CapabilitySet::from_bits_retain(1 << index),
            true,
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_bits_and_unknown_ones_are_reported_once() {
        let given = crate::spec::Capabilities {
            bounding: vec!["CAP_KILL".into(), "CAP_NOPE".into()],
            effective: vec!["CAP_CHOWN".into(), "CAP_NOPE".into()],
            ..Default::default()
        };
        let mut warnings = vec![];
        let plan = plan(Some(&given), &mut warnings);
        assert_eq!((plan.bounding, plan.effective, plan.permitted), (1 << 5, 1, 0));
        assert_eq!(warnings.len(), 1);
        assert_eq!(names_of(0b100001), ["CAP_CHOWN", "CAP_KILL"]);
    }
}
