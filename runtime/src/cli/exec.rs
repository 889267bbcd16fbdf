//! `exec`: one more process in a running container.

use super::foreground::{self, Foreground};
use super::launch;
use super::{Arguments, Flag, Global};
use crate::bootstrap::runtime::{self, Company, Setup};
use crate::cgroups::Cgroups;
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::plan::{ExecTarget, Plan};
use crate::sealed_exe;
use crate::spec::{Capabilities, Linux, NamespaceKind, Process, Spec, User, parse};
use crate::state::Status;
use crate::timeline::Timeline;
use knarr_sys::clone::Child;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

pub(super) const FLAGS: &[Flag] = &[
    Flag::value("console-socket", None),
    Flag::value("pidfd-socket", None),
    Flag::value("cwd", None),
    Flag::value("env", Some('e')),
    Flag::switch("tty", Some('t')),
    Flag::value("user", Some('u')),
    Flag::value("additional-gids", Some('g')),
    Flag::value("process", Some('p')),
    Flag::switch("detach", Some('d')),
    Flag::value("pid-file", None),
    Flag::value("process-label", None),
    Flag::value("apparmor", None),
    Flag::switch("no-new-privs", None),
    Flag::value("cap", Some('c')),
    Flag::value("preserve-fds", None),
    Flag::value("cgroup", None),
    Flag::switch("ignore-paused", None),
    Flag::value("timeline", None),
];

pub(super) fn run(global: &Global, arguments: &Arguments) -> Result<u8> {
    sealed_exe::ensure()?;
    // It may be one of the descriptors that are closed next: the shell's `<(...)`.
    let process = arguments.path("process").map(|path| read_process(&path));
    launch::close_inherited(arguments)?;
    let executed =
        process.transpose().and_then(|process| execute(global, arguments, process)).context(|| "exec failed");
    // The program may end with 1 itself: callers tell our failures apart by this status, as runc's.
    executed.or_else(|error| {
        global.log.error(&error.to_string());
        Ok(FAILED)
    })
}

const FAILED: u8 = 255;

fn execute(global: &Global, arguments: &Arguments, file: Option<Process>) -> Result<u8> {
    let id = super::container_id(arguments);
    let container = Container::peek(&global.root, &id)?;
    check_status(&container, arguments)?;
    let spec = container.spec()?;
    let given = file.map_or_else(|| process(&spec, arguments), Ok)?;
    let detach = arguments.has("detach");
    let socket = launch::console_for(given.terminal, arguments, detach)?;
    let foreground = if detach { None } else { Some(Foreground::prepare(given.terminal, false)?) };
    let (foreground, console) = foreground::console(foreground, socket);
    let (child, timeline) = start(global, &container, &spec, &given, console, arguments)
        .context(|| "unable to start container process")?;
    if let Some(file) = arguments.path("timeline") {
        timeline.write(&file)?;
    }
    if let Some(path) = arguments.path("pid-file") {
        launch::write_pid_file(&path, child.pid)?;
    }
    if let Some(path) = arguments.path("pidfd-socket") {
        launch::send_pidfd(&path, &child.pidfd)?;
    }
    foreground.map_or(Ok(0), |foreground| foreground.wait(&child))
}

fn check_status(container: &Container, arguments: &Arguments) -> Result<()> {
    match container.status()? {
        Status::Stopped => Err(Error::new(Kind::State, "cannot exec in a stopped container")),
        Status::Creating => Err(Error::new(Kind::State, "cannot exec in a container that is being created")),
        Status::Paused if !arguments.has("ignore-paused") => Err(Error::new(
            Kind::State,
            "cannot exec in a paused container (use --ignore-paused to override)",
        )),
        _ => Ok(()),
    }
}

fn start(
    global: &Global,
    container: &Container,
    spec: &Spec,
    given: &Process,
    console: Option<OwnedFd>,
    arguments: &Arguments,
) -> Result<(Child, Timeline)> {
    let linux = spec.linux.clone().unwrap_or_default();
    let cgroups = cgroups(container, arguments)?;
    let target = ExecTarget {
        rootless: !rustix::process::geteuid().is_root(),
        id: &container.record.id,
        linux: &linux,
        cgroups,
        bundle: Path::new(&container.record.bundle).into(),
    };
    let plan = Plan::exec(target, given, arguments.number("preserve-fds")?.unwrap_or(0))?;
    launch::report(&plan, &global.log);
    let Some(pid) = Pid::from_raw(container.record.init_process_pid) else {
        return Err(Error::new(Kind::State, "container not running"));
    };
    let init = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context(|| "pidfd_open")?;
    let root = hosted_root(&linux, pid)?;
    if !container.is_alive() {
        return Err(Error::new(Kind::State, "cannot exec in a stopped container"));
    }
    let timeline = arguments.path("timeline").is_some();
    let setup = Setup { console, timeline, target: Some(init), root, ..Setup::default() };
    runtime::create(&plan, container.state_as(Status::Running), setup, &mut Alone)?.go()
}

/// The root of a container that has no mount namespace to bring it. Whether `pid` still is its init is the caller's to
/// ask afterwards.
pub(super) fn hosted_root(linux: &Linux, pid: Pid) -> Result<Option<OwnedFd>> {
    if linux.namespaces.iter().any(|namespace| namespace.kind == NamespaceKind::Mount) {
        return Ok(None);
    }
    let path = format!("/proc/{}/root", pid.as_raw_nonzero());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, Mode::empty()).map(Some).context(|| format!("open {path}"))
}

/// An exec keeps no record and holds no lock.
pub(super) struct Alone;

impl Company for Alone {
    fn meanwhile(&mut self, _: Pid) -> Result<()> {
        Ok(())
    }

    fn let_go(&mut self) {}
}

/// A path that stays below the container's own cgroup.
fn below(path: &str) -> Result<PathBuf> {
    let mut below = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(Error::invalid(format!("bad sub cgroup path: {path}"))),
        }
    }
    Ok(below)
}

/// The container's cgroups, or one below them.
fn cgroups(container: &Container, arguments: &Arguments) -> Result<Cgroups> {
    let mut cgroups = container.record.cgroups.clone();
    for wanted in arguments.texts("cgroup")? {
        let (controllers, path) = wanted.split_once(':').unwrap_or(("", &wanted));
        let below = below(path)?;
        let known =
            |wanted: &str| cgroups.directories.iter().any(|d| d.controllers.iter().any(|c| c == wanted));
        if let Some(unknown) = controllers.split(',').find(|name| !name.is_empty() && !known(name)) {
            return Err(Error::invalid(format!("unknown controller {unknown} in SubCgroupPaths")));
        }
        for directory in &mut cgroups.directories {
            if controllers.is_empty()
                || controllers.split(',').any(|c| directory.controllers.iter().any(|d| d == c))
            {
                directory.path = directory.path.join(&below);
            }
        }
    }
    Ok(cgroups)
}

fn read_process(path: &Path) -> Result<Process> {
    let json = std::fs::read(path).context(|| format!("read {}", path.display()))?;
    parse(&json).map_err(|error| Error::invalid(format!("{}: {error}", path.display())))
}

/// The container's own process with what the command line changes.
fn process(spec: &Spec, arguments: &Arguments) -> Result<Process> {
    let mut process = spec.process.clone().unwrap_or_default();
    process.args =
        arguments.positionals.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    process.terminal = arguments.has("tty");
    if let Some(cwd) = arguments.text("cwd")? {
        process.cwd = cwd;
    }
    process.env.extend(arguments.texts("env")?);
    process.no_new_privileges |= arguments.has("no-new-privs");
    if let Some(label) = arguments.text("process-label")? {
        process.selinux_label = label;
    }
    if let Some(profile) = arguments.text("apparmor")? {
        process.apparmor_profile = profile;
    }
    add_capabilities(&mut process, arguments.texts("cap")?);
    if let Some(user) = arguments.text("user")? {
        process.user = self::user(&user, &process.user)?;
    }
    for gid in arguments.texts("additional-gids")? {
        let gid = gid.parse().map_err(|_| Error::invalid(format!("invalid additional gid {gid:?}")))?;
        process.user.additional_gids.push(gid);
    }
    Ok(process)
}

/// Never added to the inheritable set, which a program could pass on (CVE-2022-29162). They become ambient where the
/// container's own configuration made them inheritable.
fn add_capabilities(process: &mut Process, names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    let sets = process.capabilities.get_or_insert_with(Capabilities::default);
    for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
        set.extend(names.iter().cloned());
    }
    if !sets.inheritable.is_empty() {
        sets.ambient.extend(names);
    }
}

/// `UID` or `UID:GID`, numbers only: anything else would be a guess (CVE-2026-30892).
fn user(text: &str, old: &User) -> Result<User> {
    let number = |word: &str| {
        word.parse::<u32>()
            .map_err(|_| Error::invalid(format!("invalid user {text:?}: parsing {word:?} as a number")))
    };
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (number(uid)?, number(gid)?),
        None => (number(text)?, old.gid),
    };
    Ok(User { uid, gid, ..old.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers() {
        let old = User { uid: 5, gid: 6, ..User::default() };
        assert_eq!((user("1", &old).unwrap().uid, user("1", &old).unwrap().gid), (1, 6));
        assert_eq!(user("1:2", &old).unwrap().gid, 2);
        for bad in ["", "root", "1:", ":1", "1:2:3", "-1", "+1 "] {
            assert!(user(bad, &old).is_err(), "{bad}");
        }
    }
}
