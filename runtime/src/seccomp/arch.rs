//! Architectures: what the kernel calls them, which of them this machine can run, and their call numbers.

use super::packed::{Packed, length, pack};
use super::syscalls::{aarch64, x32, x86, x86_64};
use crate::error::{Error, Result};

/// One set of call numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Arch {
    X86_64,
    X86,
    X32,
    Aarch64,
}

/// Names of the specification. Those without a table cannot occur on a machine this program runs on.
const NAMES: &[(&str, Option<Arch>)] = &[
    ("SCMP_ARCH_X86", Some(Arch::X86)),
    ("SCMP_ARCH_X86_64", Some(Arch::X86_64)),
    ("SCMP_ARCH_X32", Some(Arch::X32)),
    ("SCMP_ARCH_ARM", None),
    ("SCMP_ARCH_AARCH64", Some(Arch::Aarch64)),
    ("SCMP_ARCH_MIPS", None),
    ("SCMP_ARCH_MIPS64", None),
    ("SCMP_ARCH_MIPS64N32", None),
    ("SCMP_ARCH_MIPSEL", None),
    ("SCMP_ARCH_MIPSEL64", None),
    ("SCMP_ARCH_MIPSEL64N32", None),
    ("SCMP_ARCH_PPC", None),
    ("SCMP_ARCH_PPC64", None),
    ("SCMP_ARCH_PPC64LE", None),
    ("SCMP_ARCH_S390", None),
    ("SCMP_ARCH_S390X", None),
    ("SCMP_ARCH_PARISC", None),
    ("SCMP_ARCH_PARISC64", None),
    ("SCMP_ARCH_RISCV64", None),
    ("SCMP_ARCH_LOONGARCH64", None),
    ("SCMP_ARCH_M68K", None),
    ("SCMP_ARCH_SH", None),
    ("SCMP_ARCH_SHEB", None),
];

/// x32 shares its audit number with x86-64 and marks its calls by this bit.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

#[cfg(target_arch = "x86_64")]
const NATIVE: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: Arch = Arch::Aarch64;

static X86_64_CALLS: Packed<{ x86_64::TABLE.len() }, { length(x86_64::TABLE) }> = pack(x86_64::TABLE);
static X86_CALLS: Packed<{ x86::TABLE.len() }, { length(x86::TABLE) }> = pack(x86::TABLE);
static X32_CALLS: Packed<{ x32::TABLE.len() }, { length(x32::TABLE) }> = pack(x32::TABLE);
static AARCH64_CALLS: Packed<{ aarch64::TABLE.len() }, { length(aarch64::TABLE) }> = pack(aarch64::TABLE);

impl Arch {
    /// `AUDIT_ARCH_*`
    pub(crate) fn audit(self) -> u32 {
        match self {
            Arch::X86_64 | Arch::X32 => 0xc000_003e,
            Arch::X86 => 0x4000_0003,
            Arch::Aarch64 => 0xc000_00b7,
        }
    }

    fn runs_here(self) -> bool {
        match NATIVE {
            Arch::Aarch64 => self == Arch::Aarch64,
            _ => self != Arch::Aarch64,
        }
    }

    /// The number of a call; nothing where the architecture has no such call.
    pub(crate) fn number(self, name: &str) -> Option<u32> {
        match self {
            Arch::X86_64 => X86_64_CALLS.number(name),
            Arch::X86 => X86_CALLS.number(name),
            Arch::X32 => X32_CALLS.number(name).map(|number| number | X32_BIT),
            Arch::Aarch64 => AARCH64_CALLS.number(name),
        }
    }

    /// On 32-bit x86 these calls also exist as a number passed to another call.
    pub(crate) fn multiplexed(self, name: &str) -> Option<(&'static str, u64)> {
        if self != Arch::X86 {
            return None;
        }
        let position =
            |calls: &[&str], first: u64| Some(calls.iter().position(|call| *call == name)? as u64 + first);
        let socket = position(SOCKET_CALLS, 1).map(|number| ("socketcall", number));
        let ipc = || IPC_CALLS.iter().find(|(call, _)| *call == name).map(|(_, number)| ("ipc", *number));
        socket.or_else(ipc)
    }
}

/// In the order of their numbers, from 1.
const SOCKET_CALLS: &[&str] = &[
    "socket",
    "bind",
    "connect",
    "listen",
    "accept",
    "getsockname",
    "getpeername",
    "socketpair",
    "send",
    "recv",
    "sendto",
    "recvfrom",
    "shutdown",
    "setsockopt",
    "getsockopt",
    "sendmsg",
    "recvmsg",
    "accept4",
    "recvmmsg",
    "sendmmsg",
];

const IPC_CALLS: &[(&str, u64)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// The architectures to make a filter for: those asked for that this machine can run, and always its own.
pub(crate) fn select(names: &[String]) -> Result<Vec<Arch>> {
    let mut selected = vec![NATIVE];
    for (index, name) in names.iter().enumerate() {
        let known = NAMES.iter().find(|(known, _)| known == name);
        let Some((_, arch)) = known else {
            return Err(Error::invalid(format!(
                "linux.seccomp.architectures[{index}]: invalid architecture {name:?}"
            )));
        };
        selected.extend(arch.filter(|arch| arch.runs_here()));
    }
    selected.sort();
    selected.dedup();
    Ok(selected)
}

/// All names, for `features`.
pub(crate) fn names() -> Vec<String> {
    NAMES
        .iter()
        .filter(|(_, arch)| arch.is_some_and(Arch::runs_here))
        .map(|(name, _)| (*name).to_string())
        .collect()
}
