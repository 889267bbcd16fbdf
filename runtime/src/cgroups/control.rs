//! Carrying out what was decided about a container's cgroups: make, fill, enter, freeze, kill, remove.

use super::{Cgroups, Directory, Write};
use crate::error::{Context, Error, Kind, Result};
use crate::kernel_file;
use rustix::fs::{Access, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the kernel may take to let go of a cgroup whose processes have all died.
const REMOVE_DEADLINE: Duration = Duration::from_secs(10);

/// How often a cgroup is made that is taken away meanwhile.
const TRIES: u32 = 32;

/// Makes the directories. On version 2, controllers are handed down on the way.
pub(crate) fn create(cgroups: &Cgroups) -> Result<()> {
    cgroups.directories.iter().try_for_each(|directory| create_directory(cgroups, directory))
}

/// Makes the one of version 2 only.
pub(crate) fn create_unified(cgroups: &Cgroups) -> Result<()> {
    cgroups.version_2().map_or(Ok(()), |directory| create_directory(cgroups, directory))
}

fn create_directory(cgroups: &Cgroups, directory: &Directory) -> Result<()> {
    create_one(directory, cgroups.unified)
        .context(|| format!("failed to create cgroup {}", directory.path.display()))
}

/// Whether we have the right: to the cgroup where it exists, else to the nearest one above it.
pub(crate) fn can_be_made(directory: &Directory) -> bool {
    let mut existing = directory.path.ancestors();
    let nearest = existing.find(|path| rustix::fs::stat(*path).is_ok());
    nearest.is_some_and(|path| rustix::fs::access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok())
}

/// A cgroup that has processes is somebody else's: its limits would become ours, and deleting us would kill them. In one
/// that is frozen init would never come to its first instruction.
pub(crate) fn ensure_free(cgroups: &Cgroups) -> Result<()> {
    if is_frozen(cgroups)? {
        return Err(Error::new(Kind::State, "container's cgroup unexpectedly frozen"));
    }
    match processes(cgroups)?.len() {
        0 => Ok(()),
        count => Err(Error::new(
            Kind::State,
            format!("container's cgroup is not empty: {count} process(es) found"),
        )),
    }
}

fn create_one(directory: &Directory, unified: bool) -> Result<()> {
    // Whoever removes those above it when they are empty may do so meanwhile.
    for _ in 1..TRIES {
        let made = make_one(directory, unified);
        if made.is_ok() || directory.path.exists() {
            return made;
        }
    }
    make_one(directory, unified)
}

fn make_one(directory: &Directory, unified: bool) -> Result<()> {
    if !unified && make(directory, &directory.path)? {
        return Ok(());
    }
    let below = directory.path.strip_prefix(&directory.mount).unwrap_or(Path::new(""));
    let mut here = directory.mount.clone();
    for name in below {
        if unified {
            enable_controllers(&here)?;
        }
        here.push(name);
        if !make(directory, &here)? {
            return Err(Error::new(Kind::Os, format!("mkdir({here:?}): {}", Errno::NOENT)));
        }
    }
    Ok(())
}

/// Makes one cgroup, or finds it there; false when its parent is missing.
fn make(directory: &Directory, cgroup: &Path) -> Result<bool> {
    match rustix::fs::mkdir(cgroup, Mode::from_raw_mode(0o755)) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(Errno::NOENT) => return Ok(false),
        Err(errno) => return Err(errno).context(|| format!("mkdir({cgroup:?})")),
    }
    if directory.controllers.iter().any(|controller| controller == "cpuset") {
        inherit_cpuset(&directory.mount, cgroup)?;
    }
    Ok(true)
}

/// Every controller the parent has. One that cannot be handed down (threaded, busy) is missed when a limit needs it.
fn enable_controllers(cgroup: &Path) -> Result<()> {
    let available = kernel_file::read(cgroup.join("cgroup.controllers")).context(|| "cgroup.controllers")?;
    let enabled =
        kernel_file::read(cgroup.join("cgroup.subtree_control")).context(|| "cgroup.subtree_control")?;
    let enabled: Vec<&str> = enabled.split_whitespace().collect();
    for controller in available.split_whitespace().filter(|controller| !enabled.contains(controller)) {
        // The limits themselves report what is missing, by the name of their file.
        let _ = kernel_file::write(cgroup.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    Ok(())
}

/// A new version 1 cpuset is empty and takes no process until it has CPUs and memory nodes. Those above it may be
/// empty too, where whoever made them had no processes for them.
fn inherit_cpuset(mount: &Path, cgroup: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        inherited(mount, cgroup, file).context(|| file)?;
    }
    Ok(())
}

/// The value of a cpuset; where it has none, it gets its parent's.
fn inherited(mount: &Path, cgroup: &Path, file: &str) -> std::io::Result<String> {
    let own = kernel_file::read(cgroup.join(file))?.trim().to_string();
    match cgroup.parent().filter(|_| cgroup != mount && own.is_empty()) {
        None => Ok(own),
        Some(parent) => {
            let value = inherited(mount, parent, file)?;
            kernel_file::write(cgroup.join(file), &value)?;
            Ok(value)
        }
    }
}

/// Moves a process that is not ours to decide about. It waits for the quiet of all CPUs: for rare commands only.
pub(crate) fn attach(cgroups: &Cgroups, pid: u32) -> Result<()> {
    for directory in &cgroups.directories {
        let file = directory.path.join("cgroup.procs");
        kernel_file::write(&file, pid.to_string()).context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Writes values. Some files refuse until another has been written (memory and memory plus swap, quota and period),
/// and which comes first depends on the old values: what fails is tried once more after the rest.
pub(crate) fn write_all(cgroups: &Cgroups, writes: &[Write]) -> Result<()> {
    let mut last = None;
    let failed: Vec<&Write> = writes.iter().filter(|one| write(cgroups, one, &mut last).is_err()).collect();
    failed.into_iter().try_for_each(|one| write(cgroups, one, &mut None))
}

/// Writes one; `last` is the file of the write before, as a list of device rules goes line by line into the same one.
fn write(cgroups: &Cgroups, write: &Write, last: &mut Option<(PathBuf, OwnedFd)>) -> Result<()> {
    let Some(directory) = cgroups.directory(&write.controller) else {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "cannot set {} limit: container could not join or create cgroup",
                write.file.split('.').next().unwrap_or_default()
            ),
        ));
    };
    let path = directory.join(&write.file);
    let mut written = || {
        if last.as_ref().is_none_or(|(open, _)| *open != path) {
            *last = Some((path.clone(), open_limit(&path)?));
        }
        last.as_ref().map_or(Ok(()), |(_, file)| kernel_file::write_to(file, &write.value))
    };
    written().context(|| format!("failed to write {:?} to {}", write.value, path.display()))
}

/// Weights of version 1 belong to a scheduler of block devices, and the one that is left has them under its own name.
fn open_limit(path: &Path) -> std::io::Result<OwnedFd> {
    match kernel_file::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            match name.strip_prefix("blkio.weight") {
                Some(rest) => kernel_file::open(path.with_file_name(format!("blkio.bfq.weight{rest}")))
                    .map_err(|_| error),
                None => Err(error),
            }
        }
        opened => opened,
    }
}

/// Where a process enters each of the version 1 cgroups.
///
/// These are the `tasks` files, into which init writes "0" itself. A thread that moves itself is the one case in which
/// the kernel need not hold off every fork and exit of the machine, for which it waits until all CPUs have passed a
/// quiet state: 4 to 20 ms on an idle machine, against 30 us. Opened by the runtime, whose rights count.
pub(crate) fn open_entrances(cgroups: &Cgroups) -> Result<Vec<OwnedFd>> {
    let open = |directory: &Directory| {
        kernel_file::open(directory.path.join("tasks"))
            .context(|| format!("failed to open cgroup {}", directory.path.display()))
    };
    cgroups.directories.iter().filter(|directory| !directory.controllers.is_empty()).map(open).collect()
}

/// Moves the calling process, which has one thread, through all of them.
pub(crate) fn enter(entrances: &[OwnedFd]) -> Result<()> {
    entrances.iter().try_for_each(|entrance| {
        kernel_file::write_to(entrance, "0")
            .context(|| "failed to add the process to a cgroup: write(<tasks>)")
    })
}

/// The version 2 directory, to clone into.
pub(crate) fn open(cgroups: &Cgroups) -> Result<Option<OwnedFd>> {
    let Some(directory) = cgroups.version_2() else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(&directory.path, flags, Mode::empty())
        .context(|| format!("open({:?})", directory.path))?;
    Ok(Some(fd))
}

/// All processes in the container's cgroup and those below it, as seen from our pid namespace.
pub(crate) fn processes(cgroups: &Cgroups) -> Result<Vec<i32>> {
    let Some(directory) = best_for_counting(cgroups) else { return Ok(vec![]) };
    let mut pids = Vec::new();
    for cgroup in tree(directory) {
        match kernel_file::read(cgroup.join("cgroup.procs")) {
            Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
            Err(error) if gone(&error) => {}
            Err(error) => return Err(error).context(|| format!("read {}/cgroup.procs", cgroup.display())),
        }
    }
    Ok(pids)
}

/// The hierarchy that nobody shares or leaves half-way.
fn best_for_counting(cgroups: &Cgroups) -> Option<&PathBuf> {
    ["devices", "pids", "freezer"]
        .iter()
        .find_map(|name| cgroups.directory(name))
        .or_else(|| cgroups.directories.first().map(|directory| &directory.path))
}

fn gone(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// A cgroup and all below it, the deepest last.
fn tree(top: &Path) -> Vec<PathBuf> {
    let mut found = vec![top.to_path_buf()];
    let mut next = 0;
    while let Some(here) = found.get(next).cloned() {
        next += 1;
        let entries = std::fs::read_dir(&here).into_iter().flatten().flatten();
        found.extend(entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()));
    }
    found
}

/// Sends a signal to every process. Version 2 kills all at once, even while they fork.
pub(crate) fn signal_all(cgroups: &Cgroups, signal: Signal) -> Result<()> {
    if signal == Signal::KILL
        && cgroups.unified
        && let Some(directory) = cgroups.directories.first()
        && kernel_file::write(directory.path.join("cgroup.kill"), "1").is_ok()
    {
        return Ok(());
    }
    let kill = signal == Signal::KILL;
    // Frozen, a fork bomb cannot outrun the list. A host without a freezer does without.
    let frozen = kill && freeze(cgroups, true).is_ok();
    let mut errors = Vec::new();
    for pid in processes(cgroups)? {
        let Some(target) = Pid::from_raw(pid) else { continue };
        match rustix::process::kill_process(target, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => errors.extend(Err::<(), _>(errno).context(|| format!("kill({pid})")).err()),
        }
    }
    if frozen {
        errors.extend(freeze(cgroups, false).err());
    }
    Error::all(errors)
}

/// Freezes or thaws and waits until it has happened.
pub(crate) fn freeze(cgroups: &Cgroups, frozen: bool) -> Result<()> {
    let Some(directory) = cgroups.directory("freezer") else {
        return Err(Error::new(Kind::Unsupported, "cgroup freezer is not mounted"));
    };
    let (file, value) = match (cgroups.unified, frozen) {
        (true, true) => ("cgroup.freeze", "1"),
        (true, false) => ("cgroup.freeze", "0"),
        (false, true) => ("freezer.state", "FROZEN"),
        (false, false) => ("freezer.state", "THAWED"),
    };
    let deadline = Instant::now() + REMOVE_DEADLINE;
    loop {
        // Version 1 forgets tasks that were forking meanwhile: the state is written again until it holds.
        kernel_file::write(directory.join(file), value).context(|| format!("write {file}"))?;
        if is_frozen(cgroups)? == frozen {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::new(Kind::Os, format!("unable to freeze: {file} does not become {value}")));
        }
        pause();
    }
}

/// Whether everything in it stands still.
pub(crate) fn is_frozen(cgroups: &Cgroups) -> Result<bool> {
    let Some(directory) = cgroups.directory("freezer") else { return Ok(false) };
    let file = directory.join(if cgroups.unified { "cgroup.events" } else { "freezer.state" });
    match kernel_file::read(&file) {
        Ok(text) if cgroups.unified => Ok(text.lines().any(|line| line == "frozen 1")),
        Ok(text) => Ok(text.trim() == "FROZEN"),
        Err(error) if gone(&error) => Ok(false),
        Err(error) => Err(error).context(|| format!("read {}", file.display())),
    }
}

/// There is no event for "this cgroup may go now"; a millisecond is the kernel's own pace.
fn pause() {
    let wait = rustix::thread::Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
    let _ = rustix::thread::nanosleep(&wait);
}

/// Removes them where nothing is in them or below them, as it nearly always is; whether all are gone.
pub(crate) fn remove_empty(cgroups: &Cgroups) -> bool {
    let gone =
        |directory: &Directory| matches!(rustix::fs::rmdir(&directory.path), Ok(()) | Err(Errno::NOENT));
    // All are tried: what goes now need not be looked at again.
    cgroups.directories.iter().filter(|directory| !gone(directory)).count() == 0
}

/// Removes them with all below. What is already gone is fine; all that fails is reported.
pub(crate) fn remove(cgroups: &Cgroups) -> Result<()> {
    let deadline = Instant::now() + REMOVE_DEADLINE;
    let stopped = cgroups.scope.as_ref().and_then(|scope| crate::systemd::stop(scope).err());
    let errors =
        cgroups.directories.iter().filter_map(|directory| remove_tree(&directory.path, deadline).err());
    Error::all(stopped.into_iter().chain(errors).collect())
}

fn remove_tree(top: &Path, deadline: Instant) -> Result<()> {
    tree(top).iter().rev().try_for_each(|cgroup| remove_one(cgroup, deadline))
}

fn remove_one(cgroup: &Path, deadline: Instant) -> Result<()> {
    loop {
        match rustix::fs::rmdir(cgroup) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => pause(),
            Err(errno) => {
                return Err(errno).context(|| format!("unable to remove cgroup {}", cgroup.display()));
            }
        }
    }
}

/// Replaces the device filter of a version 2 cgroup.
pub(crate) fn set_device_filter(cgroups: &Cgroups, rules: &[super::devices::Rule]) -> Result<()> {
    use std::os::fd::AsFd;
    let Some(cgroup) = open(cgroups)? else { return Ok(()) };
    let old = knarr_sys::bpf::attached_device_filters(cgroup.as_fd())?;
    let new = knarr_sys::bpf::load_device_filter(&super::device_filter::program(rules))
        .context(|| "failed to load the device filter")?;
    knarr_sys::bpf::attach_device_filter(cgroup.as_fd(), new.as_fd())?;
    for filter in &old {
        knarr_sys::bpf::detach_device_filter(cgroup.as_fd(), filter.as_fd())?;
    }
    Ok(())
}
