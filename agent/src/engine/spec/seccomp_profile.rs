//! The default seccomp profile: the calls any program may make, those that a capability opens, and a few that depend
//! on an argument. Everything else fails with EPERM. It allows what containerd's default does.
//!
//! The list is data (`default_syscalls.txt`). io_uring is not on it, as its history of kernel bugs outweighs its use
//! in pods; sockets of family VSOCK would reach the hypervisor and are refused.

use knarr_runtime::spec::{Seccomp, Syscall, SyscallArg};
use std::collections::BTreeSet;

const ALWAYS: &str = include_str!("default_syscalls.txt");

/// What each capability opens.
const BY_CAPABILITY: [(&str, &[&str]); 13] = [
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_NICE", &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "clock_settime64", "settimeofday", "stime"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

/// personality(2) values that change nothing an attacker could use: LINUX, LINUX32, their UNAME26 forms, and "ask".
const PERSONALITIES: [u64; 5] = [0, 0x0008, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Flags of clone(2) that make a namespace.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
const AF_VSOCK: u64 = 40;
const ENOSYS: u32 = 38;
const EPERM: u32 = 1;

/// The profile for a container with these capabilities.
pub(crate) fn default_profile(capabilities: &BTreeSet<String>) -> Seccomp {
    let mut syscalls = vec![allow(ALWAYS.split_whitespace())];
    for (capability, names) in BY_CAPABILITY {
        if capabilities.contains(capability) {
            syscalls.push(allow(names.iter().copied()));
        }
    }
    if capabilities.contains("CAP_SYSLOG") && !capabilities.contains("CAP_SYS_ADMIN") {
        syscalls.push(allow(["syslog"]));
    }
    syscalls.extend(PERSONALITIES.map(|value| allow_if("personality", argument("SCMP_CMP_EQ", value, None))));
    syscalls.push(allow_if("socket", argument("SCMP_CMP_NE", AF_VSOCK, None)));
    if !capabilities.contains("CAP_SYS_ADMIN") {
        syscalls.push(allow_if("clone", argument("SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS, Some(0))));
        // clone3's flags lie in memory where a filter cannot look; ENOSYS makes libraries fall back to clone.
        syscalls.push(Syscall {
            errno_ret: Some(ENOSYS),
            action: "SCMP_ACT_ERRNO".into(),
            ..allow(["clone3"])
        });
    }
    Seccomp {
        default_action: "SCMP_ACT_ERRNO".into(),
        default_errno_ret: Some(EPERM),
        architectures: architectures(),
        syscalls,
        ..Seccomp::default()
    }
}

/// The machine's own architecture and those whose programs it also runs.
fn architectures() -> Vec<String> {
    let names: &[&str] = match std::env::consts::ARCH {
        "x86_64" => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        "riscv64" => &["SCMP_ARCH_RISCV64"],
        "s390x" => &["SCMP_ARCH_S390X", "SCMP_ARCH_S390"],
        _ => &[],
    };
    names.iter().map(|&name| name.to_owned()).collect()
}

fn allow<'a>(names: impl IntoIterator<Item = &'a str>) -> Syscall {
    Syscall {
        names: names.into_iter().map(str::to_owned).collect(),
        action: "SCMP_ACT_ALLOW".into(),
        ..Syscall::default()
    }
}

fn allow_if(name: &str, argument: SyscallArg) -> Syscall {
    Syscall { args: vec![argument], ..allow([name]) }
}

fn argument(op: &str, value: u64, value_two: Option<u64>) -> SyscallArg {
    SyscallArg { index: 0, value, value_two, op: op.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(capabilities: &[&str], name: &str) -> bool {
        let capabilities = capabilities.iter().map(|&name| name.to_owned()).collect();
        default_profile(&capabilities).syscalls.iter().any(|rule| {
            rule.action == "SCMP_ACT_ALLOW" && rule.args.is_empty() && rule.names.iter().any(|n| n == name)
        })
    }

    #[test]
    fn capabilities_open_their_calls() {
        for (capability, name) in [
            ("CAP_SYS_ADMIN", "sethostname"),
            ("CAP_SYS_ADMIN", "clone3"),
            ("CAP_SYS_TIME", "clock_settime"),
            ("CAP_SYS_MODULE", "init_module"),
            ("CAP_SYSLOG", "syslog"),
        ] {
            assert!(!allowed(&[], name), "{name}");
            assert!(allowed(&[capability], name), "{name}");
        }
        assert!(allowed(&[], "execve") && allowed(&[], "writev"));
        assert!(!allowed(&["CAP_SYS_ADMIN"], "io_uring_setup") && !allowed(&[], "keyctl"));
    }

    #[test]
    fn namespaces_cannot_be_made_without_sys_admin() {
        let profile = default_profile(&BTreeSet::new());
        let clone3 = profile.syscalls.iter().find(|rule| rule.names == ["clone3"]).unwrap();
        assert_eq!((clone3.action.as_str(), clone3.errno_ret), ("SCMP_ACT_ERRNO", Some(ENOSYS)));
        let clone = profile.syscalls.iter().find(|rule| rule.names == ["clone"]).unwrap();
        assert_eq!(clone.args[0].value, NAMESPACE_FLAGS);
    }
}
