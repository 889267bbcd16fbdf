//! Session keyrings: a container gets one of its own, or it could read keys of the session that started it.

use crate::error::{Error, Result};
use std::ffi::CString;

const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Joins a new session keyring of this name.
pub fn join_session(name: &str) -> Result<()> {
    let Ok(text) = CString::new(name) else {
        return Err(Error::new(rustix::io::Errno::INVAL, "keyctl(KEYCTL_JOIN_SESSION_KEYRING)"));
    };
    // SAFETY: the name is a C string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, text.as_ptr()) };
    if result >= 0 {
        Ok(())
    } else {
        Err(Error::last(format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})")))
    }
}
