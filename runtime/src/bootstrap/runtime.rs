//! The runtime's half of making a container.

use super::channel::{Channel, Message, expected};
use super::init::Init;
use super::stage;
use crate::cgroups::{self, control};
use crate::error::{Context, Error, Kind, Result};
use crate::mounts::source;
use crate::plan::{HookKind, Join, Namespaces, Plan, ProcessPlan, Side, Step};
use crate::seccomp::{Listener, listener};
use crate::spec::NamespaceKind;
use crate::state::State;
use crate::systemd::{self, Wanted};
use crate::timeline::{Moment, Timeline};
use crate::{hooks, id_map, net_devices, rlimits};
use knarr_sys::clone::{self, Child, SingleThreaded};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, PidfdGetfdFlags, Signal, WaitOptions};
use rustix::thread::ThreadNameSpaceType;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What the command brings along.
#[derive(Debug, Default)]
pub(crate) struct Setup {
    pub(crate) console: Option<OwnedFd>,
    pub(crate) start_fifo: Option<OwnedFd>,
    pub(crate) timeline: bool,
    /// The init of the container that an exec joins.
    pub(crate) target: Option<OwnedFd>,
    /// Its root, where no mount namespace brings it.
    pub(crate) root: Option<OwnedFd>,
}

impl Setup {
    /// How callers are told that it was init, not we, who failed; an exec has never said it.
    fn failure(&self) -> &'static str {
        if self.target.is_some() { "" } else { "error during container init" }
    }
}

/// A container whose init is ready.
#[derive(Debug)]
pub(crate) struct Created {
    pub(crate) child: Child,
    pub(crate) timeline: Timeline,
    channel: Channel,
    failure: &'static str,
}

impl Created {
    /// Lets the program begin, where it does not wait for `start`. What it fails with is our error.
    pub(crate) fn go(mut self) -> Result<(Child, Timeline)> {
        let begun = self.timeline.begin();
        self.channel.send(&Message::Go)?;
        loop {
            match self.channel.receive()? {
                None => {
                    self.timeline.end_moment(begun, Moment::AwaitProgram);
                    return Ok((self.child, self.timeline));
                }
                Some(Message::Timeline(events)) => self.timeline.merge(&events),
                Some(Message::Failed(error)) => {
                    reap(&self.child)?;
                    return Err(error.in_context(self.failure));
                }
                Some(_) => return Err(Error::new(Kind::Os, "unexpected message instead of the program")),
            }
        }
    }

    /// Ends what cannot be used.
    pub(crate) fn kill(self) -> Result<()> {
        kill(&self.child)
    }
}

/// The command for which a process is made.
pub(crate) trait Company {
    /// What it does with the new process while that is at work.
    fn meanwhile(&mut self, pid: Pid) -> Result<()>;

    /// In the new process: what only the command may hold, since it must end with the command.
    fn let_go(&mut self);
}

/// Performs the runtime's steps. When it fails nothing runs any more; cgroups are the caller's to remove.
pub(crate) fn create(plan: &Plan, state: State, setup: Setup, company: &mut dyn Company) -> Result<Created> {
    let (channel, theirs) = Channel::pair()?;
    let timeline = Timeline::new(setup.timeline, Side::Runtime);
    let mut runtime = Runtime {
        plan,
        state,
        setup,
        channel,
        theirs: Some(theirs),
        timeline,
        prepared: vec![],
        entrances: vec![],
        child: None,
        hooks_asked: false,
        mapped: 0,
        company,
    };
    let steps: Vec<&Step> = plan.side(Side::Runtime).collect();
    for (index, step) in steps.iter().enumerate() {
        let begun = runtime.timeline.begin();
        let done = runtime.perform(step, steps.get(index + 1).copied());
        if let Err(error) = done {
            // Before init is cloned its end of the channel is ours too: the last words would never end.
            runtime.theirs = None;
            let killed = runtime.child.as_ref().map_or(Ok(()), kill);
            return Err(runtime.channel.last_words(runtime.setup.failure()).unwrap_or(error).and(killed));
        }
        runtime.timeline.end(begun, index);
    }
    runtime.finish()
}

struct Runtime<'a> {
    plan: &'a Plan,
    state: State,
    setup: Setup,
    channel: Channel,
    theirs: Option<Channel>,
    timeline: Timeline,
    prepared: Vec<Option<OwnedFd>>,
    entrances: Vec<OwnedFd>,
    child: Option<Child>,
    hooks_asked: bool,
    /// How many trees were mapped for init.
    mapped: usize,
    company: &'a mut dyn Company,
}

impl Runtime<'_> {
    fn perform(&mut self, step: &Step, next: Option<&Step>) -> Result<()> {
        let cgroups = &self.plan.cgroups;
        match step {
            Step::CreateCgroups => {
                control::create(cgroups).context(|| "unable to apply cgroup configuration")
            }
            Step::CreateUnifiedCgroup => {
                control::create_unified(cgroups).context(|| "unable to apply cgroup configuration")
            }
            Step::LimitCgroups(writes) => {
                control::write_all(cgroups, writes).context(|| "error setting cgroup config")
            }
            Step::FilterDevices(rules) => control::set_device_filter(cgroups, rules),
            Step::OpenCgroups => self.open_cgroups(),
            Step::EnterPidNamespace { user } => self.enter_pid_namespace(*user),
            Step::PrepareMounts => self.prepare(),
            Step::Clone { flags, into_cgroup } => self.clone(*flags, *into_cgroup),
            Step::StartScope(wanted) => self.start_scope(wanted),
            Step::EnterResctrl(group) => {
                group.enter(self.pid()?).context(|| "unable to apply Intel RDT configuration")
            }
            Step::FirstCpus(cpus) => Ok(knarr_sys::sched::set_affinity(cpus)?),
            Step::MapIds => self.map_ids(),
            Step::LimitProcess(limits) => rlimits::apply(Some(self.pid()?), limits),
            Step::OomScore(score) => set_oom_score(self.pid()?, *score),
            Step::MoveNetDevice { from, to } => self.move_net_device(from, to),
            Step::Release => self.release(),
            Step::Hooks(kind) => self.hooks(*kind, matches!(next, Some(Step::Hooks(_)))),
            Step::AwaitInit => self.await_init(),
            _ => Err(Error::new(Kind::Os, format!("{} is not a step of the runtime", step.name()))),
        }
    }

    fn release(&mut self) -> Result<()> {
        let released = Message::Released(self.pid()?.as_raw_nonzero().get());
        self.channel.send_fds(&released, &std::mem::take(&mut self.entrances))
    }

    fn pid(&self) -> Result<Pid> {
        self.child.as_ref().map(|child| child.pid).ok_or_else(|| Error::new(Kind::Os, "there is no init yet"))
    }

    /// An exec enters what is there; a container makes its own.
    fn cgroup_failure(&self) -> &'static str {
        if self.setup.target.is_some() {
            "error adding pid to cgroups"
        } else {
            "unable to apply cgroup configuration"
        }
    }

    fn open_cgroups(&mut self) -> Result<()> {
        let what = self.cgroup_failure();
        self.entrances = control::open_entrances(&self.plan.cgroups).context(|| what)?;
        Ok(())
    }

    /// It counts for children only, and this command has no other to come.
    fn enter_pid_namespace(&self, user: bool) -> Result<()> {
        let Some(target) = &self.setup.target else {
            return Err(Error::new(Kind::Os, "no container to join"));
        };
        let user = if user { ThreadNameSpaceType::USER } else { ThreadNameSpaceType::empty() };
        rustix::thread::move_into_thread_name_spaces(target.as_fd(), ThreadNameSpaceType::PROCESS_ID | user)
            .context(|| "setns to the pid namespace of the container")
    }

    /// The user namespace that the container joins, or one with the maps of its own, which does not exist before the
    /// clone.
    fn stand_in(&self) -> Result<Option<OwnedFd>> {
        let Namespaces { uids, gids, join, .. } = &self.plan.namespaces;
        if let Some(joined) = join.iter().find(|join| join.kind == NamespaceKind::User) {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let opened = rustix::fs::open(&joined.path, flags, Mode::empty());
            return opened.map(Some).context(|| format!("open({:?})", joined.path));
        }
        if uids.is_empty() { Ok(None) } else { id_map::namespace_with(uids, gids).map(Some) }
    }

    fn prepare(&mut self) -> Result<()> {
        let container = self.stand_in()?;
        for wanted in &self.plan.prepared {
            let tree = source::prepare(wanted, container.as_ref().map(AsFd::as_fd))?;
            self.prepared.push(Some(tree));
        }
        Ok(())
    }

    fn clone(&mut self, flags: u64, into_cgroup: bool) -> Result<()> {
        let single = SingleThreaded::prove()?;
        let what = self.cgroup_failure();
        let cgroup = if into_cgroup { control::open(&self.plan.cgroups).context(|| what)? } else { None };
        let proc = self.open_proc()?;
        let plan = self.plan;
        let namespaces = &plan.namespaces;
        if self.setup.target.is_some() || namespaces.join.iter().any(|join| join.kind == NamespaceKind::Pid) {
            super::init::protect_from_neighbours()?;
        }
        let side = if namespaces.needs_stage() {
            let Some(theirs) = self.theirs.take() else {
                return Err(Error::new(Kind::Os, "init has no channel"));
            };
            stage::clone(&single, namespaces, cgroup.as_ref(), &mut self.channel, theirs)?
        } else {
            clone_directly(&single, namespaces, flags, cgroup.as_ref())?
        };
        match side {
            clone::Side::Parent(child) => {
                self.child = Some(child);
                // Ours would keep the channel open when init dies.
                self.theirs = None;
                self.setup.console = None;
                self.setup.start_fifo = None;
                self.prepared.clear();
                self.entrances.clear();
                Ok(())
            }
            clone::Side::Child => {
                // Init may wait for `start` for long, and this is a directory of the host.
                drop(cgroup);
                self.company.let_go();
                self.become_init(proc)
            }
        }
    }

    /// The host's, for sysctls. An exec has none, and must not carry one to where others can see it.
    fn open_proc(&self) -> Result<Option<OwnedFd>> {
        let wanted = self.plan.steps.iter().any(|step| matches!(step, Step::Label(_)));
        if self.setup.target.is_some() && !wanted {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open("/proc", flags, Mode::empty()).map(Some).context(|| "open(\"/proc\")")
    }

    fn become_init(&mut self, proc: Option<OwnedFd>) -> Result<()> {
        if let Some(theirs) = self.theirs.take() {
            // The runtime's end is closed here: as long as we hold it too we would not see that the runtime is dead.
            self.channel = theirs;
        }
        let namespaces = &self.plan.namespaces;
        let init = Init {
            channel: &self.channel,
            prepared: std::mem::take(&mut self.prepared),
            entrances: std::mem::take(&mut self.entrances),
            view: cgroups::view(
                &self.plan.cgroups,
                namespaces.has(NamespaceKind::Cgroup),
                namespaces.any_user(),
            ),
            console: self.setup.console.take(),
            start_fifo: self.setup.start_fifo.take(),
            hooks: self.plan.hooks.clone(),
            state: self.state.clone(),
            proc,
            null: None,
            root: self.setup.root.take(),
            process: process_of(self.plan),
            found: None,
            target: self.setup.target.take(),
            timeline: Timeline::new(self.setup.timeline, Side::Init),
        };
        init.run(self.plan.side(Side::Init))
    }

    /// Init itself enters a namespace that exists, later.
    fn move_net_device(&self, from: &str, to: &str) -> Result<()> {
        let network = |join: &&Join| join.kind == NamespaceKind::Network;
        let target = match self.plan.namespaces.join.iter().find(network) {
            Some(join) => join.path.clone(),
            None => format!("/proc/{}/ns/net", self.pid()?.as_raw_nonzero()).into(),
        };
        net_devices::move_into(&target, from, to)
    }

    fn start_scope(&self, wanted: &Wanted) -> Result<()> {
        let cgroups = &self.plan.cgroups;
        let Some(scope) = &cgroups.scope else { return Ok(()) };
        systemd::start(scope, &self.plan.id, self.pid()?, wanted, cgroups.unified)
            .context(|| "unable to apply cgroup configuration")
    }

    /// A stage maps ids itself, as it must be root before it goes on.
    fn map_ids(&self) -> Result<()> {
        let namespaces = &self.plan.namespaces;
        if namespaces.needs_stage() {
            return Ok(());
        }
        id_map::write(self.pid()?, &namespaces.uids, &namespaces.gids)
    }

    fn hooks(&mut self, kind: HookKind, more: bool) -> Result<()> {
        if !self.hooks_asked {
            self.hooks_asked = true;
            let message = self.heard()?;
            expected(message, "the hooks", |message| (message == Message::WantHooks).then_some(()))
                .context(|| "error during container init")?;
            self.state.pid = self.pid()?.as_raw_nonzero().get();
        }
        // In the bundle, where runc itself is by then.
        let place = hooks::Place { directory: Some(&self.plan.bundle), ..hooks::Place::default() };
        hooks::run_in(place, kind.name(), kind.of(&self.plan.hooks), &self.state)?;
        if more { Ok(()) } else { self.channel.send(&Message::HooksDone) }
    }

    /// Until init is ready, or fails.
    fn await_init(&mut self) -> Result<()> {
        let failure = self.setup.failure();
        let pid = self.pid()?;
        self.company.meanwhile(pid)?;
        self.timeline.name_steps(self.plan);
        loop {
            match self.heard()? {
                Some(Message::Ready) => return Ok(()),
                Some(Message::Timeline(events)) => self.timeline.merge(&events),
                Some(Message::Listener(number)) => self.send_listener(number)?,
                Some(Message::Failed(error)) => return Err(error.in_context(failure)),
                Some(_) => return Err(Error::new(Kind::Os, "unexpected message from init")),
                None => {
                    let why = "init ended without a word (killed, or out of memory)";
                    return Err(Error::new(Kind::Os, why).in_context(failure));
                }
            }
        }
    }

    /// What init says next. What it cannot do itself on the way is done for it.
    fn heard(&mut self) -> Result<Option<Message>> {
        loop {
            match self.channel.receive()? {
                Some(Message::Tree(number)) => self.map_tree(number)?,
                other => return Ok(other),
            }
        }
    }

    /// Maps the ids of a tree in init's hands: mounts of the plan ask for it in their order.
    fn map_tree(&mut self, number: i32) -> Result<()> {
        let Some(child) = &self.child else { return Err(Error::new(Kind::Os, "there is no init yet")) };
        let later =
            |step: &'_ Step| if let Step::Mount(plan) = step { plan.mapped_later().cloned() } else { None };
        let Some(map) = self.plan.side(Side::Init).filter_map(later).nth(self.mapped) else {
            return Err(Error::new(Kind::Os, "nobody asked for mapped ids"));
        };
        self.mapped += 1;
        let tree = rustix::process::pidfd_getfd(&child.pidfd, number, PidfdGetfdFlags::empty())
            .context(|| "pidfd_getfd(<mount>)")?;
        source::map_ids(tree.as_fd(), &map, self.stand_in()?.as_ref().map(AsFd::as_fd))
            .context(|| "failed to set MOUNT_ATTR_IDMAP on a mount inside the root")?;
        self.channel.send(&Message::Sent)
    }

    fn send_listener(&mut self, number: i32) -> Result<()> {
        let Some(child) = &self.child else { return Err(Error::new(Kind::Os, "there is no init yet")) };
        let wanted = self.plan.side(Side::Init).find_map(listener_of);
        let Some(wanted) = wanted else {
            return Err(Error::new(Kind::Os, "nobody asked for a seccomp listener"));
        };
        self.state.pid = child.pid.as_raw_nonzero().get();
        forward_listener(child, number, wanted, &self.state)?;
        self.channel.send(&Message::Sent)
    }

    fn finish(self) -> Result<Created> {
        let Some(child) = self.child else { return Err(Error::new(Kind::Os, "the plan has no clone")) };
        let failure = self.setup.failure();
        Ok(Created { child, timeline: self.timeline, channel: self.channel, failure })
    }
}

/// The supervisor of the filter in a step.
fn listener_of(step: &Step) -> Option<&Listener> {
    if let Step::Seccomp(plan) = step { plan.listener.as_ref() } else { None }
}

/// Takes the notify descriptor out of init: it may not be able to send it any more.
fn forward_listener(child: &Child, number: i32, wanted: &Listener, state: &State) -> Result<()> {
    let notify = rustix::process::pidfd_getfd(&child.pidfd, number, PidfdGetfdFlags::empty())
        .context(|| "pidfd_getfd(<seccomp notify>)")?;
    listener::send(wanted, &notify, state)
}

fn process_of(plan: &Plan) -> ProcessPlan {
    let find =
        |step: &Step| if let Step::Execute(process) = step { Some(process.as_ref().clone()) } else { None };
    plan.steps.iter().find_map(find).unwrap_or_default()
}

/// A joined pid namespace takes effect on children only: we enter it for the clone and return.
fn clone_directly(
    single: &SingleThreaded,
    namespaces: &Namespaces,
    flags: u64,
    cgroup: Option<&OwnedFd>,
) -> Result<clone::Side> {
    let pid_namespace = namespaces.join.iter().find(|join| join.kind == NamespaceKind::Pid);
    let Some(join) = pid_namespace else { return Ok(clone::clone(single, flags, cgroup.map(AsFd::as_fd))?) };
    let kind = knarr_sys::namespace::Kind::Pid;
    let own = knarr_sys::namespace::open(std::path::Path::new("/proc/self/ns/pid"))?;
    let target =
        knarr_sys::namespace::open(&join.path).context(|| format!("lstat {}", join.path.display()))?;
    knarr_sys::namespace::join(&target, kind).context(|| "failed to join pid namespace")?;
    let side = clone::clone(single, flags, cgroup.map(AsFd::as_fd))?;
    if matches!(side, clone::Side::Parent(_)) {
        knarr_sys::namespace::join(&own, kind)?;
    }
    Ok(side)
}

fn set_oom_score(pid: Pid, score: i32) -> Result<()> {
    crate::kernel_file::write(format!("/proc/{}/oom_score_adj", pid.as_raw_nonzero()), score.to_string())
        .context(|| format!("failed to set oom_score_adj to {score}: write /proc/self/oom_score_adj"))
}

/// Kills and reaps a child of ours.
pub(crate) fn kill(child: &Child) -> Result<()> {
    match rustix::process::pidfd_send_signal(&child.pidfd, Signal::KILL) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(errno) => return Err(errno).context(|| "pidfd_send_signal(SIGKILL)"),
    }
    reap(child)
}

fn reap(child: &Child) -> Result<()> {
    match rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child.pid), WaitOptions::empty())) {
        Ok(_) | Err(rustix::io::Errno::CHILD) => Ok(()),
        Err(errno) => Err(errno)
            .context(|| format!("wait4({}, fd {})", child.pid.as_raw_nonzero(), child.pidfd.as_raw_fd())),
    }
}
