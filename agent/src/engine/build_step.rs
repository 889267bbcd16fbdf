//! Executes the RUN instructions of an image build: `knarr-images` mounts and commits, this makes a bundle of what it
//! asks for and gives it to the OCI runtime.
//!
//! A step is a container like any other: fourteen capabilities, the default seccomp profile, masked paths, its own
//! mount, pid, ipc and uts namespaces and cgroup. Its network is the host's, because there is no pod it could belong
//! to, and because a build that downloads must work on a machine with nothing set up; `--network none` has loopback
//! only.

use super::host::HostFacts;
use super::rootfs_file;
use super::spec::{self, capabilities_by_default, default_seccomp, user};
use super::{cgroups, core::sibling_binary};
use crate::config::Config;
use anyhow::Context;
use knarr_cri::v1::LinuxContainerSecurityContext;
use knarr_images::{Error, ErrorKind, Network, RunLimits, RunMount, RunStep, Runner};
use knarr_runtime::spec::{
    Capabilities, Cpu, DeviceRule, Linux, Memory, Mount, Namespace, NamespaceKind, Process, Resources,
    Rlimit, Root, Spec, User, VERSION,
};
use std::collections::BTreeSet;
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs steps with the default runtime of a configuration.
#[derive(Debug)]
pub struct StepRunner {
    runtime: PathBuf,
    /// Where the runtime keeps its state.
    state: PathBuf,
    capabilities: BTreeSet<String>,
    unified_cgroups: bool,
    /// Held for moments only, never across a step.
    running: Mutex<Steps>,
}

/// Steps at work, by id.
#[derive(Debug, Default)]
struct Steps {
    ids: BTreeSet<String>,
    cancelled: bool,
}

impl Steps {
    fn check(&self) -> Result<(), Error> {
        match self.cancelled {
            true => Err(Error::new(ErrorKind::Unavailable, "the build was cancelled")),
            false => Ok(()),
        }
    }
}

impl StepRunner {
    /// Finds out what this machine can give.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let hierarchies = cgroups::Hierarchies::detect().context("cgroups")?;
        let host = HostFacts::detect(config.engine.clamp_denied_limits, &hierarchies)?;
        let held: BTreeSet<String> = host.capabilities.into_iter().collect();
        Ok(Self {
            runtime: config
                .engine
                .runtimes
                .get("")
                .cloned()
                .unwrap_or_else(|| sibling_binary("knarr-runtime")),
            state: config.state_dir.join("build"),
            capabilities: capabilities_by_default()
                .filter(|name| held.contains(*name))
                .map(str::to_owned)
                .collect(),
            unified_cgroups: host.unified_cgroups,
            running: Mutex::default(),
        })
    }

    /// Kills every step at work and starts no other: their builds end with an error.
    pub fn cancel(&self) {
        let ids = {
            let mut steps = self.steps();
            steps.cancelled = true;
            steps.ids.clone()
        };
        for id in ids {
            let killed = self
                .runtime()
                .args(["kill", &id, "KILL"])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .status();
            if let Err(error) = killed {
                tracing::warn!(%error, id, "cannot kill a build step");
            }
        }
    }

    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runtime(&self) -> Command {
        let mut command = Command::new(&self.runtime);
        command.arg("--root").arg(&self.state);
        command
    }

    fn execute(&self, step: &RunStep<'_>) -> anyhow::Result<i32> {
        let spec = self.spec(step)?;
        std::fs::write(step.scratch.join("config.json"), serde_json::to_vec(&spec)?)?;
        let (mut reader, writer) = std::io::pipe()?;
        let mut child = self
            .runtime()
            .args(["run", "--bundle"])
            .arg(&step.scratch)
            .arg(&step.id)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("running {}", self.runtime.display()))?;
        let mut buffer = [0; 8192];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => (step.output)(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let status = child.wait()?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
    }

    fn spec(&self, step: &RunStep<'_>) -> anyhow::Result<Spec> {
        let capabilities: Vec<String> = self.capabilities.iter().cloned().collect();
        Ok(Spec {
            oci_version: VERSION.into(),
            root: Some(Root { path: step.rootfs.to_string_lossy().into_owned(), readonly: false }),
            hostname: "build".into(),
            process: Some(Process {
                user: user_of(step)?,
                args: step.argv.clone(),
                env: environment(step)?,
                cwd: step.workdir.clone(),
                capabilities: Some(Capabilities {
                    bounding: capabilities.clone(),
                    effective: capabilities.clone(),
                    permitted: capabilities,
                    ..Capabilities::default()
                }),
                rlimits: step.limits.ulimits.iter().map(rlimit).collect(),
                ..Process::default()
            }),
            mounts: mounts(step)?,
            linux: Some(self.linux(step)),
            ..Spec::default()
        })
    }

    fn linux(&self, step: &RunStep<'_>) -> Linux {
        let mut kinds =
            vec![NamespaceKind::Mount, NamespaceKind::Pid, NamespaceKind::Ipc, NamespaceKind::Uts];
        if step.network == Network::None {
            kinds.push(NamespaceKind::Network);
        }
        if self.unified_cgroups {
            kinds.push(NamespaceKind::Cgroup);
        }
        let deny_all = DeviceRule { allow: false, access: "rwm".into(), ..DeviceRule::default() };
        let (masked_paths, readonly_paths) = spec::default_hidden_paths();
        Linux {
            namespaces: kinds.into_iter().map(|kind| Namespace { kind, path: String::new() }).collect(),
            cgroups_path: format!("{}/knarr-{}", step.limits.cgroup_parent.trim_end_matches('/'), step.id),
            resources: Some(resources(&step.limits, deny_all)),
            seccomp: Some(default_seccomp(&self.capabilities)),
            masked_paths,
            readonly_paths,
            ..Linux::default()
        }
    }
}

impl Runner for StepRunner {
    fn run(&self, step: &RunStep<'_>) -> Result<i32, Error> {
        {
            let mut steps = self.steps();
            steps.check()?;
            steps.ids.insert(step.id.clone());
        }
        let status = self.execute(step).map_err(|error| Error::new(ErrorKind::Io, format!("{error:#}")));
        self.steps().ids.remove(&step.id);
        status
    }

    fn check(&self) -> Result<(), Error> {
        self.steps().check()
    }
}

fn rlimit((name, soft, hard): &(String, u64, u64)) -> Rlimit {
    let kind = format!("RLIMIT_{}", name.to_ascii_uppercase());
    Rlimit { kind, hard: *hard, soft: *soft }
}

fn resources(limits: &RunLimits, devices: DeviceRule) -> Resources {
    let memory = Memory { limit: limits.memory, swap: limits.memory_swap, ..Memory::default() };
    let cpu = Cpu {
        shares: limits.cpu_shares,
        period: limits.cpu_period,
        quota: limits.cpu_quota,
        cpus: limits.cpuset_cpus.clone(),
        mems: limits.cpuset_mems.clone(),
        ..Cpu::default()
    };
    let devices = vec![devices];
    Resources {
        devices,
        memory: Some(memory).filter(|memory| *memory != Memory::default()),
        cpu: Some(cpu).filter(|cpu| *cpu != Cpu::default()),
        ..Resources::default()
    }
}

fn user_of(step: &RunStep<'_>) -> anyhow::Result<User> {
    let security = LinuxContainerSecurityContext::default();
    let wanted = user::wanted(&security, &step.user)?;
    let passwd = rootfs_file::read(&step.rootfs, "etc/passwd")?;
    let group = rootfs_file::read(&step.rootfs, "etc/group")?;
    let user = user::resolve(&wanted, &security, &passwd, &group)?;
    Ok(User { uid: user.uid, gid: user.gid, additional_gids: user.groups, ..User::default() })
}

/// The step's own, with a home directory: that of the user's line in passwd.
fn environment(step: &RunStep<'_>) -> anyhow::Result<Vec<String>> {
    let mut env: Vec<String> = step.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if !step.env.iter().any(|(name, _)| name == "PATH") {
        env.insert(0, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    }
    if !step.env.iter().any(|(name, _)| name == "HOME") {
        let passwd = rootfs_file::read(&step.rootfs, "etc/passwd")?;
        env.push(format!("HOME={}", home(&passwd, &step.user)));
    }
    Ok(env)
}

fn home(passwd: &str, user: &str) -> String {
    let user = user.split(':').next().filter(|user| !user.is_empty()).unwrap_or("0");
    let lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let is_user = |fields: &Vec<&str>| fields.first() == Some(&user) || fields.get(2) == Some(&user);
    let found = lines.into_iter().find(is_user).and_then(|fields| fields.get(5).map(ToString::to_string));
    let fallback = if user == "0" || user == "root" { "/root" } else { "/" };
    found.filter(|home| !home.is_empty()).unwrap_or_else(|| fallback.to_owned())
}

fn mounts(step: &RunStep<'_>) -> anyhow::Result<Vec<Mount>> {
    let mut mounts = spec::standard_mounts(false);
    let size = step.limits.shm_size.map_or("size=65536k".to_owned(), |bytes| format!("size={bytes}"));
    mounts.push(spec::mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
    for file in ["/etc/resolv.conf", "/etc/hosts"] {
        if Path::new(file).is_file() {
            mounts.push(spec::bind(file, Path::new(file), &["ro"]));
        }
    }
    if !step.hosts.is_empty() {
        mounts.push(spec::bind("/etc/hosts", &hosts_file(step)?, &["ro"]));
    }
    for mount in &step.mounts {
        mounts.push(match mount {
            RunMount::Bind { source, target, read_only } => {
                spec::bind(target, source, &[if *read_only { "ro" } else { "rw" }])
            }
            RunMount::Tmpfs { target, size } => {
                let size = size.map(|size| format!("size={size}"));
                let options: Vec<&str> = ["nosuid", "nodev"].into_iter().chain(size.as_deref()).collect();
                spec::mount(target, "tmpfs", "tmpfs", &options)
            }
        });
    }
    Ok(mounts)
}

/// This machine's names, and those that the build was given.
fn hosts_file(step: &RunStep<'_>) -> anyhow::Result<PathBuf> {
    let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    for (name, address) in &step.hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    let file = step.scratch.join("hosts");
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::home;

    #[test]
    fn home_is_that_of_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:33::/var/www:/bin/false\nodd:x:5:5:::\n";
        for (user, expected) in
            [("", "/root"), ("www", "/var/www"), ("33:0", "/var/www"), ("odd", "/"), ("7", "/")]
        {
            assert_eq!(home(passwd, user), expected, "{user}");
        }
        assert_eq!(home("", ""), "/root");
    }
}
