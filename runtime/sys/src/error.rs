//! A failed system call, told the way strace tells it: `mount_setattr(7, "", AT_EMPTY_PATH): Operation not permitted`.

use rustix::io::Errno;
use std::fmt;

/// What failed and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The call with its arguments.
    pub call: String,
    /// What the kernel said.
    pub errno: Errno,
    /// What the kernel said beyond that (file system contexts keep a log).
    pub detail: Option<String>,
}

/// The result of every function here.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without further detail.
    pub fn new(errno: Errno, call: impl Into<String>) -> Self {
        Error { call: call.into(), errno, detail: None }
    }

    /// The errno the calling thread holds right now, for calls made through libc.
    pub fn last(call: impl Into<String>) -> Self {
        let code = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
        Error::new(Errno::from_raw_os_error(code), call)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, description(self.errno))?;
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        std::io::Error::new(error.errno.kind(), error)
    }
}

/// The text of strerror(3) in lower case, as Go prints it and as callers of an OCI runtime match on it.
pub fn description(errno: Errno) -> String {
    let full = std::io::Error::from(errno).to_string();
    let text = full.split(" (os error").next().unwrap_or(&full);
    let keep_case = text.starts_with("RPC") || text.starts_with(".lib");
    let mut letters = text.chars();
    match letters.next() {
        Some(first) if !keep_case => first.to_lowercase().chain(letters).collect(),
        _ => text.to_string(),
    }
}

/// Adds the call to a plain errno.
pub trait Call<T> {
    /// `describe` runs only on failure.
    fn call<S: Into<String>>(self, describe: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Call<T> for rustix::io::Result<T> {
    fn call<S: Into<String>>(self, describe: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::new(errno, describe()))
    }
}

impl<T> Call<T> for nix::Result<T> {
    fn call<S: Into<String>>(self, describe: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| Error::new(Errno::from_raw_os_error(errno as i32), describe()))
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call<S: Into<String>>(self, describe: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let code = error.raw_os_error();
            let detail = code.is_none().then(|| error.to_string());
            Error {
                call: describe().into(),
                errno: Errno::from_raw_os_error(code.unwrap_or(libc::EIO)),
                detail,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_like_strace_with_the_text_callers_match_on() {
        let error = Error::new(Errno::NOENT, "openat(3, \"x\")");
        assert_eq!(error.to_string(), "openat(3, \"x\"): no such file or directory");
        assert_eq!(description(Errno::PERM), "operation not permitted");
    }
}
