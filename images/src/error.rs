//! What can go wrong with an image, as kinds that callers branch on, with the cause in words.
//!
//! The message is complete by itself (cause included): the engine puts it into events and the command line prints
//! it, and neither should have to walk a chain.

use std::path::Path;

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The reference, manifest, config or layer is malformed or breaks a limit.
    Invalid,
    /// The registry does not have it.
    NotFound,
    /// The registry wants other credentials.
    Unauthorized,
    /// Digest, size or diff id differ from what was promised.
    Mismatch,
    /// The registry could not be reached, or gave up in the middle.
    Unavailable,
    /// The policy does not let this image be pulled or run.
    Denied,
    /// Used by a container.
    InUse,
    /// Known, but not done by this version.
    Unsupported,
    /// Disk full and other errors of the machine.
    Io,
}

/// Short for results of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// One failure: a kind and a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    errno: Option<i32>,
    status: Option<u16>,
}

impl Error {
    /// A failure with no further cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), errno: None, status: None }
    }

    /// Something this version does not do.
    pub fn unsupported(what: &str) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{what}: not supported yet"))
    }

    /// Malformed input: names the field and what is wrong with it.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// An error of the machine, with what was being done. Keeps an error of ours that travelled inside an
    /// `io::Error` through a `Read` (a limit in the middle of a stream) as what it was.
    pub(crate) fn io(doing: impl std::fmt::Display, cause: impl Into<std::io::Error>) -> Self {
        let cause: std::io::Error = cause.into();
        let errno = cause.raw_os_error();
        let message = format!("{doing}: {cause}");
        match cause.into_inner().map(|inner| inner.downcast::<Self>()) {
            Some(Ok(ours)) => ours.context(doing),
            _ => Self { kind: ErrorKind::Io, message, errno, status: None },
        }
    }

    /// The same for an operation on one path.
    pub(crate) fn path(call: &str, path: &Path, cause: impl Into<std::io::Error>) -> Self {
        Self::io(format_args!("{call} {}", path.display()), cause)
    }

    /// Says what was being done when this happened.
    pub(crate) fn context(mut self, doing: impl std::fmt::Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Puts a line of a file before the message; `in_file` completes the place to `FILE:LINE: `.
    pub(crate) fn at(self, line: usize) -> Self {
        self.context(line)
    }

    /// See `at`.
    pub(crate) fn in_file(mut self, file: &str) -> Self {
        self.message = format!("{file}:{}", self.message);
        self
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the network or the machine broke something off, so that it says nothing about the bytes at hand.
    pub(crate) fn is_from_outside(&self) -> bool {
        use rustix::io::Errno;
        let short =
            [Errno::NOSPC, Errno::DQUOT, Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::ROFS];
        self.kind == ErrorKind::Unavailable
            || self.errno.is_some_and(|errno| short.iter().any(|known| known.raw_os_error() == errno))
    }

    /// Remembers which HTTP status this was.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// The HTTP status that a registry answered, where it was that.
    pub(crate) fn status(&self) -> Option<u16> {
        self.status
    }

    /// The system's error number, where there was one.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }
}

impl From<Error> for std::io::Error {
    /// Lets an error of ours pass through a `Read` or `Write`; `Error::io` takes it out again.
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
