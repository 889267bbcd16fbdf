//! What a filter answers, by libseccomp's names.

use crate::error::{Error, Result};

const KILL_PROCESS: u32 = 0x8000_0000;
const KILL_THREAD: u32 = 0;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const NOTIFY: u32 = 0x7fc0_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

/// Name, value, and whether it carries a number.
const ACTIONS: &[(&str, u32, bool)] = &[
    ("SCMP_ACT_KILL", KILL_THREAD, false),
    ("SCMP_ACT_KILL_PROCESS", KILL_PROCESS, false),
    ("SCMP_ACT_KILL_THREAD", KILL_THREAD, false),
    ("SCMP_ACT_TRAP", TRAP, false),
    ("SCMP_ACT_ERRNO", ERRNO, true),
    ("SCMP_ACT_TRACE", TRACE, true),
    ("SCMP_ACT_ALLOW", ALLOW, false),
    ("SCMP_ACT_LOG", LOG, false),
    ("SCMP_ACT_NOTIFY", NOTIFY, false),
];

/// What a call on an architecture that the filter does not name gets.
pub(crate) const BAD_ARCHITECTURE: u32 = KILL_THREAD;

/// A call that this profile's author cannot have known.
pub(crate) const NO_SUCH_CALL: u32 = ERRNO | libc::ENOSYS as u32;

/// The kernel's value for an action.
pub(crate) fn parse(field: &str, name: &str, errno: Option<u32>) -> Result<u32> {
    let Some((_, value, numbered)) = ACTIONS.iter().find(|(known, ..)| *known == name) else {
        return Err(Error::invalid(format!("linux.seccomp.{field}: invalid action {name:?}")));
    };
    match errno {
        Some(_) if !numbered => {
            Err(Error::invalid(format!("linux.seccomp.{field}: errnoRet cannot be used with {name}")))
        }
        Some(errno) if errno > 4095 => {
            Err(Error::invalid(format!("linux.seccomp.{field}: errnoRet {errno} is greater than 4095")))
        }
        errno if *numbered => Ok(value | errno.unwrap_or(libc::EPERM as u32)),
        _ => Ok(*value),
    }
}

/// Whether it stops the call in a way that a newer program should rather see as "no such call".
pub(crate) fn refuses(action: u32) -> bool {
    matches!(action & 0xffff_0000, KILL_PROCESS | KILL_THREAD | TRAP | ERRNO)
}

/// All names, for `features`.
pub(crate) fn names() -> Vec<String> {
    ACTIONS.iter().map(|(name, ..)| (*name).to_string()).collect()
}
