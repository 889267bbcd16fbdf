//! Init: performs the steps of a plan one after the other and becomes the container's program.

use super::channel::{self, Channel, Message};
use crate::cgroups::{View, control};
use crate::error::{Context, Error, Kind, Result};
use crate::mounts::{self, act::Site};
use crate::plan::{HookKind, ProcessPlan, Step};
use crate::spec::Hooks;
use crate::state::State;
use crate::timeline::Timeline;
use crate::{
    capabilities, devices, hooks, masked_paths, net_devices, program, rlimits, rootfs, safe_path, scheduling,
    seccomp, security_label, sysctl, terminal, user,
};
use knarr_sys::{keyring, namespace, process, sched};
use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::ThreadNameSpaceType;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// What init has in its hands; all of it was opened by the runtime before the clone, or is made on the way.
pub(crate) struct Init<'a> {
    pub(crate) channel: &'a Channel,
    pub(crate) prepared: Vec<Option<OwnedFd>>,
    /// Where the cgroups of version 1 are entered.
    pub(crate) entrances: Vec<OwnedFd>,
    pub(crate) view: View,
    pub(crate) console: Option<OwnedFd>,
    /// Opened for reading and writing: it never ends, and a byte is the word to start.
    pub(crate) start_fifo: Option<OwnedFd>,
    pub(crate) hooks: Hooks,
    pub(crate) state: State,
    /// Becoming root of a user namespace comes before this, so it is the host's, from before all changes.
    pub(crate) proc: Option<OwnedFd>,
    pub(crate) null: Option<OwnedFd>,
    /// An exec has its root from the namespaces it joined, or else from the runtime.
    pub(crate) root: Option<OwnedFd>,
    pub(crate) process: ProcessPlan,
    pub(crate) found: Option<CString>,
    /// The init of the container that an exec joins.
    pub(crate) target: Option<OwnedFd>,
    pub(crate) timeline: Timeline,
}

/// The status of a container whose program is there but cannot be executed, as runc's.
const NOT_EXECUTED: i32 = 255;

impl Init<'_> {
    /// Never returns: either the program runs, or the error has been told to the runtime.
    pub(crate) fn run<'a>(mut self, steps: impl Iterator<Item = &'a Step>) -> ! {
        let protected = if self.needs_ids_from_a_user() { Ok(()) } else { protect_from_neighbours() };
        let error = match protected.and_then(|()| self.perform_all(steps)) {
            Err(error) => error,
            Ok(()) => Error::new(Kind::Os, "the plan ended without a program"),
        };
        // If even this fails the runtime sees the channel end.
        let _ = self.channel.send(&Message::Failed(error));
        process::exit_now(1)
    }

    /// The files of a protected process belong to root: a runtime that is not root could not write its id maps. There are
    /// no neighbours yet in a user namespace that is new.
    fn needs_ids_from_a_user(&self) -> bool {
        self.target.is_none() && !rustix::process::geteuid().is_root()
    }

    fn perform_all<'a>(&mut self, steps: impl Iterator<Item = &'a Step>) -> Result<()> {
        for (index, step) in steps.enumerate() {
            let begun = self.timeline.begin();
            self.perform(step)?;
            self.timeline.end(begun, index);
        }
        Ok(())
    }

    fn perform(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::JoinContainer { flags } => self.join_container(*flags),
            Step::JoinNamespace { kind, path } => join(crate::plan::sys_kind(*kind), path),
            Step::NewNetwork => Ok(namespace::unshare(namespace::Kind::Network.clone_flag())?),
            Step::EnterCgroups => self.enter_cgroups(),
            Step::AwaitRelease => self.await_release(),
            Step::BecomeRoot => become_root(),
            Step::NewSession => rustix::process::setsid().map(drop).context(|| "setsid"),
            Step::Keyring(name) => join_keyring(name),
            Step::CgroupNamespace => Ok(namespace::unshare(namespace::Kind::Cgroup.clone_flag())?),
            Step::DetachFromHost(change) => rootfs::detach_from_host(*change),
            Step::OpenRoot { path, slave } => self.open_root(rootfs::open(path, *slave)?),
            Step::OpenHostedRoot(path) => self.open_root(rootfs::open_hosted(path)?),
            Step::EnterRoot | Step::ChangeRoot => {
                rootfs::change(self.root()?).context(|| "error changing root")
            }
            Step::OpenJoinedRoot => {
                self.root = Some(open_current_root()?);
                rustix::process::umask(Mode::empty());
                Ok(())
            }
            Step::Unmount(path) => mounts::act::unmount(self.root()?, path),
            Step::NullStdio => user::own_null_device(),
            Step::Mount(plan) => self.mount(plan),
            Step::MakeWorkingDirectory(path) => {
                safe_path::make_directories(self.root()?, path, 0o755).map(drop)
            }
            Step::Device(device) => devices::make(self.root()?, device),
            Step::Link { path, target } => devices::link(self.root()?, path, target),
            Step::AwaitHooks => self.await_hooks(),
            Step::Hooks(kind) => self.run_hooks(*kind),
            Step::PivotRoot => rootfs::pivot(self.root()?).context(|| "error pivoting root"),
            Step::MoveRoot => rootfs::move_root(self.root()?).context(|| "error moving root"),
            Step::RootPropagation(change) => rootfs::set_propagation(*change),
            Step::Console { width, height } => self.console((*width, *height)),
            Step::LoopbackUp => net_devices::loopback_up(),
            Step::Hostname(name) => {
                nix::unistd::sethostname(name).map_err(std::io::Error::from).context(|| "sethostname")
            }
            Step::Domainname(name) => {
                rustix::system::setdomainname(name.as_bytes()).context(|| "setdomainname")
            }
            Step::Sysctl { name, value } => sysctl::set(self.proc()?, name, value),
            Step::ReadonlyPath(path) => mounts::act::cover_read_only(self.root()?, path)
                .context(|| format!("can't make {:?} read-only", path.display())),
            Step::MaskPaths(paths) => masked_paths::apply(self.root()?, self.null()?, paths),
            Step::ReadonlyMount(path) => mounts::act::make_read_only(self.root()?, path),
            Step::ReadonlyRoot => rootfs::make_read_only(self.root()?),
            other => self.become_program(other),
        }
    }

    fn become_program(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::NoNewPrivileges => {
                rustix::thread::set_no_new_privs(true).context(|| "prctl(PR_SET_NO_NEW_PRIVS)")
            }
            Step::Scheduler(plan) => scheduling::set_scheduler(plan),
            Step::IoPriority(plan) => scheduling::set_io_priority(plan),
            Step::MemoryPolicy(plan) => scheduling::set_memory_policy(plan),
            Step::Personality(value) => Ok(sched::set_personality(*value)?),
            Step::AllCpus => {
                // A kernel that does not allow it leaves what there was.
                let _ = sched::set_affinity_to_all();
                Ok(())
            }
            Step::EndOnSignals => {
                Ok(process::end_on(&[Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM])?)
            }
            Step::Cpus(cpus) => Ok(sched::set_affinity(cpus)?),
            Step::Label(label) => security_label::apply(self.proc()?, label),
            Step::Umask(mask) => {
                rustix::process::umask(Mode::from_raw_mode(*mask));
                Ok(())
            }
            Step::Seccomp(plan) => self.seccomp(plan),
            Step::LimitSelf(limits) => rlimits::apply(None, limits),
            Step::Bounding(capabilities) => capabilities::limit(capabilities),
            Step::StdioOwner(uid) => user::own_stdio(*uid),
            Step::BecomeUser(plan) => user::become_user(plan),
            Step::WorkingDirectory(path) => user::enter_directory(path),
            Step::Capabilities(capabilities) => capabilities::apply(capabilities),
            Step::FindProgram => self.find_program(),
            Step::Dumpable => rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
                .context(|| "prctl(PR_SET_DUMPABLE, 1)"),
            Step::Ready => self.ready(),
            Step::Finish => {
                self.channel.send(&Message::Ready)?;
                process::exit_now(0)
            }
            Step::AwaitStart => self.await_start(),
            Step::CloseFds { first } => Ok(process::close_on_exec_from(*first)?),
            Step::FreshSignals => Ok(process::reset_signals()?),
            Step::Execute(_) => self.execute(),
            _ => Err(Error::new(Kind::Os, format!("{} is not a step of init", step.name()))),
        }
    }

    fn root(&self) -> Result<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::new(Kind::Os, "the root is not open yet"))
    }

    fn proc(&self) -> Result<BorrowedFd<'_>> {
        self.proc
            .as_ref()
            .map(AsFd::as_fd)
            .ok_or_else(|| Error::new(Kind::Os, "the host's /proc is not open"))
    }

    fn null(&self) -> Result<BorrowedFd<'_>> {
        self.null.as_ref().map(AsFd::as_fd).ok_or_else(|| Error::new(Kind::Os, "the null device is not open"))
    }

    fn enter_cgroups(&mut self) -> Result<()> {
        let entrances = std::mem::take(&mut self.entrances);
        control::enter(&entrances).context(|| "unable to apply cgroup configuration")
    }

    fn await_release(&mut self) -> Result<()> {
        let pick = |message| if let Message::Released(pid) = message { Some(pid) } else { None };
        let (message, entrances) = self.channel.receive_fds()?;
        self.state.pid = channel::expected(message, "it was released", pick)?;
        self.entrances = entrances;
        protect_from_neighbours()
    }

    /// All namespaces of a running container with one call.
    fn join_container(&self, flags: u64) -> Result<()> {
        let Some(target) = &self.target else { return Err(Error::new(Kind::Os, "no container to join")) };
        let flags = ThreadNameSpaceType::from_bits_retain(flags as u32);
        rustix::thread::move_into_thread_name_spaces(target.as_fd(), flags)
            .context(|| "setns to the namespaces of the container")
    }

    fn open_root(&mut self, root: OwnedFd) -> Result<()> {
        self.root = Some(root);
        self.null = Some(masked_paths::open_null()?);
        // Modes of what we make are those we give.
        rustix::process::umask(Mode::empty());
        Ok(())
    }

    fn mount(&mut self, plan: &mounts::MountPlan) -> Result<()> {
        let Some(root) = &self.root else { return Err(Error::new(Kind::Os, "the root is not open yet")) };
        let channel = self.channel;
        let map_ids = |tree: BorrowedFd<'_>| {
            channel.send(&Message::Tree(tree.as_raw_fd()))?;
            channel
                .expect("the ids of a mount were mapped", |message| (message == Message::Sent).then_some(()))
        };
        let mut site =
            Site { root: root.as_fd(), prepared: &mut self.prepared, cgroups: &self.view, map_ids: &map_ids };
        mounts::act::apply(plan, &mut site)
    }

    fn await_hooks(&mut self) -> Result<()> {
        self.channel.send(&Message::WantHooks)?;
        self.channel.expect("the hooks ran", |message| (message == Message::HooksDone).then_some(()))
    }

    fn run_hooks(&self, kind: HookKind) -> Result<()> {
        // The one that runs in the container gets the program's environment, where it has none of its own; the other, which
        // sees the container's files, nothing of the host's.
        let environment = if kind == HookKind::StartContainer { self.process.env.as_slice() } else { &[] };
        if kind == HookKind::CreateContainer {
            // They work on the root, and find it where they stand.
            rustix::process::fchdir(self.root()?).context(|| "fchdir(<rootfs>)")?;
        }
        let place = hooks::Place { environment: Some(environment), directory: None };
        hooks::run_in(place, kind.name(), kind.of(&self.hooks), &self.state)
    }

    fn console(&self, size: (u16, u16)) -> Result<()> {
        let Some(console) = &self.console else {
            return Err(Error::invalid(
                "cannot allocate tty if the runtime will detach without setting console socket",
            ));
        };
        if self.target.is_some() {
            // The container may be anywhere in its own life: its root is ours by now.
            let root = open_current_root()?;
            return terminal::set_up(root.as_fd(), console.as_fd(), size, false);
        }
        terminal::set_up(self.root()?, console.as_fd(), size, true)
    }

    fn seccomp(&self, plan: &seccomp::SeccompPlan) -> Result<()> {
        let Some(notify) = seccomp::load(plan)? else { return Ok(()) };
        // From here on calls may be held until the supervisor has the descriptor, which the runtime takes from us.
        self.channel.send(&Message::Listener(notify.as_raw_fd()))?;
        self.channel
            .expect("the seccomp listener was sent", |message| (message == Message::Sent).then_some(()))
    }

    fn find_program(&mut self) -> Result<()> {
        let Some(name) = self.process.args.first() else {
            return Err(Error::invalid("process.args: is empty"));
        };
        self.found = Some(program::find(name, &self.process.env)?);
        // Now, while the password file can still be read: the last filter may forbid it.
        let env = std::mem::take(&mut self.process.env);
        self.process.env = user::with_home(env, self.process.user.uid);
        self.let_go();
        Ok(())
    }

    /// What building needed and waiting for `start` does not: who can look into this process must find nothing of the host.
    fn let_go(&mut self) {
        self.prepared.clear();
        self.entrances.clear();
        (self.root, self.null, self.proc, self.target) = (None, None, None, None);
    }

    /// What was recorded since the last time.
    fn tell_timeline(&mut self) -> Result<()> {
        for events in self.timeline.take() {
            self.channel.send(&Message::Timeline(events))?;
        }
        Ok(())
    }

    fn ready(&mut self) -> Result<()> {
        self.tell_timeline()?;
        self.channel.send(&Message::Ready)?;
        if self.start_fifo.is_some() {
            // Nobody listens any more: `create` ends.
            self.timeline = Timeline::default();
            return Ok(());
        }
        self.channel.expect("the word to go", |message| (message == Message::Go).then_some(()))
    }

    fn await_start(&mut self) -> Result<()> {
        let Some(fifo) = self.start_fifo.take() else { return Ok(()) };
        let mut byte = [0_u8; 1];
        rustix::io::retry_on_intr(|| rustix::io::read(&fifo, &mut byte)).context(|| "read(<exec.fifo>)")?;
        Ok(())
    }

    fn execute(&mut self) -> Result<()> {
        let Some(path) = self.found.take() else { return Err(Error::new(Kind::Os, "no program was found")) };
        self.tell_timeline()?;
        let error = process::exec(&path, &self.process.args, &self.process.env);
        let why = knarr_sys::error::description(error.errno);
        // The container has begun, and this is its end: where its own output goes, people look for it.
        let text = format!("exec {}: {why}\n", path.to_string_lossy());
        let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
        process::exit_now(NOT_EXECUTED)
    }
}

/// A process that is in the container already must not look into us through ptrace or `/proc/PID/fd` while we hold
/// descriptors of the host (CVE-2016-9962). Executing the program ends this. Where others can see init from its first
/// instant, the runtime does this before the clone, which inherits it.
pub(super) fn protect_from_neighbours() -> Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .context(|| "prctl(PR_SET_DUMPABLE, 0)")
}

fn join(kind: namespace::Kind, path: &Path) -> Result<()> {
    let file = namespace::open(path).context(|| format!("lstat {}", path.display()))?;
    let what = || format!("failed to join {} namespace {}", kind.proc_name(), path.display());
    namespace::join(&file, kind).context(what)
}

/// Mapped, but still with the ids of outside.
fn become_root() -> Result<()> {
    process::set_gid(0)?;
    process::set_uid(0)?;
    match process::set_groups(&[]) {
        Err(error) if error.errno == rustix::io::Errno::PERM => Ok(()),
        other => Ok(other?),
    }
}

/// A host without keyrings, or with none left, goes without.
fn join_keyring(name: &str) -> Result<()> {
    match keyring::join_session(name) {
        Err(error) if matches!(error.errno, rustix::io::Errno::NOSYS | rustix::io::Errno::DQUOT) => Ok(()),
        other => other.context(|| "unable to join session keyring"),
    }
}

fn open_current_root() -> Result<OwnedFd> {
    rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| "open(\"/\")")
}
