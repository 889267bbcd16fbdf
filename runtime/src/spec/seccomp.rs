//! `linux.seccomp`: which system calls are allowed, in libseccomp's terms.

object! {
    /// The whole filter.
    pub struct Seccomp {
        /// `SCMP_ACT_...`
        default_action: String,
        default_errno_ret: Option<u32>,
        /// `SCMP_ARCH_...`
        architectures: Vec<String>,
        /// `SECCOMP_FILTER_FLAG_...`; no list at all means the default ones, an empty list none.
        flags: Option<Vec<String>>,
        /// A unix socket to which the notify fd is sent.
        listener_path: String,
        listener_metadata: String,
        syscalls: Vec<Syscall>,
    }
}

object! {
    /// One rule: these calls with these arguments lead to this action.
    pub struct Syscall {
        names: Vec<String>,
        action: String,
        errno_ret: Option<u32>,
        args: Vec<SyscallArg>,
    }
}

object! {
    /// A condition on one argument.
    pub struct SyscallArg {
        /// 0 to 5.
        index: u32,
        value: u64,
        value_two: Option<u64>,
        /// `SCMP_CMP_...`
        op: String,
    }
}
