//! One kernel operation of a plan, with all its arguments.

use super::process::{Capabilities, UserPlan};
use crate::cgroups::Write;
use crate::cgroups::devices::Rule;
use crate::intel_rdt::Group;
use crate::mounts::{MountPlan, Propagation};
use crate::plan::ProcessPlan;
use crate::scheduling::{IoPriority, MemoryPolicy, SchedulerPlan};
use crate::seccomp::SeccompPlan;
use crate::security_label::SecurityLabel;
use crate::spec::{Hook, Hooks, NamespaceKind};
use crate::systemd::Wanted;
use serde::Serialize;
use std::path::PathBuf;

/// Who performs a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Side {
    /// The command, outside.
    Runtime,
    /// The process that becomes the container's program.
    Init,
}

/// The kinds of hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) enum HookKind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl HookKind {
    /// The hooks of this kind.
    pub(crate) fn of(self, hooks: &Hooks) -> &[Hook] {
        match self {
            HookKind::Prestart => &hooks.prestart,
            HookKind::CreateRuntime => &hooks.create_runtime,
            HookKind::CreateContainer => &hooks.create_container,
            HookKind::StartContainer => &hooks.start_container,
            HookKind::Poststart => &hooks.poststart,
            HookKind::Poststop => &hooks.poststop,
        }
    }

    /// Its name in the specification.
    pub(crate) fn name(self) -> &'static str {
        match self {
            HookKind::Prestart => "prestart",
            HookKind::CreateRuntime => "createRuntime",
            HookKind::CreateContainer => "createContainer",
            HookKind::StartContainer => "startContainer",
            HookKind::Poststart => "poststart",
            HookKind::Poststop => "poststop",
        }
    }
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct DevicePlan {
    /// Clean, absolute, inside.
    pub(crate) path: PathBuf,
    /// `c`, `b` or `p`.
    pub(crate) kind: char,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// In a user namespace no node can be made: that of the host is bound.
    pub(crate) bind: bool,
}

/// One operation. The two sides' order is that of the list; `Release`, `AwaitRelease`, `AwaitHooks`, `AwaitInit`, `Ready`
/// and `AwaitStart` are where they meet.
#[derive(Debug, Clone, Serialize)]
pub(crate) enum Step {
    CreateCgroups,
    /// The one of version 2 beside version 1, which the clone enters.
    CreateUnifiedCgroup,
    LimitCgroups(Vec<Write>),
    FilterDevices(Vec<Rule>),
    OpenCgroups,
    EnterPidNamespace {
        /// And, first, the user namespace.
        user: bool,
    },
    PrepareMounts,
    Clone {
        flags: u64,
        into_cgroup: bool,
    },
    StartScope(Box<Wanted>),
    EnterResctrl(Group),
    FirstCpus(Vec<usize>),
    MapIds,
    LimitProcess(Vec<crate::rlimits::Limit>),
    OomScore(i32),
    MoveNetDevice {
        from: String,
        to: String,
    },
    Release,
    AwaitInit,
    /// On the side that the kind asks for.
    Hooks(HookKind),

    JoinContainer {
        flags: u64,
    },
    JoinNamespace {
        kind: NamespaceKind,
        path: PathBuf,
    },
    /// A network namespace made after the clone.
    NewNetwork,
    EnterCgroups,
    AwaitRelease,
    BecomeRoot,
    NewSession,
    CgroupNamespace,
    Keyring(String),
    DetachFromHost(Propagation),
    OpenRoot {
        path: PathBuf,
        /// It hears of what is mounted in it on the host.
        slave: bool,
    },
    /// The root among the host's own mounts, for a container without a mount namespace.
    OpenHostedRoot(PathBuf),
    /// The root that a container without a mount namespace changed to.
    EnterRoot,
    /// That of a container whose namespaces were joined.
    OpenJoinedRoot,
    Unmount(PathBuf),
    /// The end of a helper that becomes no program.
    Finish,
    /// Standard input and outputs that are the host's null device.
    NullStdio,
    Mount(MountPlan),
    MakeWorkingDirectory(PathBuf),
    Device(DevicePlan),
    Link {
        path: PathBuf,
        target: &'static str,
    },
    AwaitHooks,
    PivotRoot,
    MoveRoot,
    ChangeRoot,
    RootPropagation(Propagation),
    Console {
        width: u16,
        height: u16,
    },
    /// `lo` of a new network namespace.
    LoopbackUp,
    Hostname(String),
    Domainname(String),
    Sysctl {
        name: String,
        value: String,
    },
    ReadonlyPath(PathBuf),
    MaskPaths(Vec<PathBuf>),
    ReadonlyRoot,
    /// A mount of the container's own, at the end.
    ReadonlyMount(PathBuf),
    Cpus(Vec<usize>),
    AllCpus,
    /// The signals that end a container which waits for `start`.
    EndOnSignals,
    Label(SecurityLabel),
    NoNewPrivileges,
    Scheduler(SchedulerPlan),
    IoPriority(IoPriority),
    MemoryPolicy(MemoryPolicy),
    Personality(u64),
    Umask(u32),
    Seccomp(SeccompPlan),
    LimitSelf(Vec<crate::rlimits::Limit>),
    Bounding(Capabilities),
    StdioOwner(u32),
    BecomeUser(UserPlan),
    WorkingDirectory(PathBuf),
    Capabilities(Capabilities),
    FindProgram,
    /// The kernel took it away when the ids changed.
    Dumpable,
    Ready,
    AwaitStart,
    CloseFds {
        first: u32,
    },
    FreshSignals,
    Execute(Box<ProcessPlan>),
}

impl Step {
    /// Who performs it.
    pub(crate) fn side(&self) -> Side {
        match self {
            Step::CreateCgroups
            | Step::CreateUnifiedCgroup
            | Step::LimitCgroups(_)
            | Step::FilterDevices(_)
            | Step::PrepareMounts
            | Step::Clone { .. }
            | Step::StartScope(_)
            | Step::EnterResctrl(_)
            | Step::FirstCpus(_)
            | Step::OpenCgroups
            | Step::EnterPidNamespace { .. }
            | Step::MapIds
            | Step::LimitProcess(_)
            | Step::OomScore(_)
            | Step::MoveNetDevice { .. }
            | Step::Release
            | Step::AwaitInit
            | Step::Hooks(
                HookKind::Prestart | HookKind::CreateRuntime | HookKind::Poststart | HookKind::Poststop,
            ) => Side::Runtime,
            _ => Side::Init,
        }
    }
}
