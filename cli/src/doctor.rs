//! `knarr doctor`: what this machine lacks, and what to do about it.

use crate::output;
use crate::settings::Settings;
use anyhow::bail;
use std::path::Path;
use std::process::Command;

/// One thing that was looked at.
struct Finding {
    what: &'static str,
    /// What was seen, or what is wrong.
    state: Result<String, String>,
    /// What to do when it is wrong.
    remedy: &'static str,
    /// Nothing works without it.
    required: bool,
}

/// Prints every finding; fails if something required is missing.
pub(crate) fn run(settings: Settings) -> anyhow::Result<()> {
    let findings = [
        root(),
        kernel(),
        cgroups(),
        overlay(),
        nft(),
        forwarding(),
        resource_capability(),
        user_namespaces(),
        space(&settings),
    ];
    let rows: Vec<Vec<String>> = findings.iter().map(row).collect();
    output::table(&["CHECK", "STATE", "DETAIL"], &rows);
    let missing = findings.iter().filter(|finding| finding.required && finding.state.is_err()).count();
    if missing > 0 {
        bail!("{missing} required checks failed");
    }
    Ok(())
}

fn row(finding: &Finding) -> Vec<String> {
    let (state, detail) = match &finding.state {
        Ok(seen) => ("ok", seen.clone()),
        Err(wrong) if finding.required => ("missing", format!("{wrong}; {}", finding.remedy)),
        Err(wrong) => ("limited", format!("{wrong}; {}", finding.remedy)),
    };
    vec![finding.what.to_owned(), state.to_owned(), detail]
}

fn root() -> Finding {
    let uid = rustix::process::geteuid().as_raw();
    let state = if uid == 0 { Ok("root".into()) } else { Err(format!("user id {uid}")) };
    Finding { what: "user", state, remedy: "run as root", required: true }
}

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).filter_map(|part| part.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let state = if version >= (5, 12) { Ok(release) } else { Err(release) };
    Finding {
        what: "kernel",
        state,
        remedy: "5.12 brings mount_setattr, idmapped mounts and clone3 into cgroups",
        required: true,
    }
}

fn cgroups() -> Finding {
    let root = Path::new("/sys/fs/cgroup");
    let v2 = root.join("cgroup.controllers").exists();
    let v1 = root.join("memory/cgroup.procs").exists();
    let state = match (v2, v1, root.join("unified").exists()) {
        (true, _, _) => Ok("v2".into()),
        (_, true, true) => Ok("hybrid: v1 controllers beside an empty v2".into()),
        (_, true, false) => Ok("v1".into()),
        _ => Err("no memory controller under /sys/fs/cgroup".into()),
    };
    Finding { what: "cgroups", state, remedy: "mount cgroup2 at /sys/fs/cgroup", required: true }
}

fn overlay() -> Finding {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let state = if known.contains("\toverlay") {
        Ok("overlay".into())
    } else {
        Err("the kernel has no overlay file system".into())
    };
    Finding {
        what: "snapshots",
        state,
        remedy: "modprobe overlay; until then layers are copied",
        required: false,
    }
}

fn nft() -> Finding {
    let state = match Command::new("nft").arg("--version").output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("nft: {error}")),
    };
    Finding {
        what: "nftables",
        state,
        remedy: "apt-get install nftables: services and host ports need it",
        required: true,
    }
}

fn forwarding() -> Finding {
    let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap_or_default();
    let state = if forward.trim() == "1" { Ok("on".into()) } else { Err("net.ipv4.ip_forward is 0".into()) };
    Finding { what: "forwarding", state, remedy: "the agent turns it on with the first pod", required: false }
}

/// Bit 24 of the effective set.
fn resource_capability() -> Finding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
    let held =
        effective.and_then(|hex| u64::from_str_radix(hex, 16).ok()).is_some_and(|set| set & (1 << 24) != 0);
    let state = if held { Ok("held".into()) } else { Err("CAP_SYS_RESOURCE is not held".into()) };
    Finding {
        what: "limits",
        state,
        remedy: "lower oom_score_adj and raised rlimits are clamped (engine.clamp_denied_limits)",
        required: false,
    }
}

fn user_namespaces() -> Finding {
    let most = std::fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let state = match most.trim().parse::<u64>() {
        Ok(count) if count > 0 => Ok(format!("up to {count}")),
        _ => Err("user.max_user_namespaces is 0".into()),
    };
    Finding {
        what: "user namespaces",
        state,
        remedy: "sysctl -w user.max_user_namespaces=65536",
        required: false,
    }
}

fn space(settings: &Settings) -> Finding {
    let directory =
        settings.node.data_dir.ancestors().find(|directory| directory.exists()).unwrap_or(Path::new("/"));
    let state = match rustix::fs::statvfs(directory) {
        Ok(stat) if stat.f_bavail * 10 >= stat.f_blocks => {
            Ok(format!("{} free", output::size(stat.f_bavail * stat.f_frsize)))
        }
        Ok(stat) => Err(format!("{} free, under 10 %", output::size(stat.f_bavail * stat.f_frsize))),
        Err(error) => Err(error.to_string()),
    };
    Finding { what: "disk", state, remedy: "knarr image prune --all", required: false }
}
