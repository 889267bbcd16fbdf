//! What `create` and `run` have in common: from a bundle to a container whose init is ready.

use super::Global;
use super::arguments::{Arguments, Flag};
use crate::activation::Activation;
use crate::bootstrap::runtime::{self, Created, Setup};
use crate::cgroups::{control, layout::Layout};
use crate::container::{Container, Record};
use crate::error::{Context, Error, Result};
use crate::intel_rdt::Resctrl;
use crate::log::Log;
use crate::plan::{HookKind, Host, Options, Plan, Step, rootfs_path};
use crate::spec::{Hooks, NamespaceKind, Spec, parse};
use crate::state::Status;
use crate::{hooks, notify_socket, rootfs, sealed_exe, security_label, socket, systemd};
use rustix::process::Pid;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Flags of both commands.
pub(super) const FLAGS: &[Flag] = &[
    Flag::value("bundle", Some('b')),
    Flag::value("console-socket", None),
    Flag::value("pidfd-socket", None),
    Flag::value("pid-file", None),
    Flag::switch("no-pivot", None),
    Flag::switch("no-new-keyring", None),
    Flag::value("preserve-fds", None),
    Flag::value("timeline", None),
];

/// A configuration with where it came from.
pub(super) struct Bundle {
    pub(super) path: PathBuf,
    pub(super) json: Vec<u8>,
    pub(super) spec: Spec,
}

/// Reads `config.json`.
pub(super) fn read_bundle(arguments: &Arguments) -> Result<Bundle> {
    let given = arguments.path("bundle").unwrap_or_else(|| PathBuf::from("."));
    let path = std::fs::canonicalize(&given).context(|| format!("chdir {}", given.display()))?;
    let file = path.join("config.json");
    let json = match std::fs::read(&file) {
        Ok(json) => json,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::invalid("JSON specification file config.json not found"));
        }
        Err(error) => return Err(error).context(|| format!("read {}", file.display())),
    };
    let spec = parse(&json).map_err(|error| Error::invalid(format!("config.json: {error}")))?;
    Ok(Bundle { path, json, spec })
}

/// Decides everything.
pub(super) fn plan(
    global: &Global,
    bundle: &Bundle,
    id: &str,
    arguments: &Arguments,
    wait_for_start: bool,
) -> Result<Plan> {
    let rootless = !rustix::process::geteuid().is_root();
    let options = Options {
        id: id.into(),
        bundle: bundle.path.clone(),
        rootfs: rootfs_path(&bundle.spec, &bundle.path),
        no_pivot: arguments.has("no-pivot"),
        no_new_keyring: arguments.has("no-new-keyring"),
        preserve_fds: preserved(arguments)?,
        wait_for_start,
        systemd: global.systemd,
        rootless,
        prepare_all: false,
    };
    let mut plan = Plan::new(&bundle.spec, &options, &host(&bundle.spec)?)?;
    if rootless {
        // What nobody handed down to this user it does without; a limit that needs it is refused by name.
        plan.cgroups.directories.retain(control::can_be_made);
        let unbound = plan.cgroups.directories.is_empty() && plan.cgroups.scope.is_none();
        if unbound && !plan.namespaces.has(NamespaceKind::Pid) {
            plan.warnings.push(NOT_ALL_KILLED.into());
        }
    }
    Ok(plan)
}

/// In runc's words.
const NOT_ALL_KILLED: &str = "Creating a rootless container with no cgroup and no private pid namespace. Such configuration \
     is strongly discouraged (as it is impossible to properly kill all container's processes)";

/// What this host has, of what the configuration asks for.
fn host(spec: &Spec) -> Result<Host> {
    let rdt = spec.linux.as_ref().is_some_and(|linux| linux.intel_rdt.is_some());
    Ok(Host {
        layout: Layout::detect()?,
        kcore: Path::new("/proc/kcore").exists(),
        selinux: security_label::selinux_enabled(),
        resctrl: if rdt { Resctrl::detect() } else { Resctrl::default() },
    })
}

/// A container whose init is ready.
pub(super) struct Launched {
    pub(super) container: Container,
    pub(super) created: Created,
    pub(super) plan: Plan,
}

/// Makes it. After a failure nothing of it is left.
pub(super) fn launch(
    global: &Global,
    arguments: &Arguments,
    bundle: &mut Bundle,
    console: Option<OwnedFd>,
    wait_for_start: bool,
) -> Result<Launched> {
    let id = super::container_id(arguments);
    crate::container::check_id(&id)?;
    if global.systemd {
        systemd::check_running()?;
    }
    let activation = Activation::inherited();
    check_preserved(arguments, activation.count)?;
    let directory = global.root.join(&id);
    if let Some(process) = &mut bundle.spec.process {
        process.env.extend(activation.environment());
    }
    let notify = notify_socket::wanted().is_some();
    if notify {
        notify_socket::add_to(&mut bundle.spec, &directory);
    }
    let plan = plan(global, bundle, &id, arguments, wait_for_start)?;
    report(&plan, &global.log);
    check_rootfs(&plan.rootfs)?;
    crate::container::check_free(&global.root, &id)?;
    control::ensure_free(&plan.cgroups)?;
    let mut container = Container::create(&global.root, record(bundle, &plan)?, &bundle.json)?;
    let made = if notify { notify_socket::make_directory(&directory) } else { Ok(()) };
    match made.and_then(|()| build(&mut container, &plan, arguments, console, wait_for_start)) {
        Ok(created) => Ok(Launched { container, created, plan }),
        Err(error) => Err(error.and(undo(&container, &plan))).context(|| "unable to start container process"),
    }
}

/// The descriptors that are promised must be there before we open any of our own, which could take their numbers.
/// What is going to happen, for `--debug`, and what was asked for in vain.
pub(super) fn report(plan: &Plan, log: &Log) {
    for step in &plan.steps {
        log.debug(|| step.description().operation);
        if let Step::Seccomp(filter) = step {
            log.debug(|| format!("seccomp filter flags: {}", filter.flags));
        }
    }
    plan.warnings.iter().for_each(|warning| log.warn(warning));
}

fn check_preserved(arguments: &Arguments, activated: u32) -> Result<()> {
    let count: u32 = arguments.number("preserve-fds")?.unwrap_or(0);
    let first = 3 + activated;
    for number in first..first.saturating_add(count) {
        if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
            return Err(Error::invalid(format!(
                "please check that preserved-fd {} (of {count}) is present: stat /proc/self/fd/{number}: no such file or directory",
                number - first
            )));
        }
    }
    Ok(())
}

fn check_rootfs(rootfs: &Path) -> Result<()> {
    match std::fs::metadata(rootfs) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::invalid(format!("invalid rootfs: {} is not a directory", rootfs.display()))),
        Err(error) => Err(error).context(|| format!("invalid rootfs: stat {}", rootfs.display())),
    }
}

pub(super) fn record(bundle: &Bundle, plan: &Plan) -> Result<Record> {
    let own_mounts = plan.namespaces.has(NamespaceKind::Mount);
    let mounts_below = if own_mounts { None } else { Some(rootfs::mounts_at(&plan.rootfs)?) };
    Ok(Record {
        id: plan.id.clone(),
        oci_version: bundle.spec.oci_version.clone(),
        bundle: bundle.path.display().to_string(),
        rootfs: plan.rootfs.display().to_string(),
        created: jiff::Timestamp::now().to_string(),
        annotations: bundle.spec.annotations.clone(),
        cgroups: plan.cgroups.clone(),
        resctrl: plan.resctrl.clone(),
        mounts_below,
        shares_pids: !plan.namespaces.new.contains(&NamespaceKind::Pid),
        hooks: Hooks {
            poststart: plan.hooks.poststart.clone(),
            poststop: plan.hooks.poststop.clone(),
            ..Hooks::default()
        },
        init_process_pid: 0,
        init_process_start: 0,
    })
}

fn build(
    container: &mut Container,
    plan: &Plan,
    arguments: &Arguments,
    console: Option<OwnedFd>,
    wait_for_start: bool,
) -> Result<Created> {
    let start_fifo = if wait_for_start { Some(container.make_fifo()?) } else { None };
    let timeline = arguments.path("timeline").is_some();
    let setup = Setup { console, start_fifo, timeline, ..Setup::default() };
    let mut state = container.state_as(Status::Creating);
    state.oci_version = crate::spec::VERSION.into();
    // All but the last step of recording its pid happens while init is at work.
    let created = runtime::create(plan, state, setup, container)?;
    match announce(container, &created, arguments) {
        Ok(()) => Ok(created),
        Err(error) => Err(error.and(created.kill())),
    }
}

/// Tells the world about init: record, pid file, pidfd.
fn announce(container: &Container, created: &Created, arguments: &Arguments) -> Result<()> {
    container.commit_init()?;
    if let Some(path) = arguments.path("pid-file") {
        write_pid_file(&path, created.child.pid)?;
    }
    if let Some(path) = arguments.path("pidfd-socket") {
        send_pidfd(&path, &created.child.pidfd)?;
    }
    Ok(())
}

/// Replaced at once: conmon watches for it.
pub(super) fn write_pid_file(path: &Path, pid: Pid) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    std::fs::write(&new, pid.as_raw_nonzero().to_string()).context(|| format!("write {}", new.display()))?;
    std::fs::rename(&new, path).context(|| format!("rename to {}", path.display()))
}

pub(super) fn send_pidfd(path: &Path, pidfd: &OwnedFd) -> Result<()> {
    let socket = socket::connect(path).context(|| "pidfd socket")?;
    let name = format!("pidfd:{}", pidfd.as_raw_fd());
    socket::send_fd(socket.as_fd(), name.as_bytes(), pidfd.as_fd())
}

/// After a failure: every clean-up is tried, every error of it told.
pub(super) fn undo(container: &Container, plan: &Plan) -> Result<()> {
    let poststop = || {
        let state = container.state_as(Status::Stopped);
        hooks::run(HookKind::Poststop.name(), HookKind::Poststop.of(&plan.hooks), &state)
    };
    let group = plan.resctrl.as_ref().map_or(Ok(()), |group| group.remove());
    let removed = [control::remove(&plan.cgroups), group, container.unmount(), container.remove_directory()];
    let done = std::iter::once(poststop()).chain(removed);
    Error::all(done.filter_map(Result::err).collect())
}

/// Where the terminal's master goes, by the rules of runc.
pub(super) fn console(bundle: &Bundle, arguments: &Arguments, detach: bool) -> Result<Option<OwnedFd>> {
    let terminal = bundle.spec.process.as_ref().is_some_and(|process| process.terminal);
    console_for(terminal, arguments, detach)
}

/// The same for a process that is not the bundle's.
pub(super) fn console_for(terminal: bool, arguments: &Arguments, detach: bool) -> Result<Option<OwnedFd>> {
    match arguments.path("console-socket") {
        None if detach && terminal => {
            Err(Error::invalid("cannot allocate tty if runc will detach without setting console socket"))
        }
        Some(_) if !detach || !terminal => {
            Err(Error::invalid("cannot use console socket if runc will not detach or allocate tty"))
        }
        None => Ok(None),
        Some(path) => socket::connect(&path).map(Some),
    }
}

/// How many descriptors from 3 on are meant for the program: activated sockets, then what the flag says.
fn preserved(arguments: &Arguments) -> Result<u32> {
    let given: u32 = arguments.number("preserve-fds")?.unwrap_or(0);
    Ok(given.saturating_add(Activation::inherited().count))
}

/// What enters a container must not be this file itself, and must not hold what our caller forgot to close: init may
/// wait for `start` for long, and somebody else for the end of a pipe.
pub(super) fn protect_ourselves(arguments: &Arguments) -> Result<()> {
    close_inherited(arguments)?;
    sealed_exe::ensure()
}

/// Descriptors that our caller forgot to close.
pub(super) fn close_inherited(arguments: &Arguments) -> Result<()> {
    Ok(knarr_sys::process::close_inherited(preserved(arguments)?.saturating_add(3))?)
}
