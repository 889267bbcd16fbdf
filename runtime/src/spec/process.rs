//! `process`: what is executed, as whom, and with which privileges and limits.

object! {
    /// The container's process, or that of an `exec`.
    pub struct Process {
        terminal: bool,
        console_size: Option<ConsoleSize>,
        user: User,
        args: Vec<String>,
        env: Vec<String>,
        cwd: String,
        capabilities: Option<Capabilities>,
        rlimits: Vec<Rlimit>,
        no_new_privileges: bool,
        apparmor_profile: String,
        oom_score_adj: Option<i32>,
        scheduler: Option<Scheduler>,
        selinux_label: String,
        io_priority: Option<IoPriority>,
        #[serde(rename = "execCPUAffinity")]
        exec_cpu_affinity: Option<CpuAffinity>,
    }
}

object! {
    /// Size of the terminal in characters.
    pub struct ConsoleSize {
        height: u16,
        width: u16,
    }
}

object! {
    /// Ids inside the container's user namespace.
    pub struct User {
        uid: u32,
        gid: u32,
        umask: Option<u32>,
        additional_gids: Vec<u32>,
        username: String,
    }
}

object! {
    /// The five capability sets, as `CAP_...` names.
    pub struct Capabilities {
        bounding: Vec<String>,
        effective: Vec<String>,
        inheritable: Vec<String>,
        permitted: Vec<String>,
        ambient: Vec<String>,
    }
}

object! {
    /// One limit of setrlimit(2).
    pub struct Rlimit {
        /// `RLIMIT_...`
        #[serde(rename = "type")]
        kind: String,
        hard: u64,
        soft: u64,
    }
}

object! {
    /// The arguments of sched_setattr(2).
    pub struct Scheduler {
        /// `SCHED_...`
        policy: String,
        nice: i32,
        priority: i32,
        /// `SCHED_FLAG_...`
        flags: Vec<String>,
        /// Nanoseconds, as are the next two.
        runtime: u64,
        deadline: u64,
        period: u64,
    }
}

object! {
    /// The arguments of ioprio_set(2).
    pub struct IoPriority {
        /// `IOPRIO_CLASS_...`
        class: String,
        priority: i32,
    }
}

object! {
    /// CPUs an `exec` starts on before and after it has entered the container's cgroup, in cpuset list format.
    pub struct CpuAffinity {
        initial: String,
        #[serde(rename = "final")]
        last: String,
    }
}
