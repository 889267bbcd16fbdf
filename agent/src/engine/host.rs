//! What this machine is and what it denies: found out once, at the start, and handed to the pure parts as data.

use std::path::Path;

/// Facts of the host that decide how containers are made.
#[derive(Debug, Clone, Default)]
pub(crate) struct HostFacts {
    /// Names of the capabilities this process may give away.
    pub(crate) capabilities: Vec<String>,
    /// Negative adjustments below our own are denied (no CAP_SYS_RESOURCE), and the configuration says to clamp.
    pub(crate) lowest_oom_score_adj: Option<i32>,
    /// All controllers are in one cgroup v2 tree.
    pub(crate) unified_cgroups: bool,
    /// A limit on memory plus swap can be set.
    pub(crate) swap_limit: bool,
    /// Huge pages can be limited.
    pub(crate) hugepage_limits: bool,
    /// AppArmor is on.
    pub(crate) apparmor: bool,
    /// Random per boot.
    pub(crate) boot_id: String,
}

const CAP_SYS_RESOURCE: &str = "CAP_SYS_RESOURCE";

impl HostFacts {
    /// Reads `/proc` and `/sys`.
    pub(crate) fn detect(
        clamp_denied_limits: bool,
        hierarchies: &super::cgroups::Hierarchies,
    ) -> std::io::Result<Self> {
        let capabilities = permitted(&std::fs::read_to_string("/proc/self/status")?);
        let denied = clamp_denied_limits && !capabilities.iter().any(|name| name == CAP_SYS_RESOURCE);
        let own_score = std::fs::read_to_string("/proc/self/oom_score_adj")?.trim().parse().unwrap_or(0);
        let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        Ok(Self {
            lowest_oom_score_adj: denied.then_some(own_score),
            unified_cgroups: hierarchies.is_unified(),
            swap_limit: hierarchies.controller("memory").is_some_and(|root| match hierarchies.is_unified() {
                true => Path::new("/proc/swaps").exists() && counts_swap(root),
                false => root.join("memory.memsw.limit_in_bytes").exists(),
            }),
            hugepage_limits: hierarchies.has("hugetlb"),
            apparmor: apparmor.is_ok_and(|text| text.starts_with('Y'))
                && Path::new("/sys/kernel/security/apparmor").exists(),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            capabilities,
        })
    }

    /// What the kernel will accept in place of `wanted`.
    pub(crate) fn allowed_oom_score_adj(&self, wanted: i32) -> i32 {
        self.lowest_oom_score_adj.map_or(wanted, |lowest| wanted.max(lowest))
    }
}

/// The names behind `CapPrm` of `/proc/self/status`.
fn permitted(status: &str) -> Vec<String> {
    let mask = status.lines().find_map(|line| line.strip_prefix("CapPrm:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let held = |(number, name): (usize, &&str)| (mask >> number & 1 == 1).then(|| (*name).to_owned());
    super::spec::CAPABILITY_NAMES.iter().enumerate().filter_map(held).collect()
}

/// Whether cgroups of version 2 have a limit of swap. The uppermost has no limits at all, so one below it is asked; where
/// none has limits of memory, they will have both.
fn counts_swap(root: &Path) -> bool {
    let below: Vec<_> =
        std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    let any = |name: &str| below.iter().any(|directory| directory.join(name).exists());
    any("memory.swap.max") || !any("memory.max")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_mask() {
        let names = permitted("Name:\tx\nCapPrm:\t0000000000000005\n");
        assert_eq!(names, ["CAP_CHOWN", "CAP_DAC_READ_SEARCH"]);
        assert_eq!(permitted("CapPrm:\t000001ffffffffff\n").len(), 41);
        assert!(permitted("nothing").is_empty());
    }

    #[test]
    fn a_denied_adjustment_is_raised_to_our_own() {
        let denied = HostFacts { lowest_oom_score_adj: Some(0), ..HostFacts::default() };
        assert_eq!([-997, 0, 1000].map(|wanted| denied.allowed_oom_score_adj(wanted)), [0, 0, 1000]);
        assert_eq!(HostFacts::default().allowed_oom_score_adj(-997), -997);
    }

    #[test]
    fn swap_is_limited_where_cgroups_have_the_file() {
        let root = tempfile::tempdir().unwrap();
        let slice = root.path().join("system.slice");
        std::fs::create_dir(&slice).unwrap();
        assert!(counts_swap(root.path()));
        std::fs::write(slice.join("memory.max"), "").unwrap();
        assert!(!counts_swap(root.path()));
        std::fs::write(slice.join("memory.swap.max"), "").unwrap();
        assert!(counts_swap(root.path()));
    }
}
