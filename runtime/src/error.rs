//! What went wrong: a kind for callers to branch on and a chain of contexts for people to read.
//!
//! Errors are returned, never logged on the way; they keep their kind when they cross from a container's init to the
//! runtime, and are printed once, by `cli`.

use std::fmt;

/// What callers may want to tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// `config.json`, or a command line, asks for something that is wrong in itself.
    Invalid = 1,
    /// The container is not in a state that allows this.
    State = 2,
    /// No such container.
    NotFound = 3,
    /// The name is taken.
    Exists = 4,
    /// We, or this kernel, cannot do it.
    Unsupported = 5,
    /// A system call failed.
    Os = 6,
    /// The container's program itself cannot be executed.
    Exec = 7,
}

impl Kind {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Kind::Invalid,
            2 => Kind::State,
            3 => Kind::NotFound,
            4 => Kind::Exists,
            5 => Kind::Unsupported,
            7 => Kind::Exec,
            _ => Kind::Os,
        }
    }
}

/// An error with its context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Error {
    kind: Kind,
    message: String,
}

/// The result of everything here.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A new error.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into() }
    }

    /// Something is wrong with what was asked.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Error::new(Kind::Invalid, message)
    }

    /// Something that is not there yet.
    pub(crate) fn unsupported(what: impl fmt::Display) -> Self {
        Error::new(Kind::Unsupported, format!("{what}: not supported yet"))
    }

    /// What kind of error this is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// For the channel between init and runtime.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(self.message.as_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let (kind, text) = bytes.split_first().unwrap_or((&6, &[]));
        Error::new(Kind::from_byte(*kind), String::from_utf8_lossy(text))
    }

    /// Within something larger; an empty text adds nothing.
    pub(crate) fn in_context(self, what: &str) -> Error {
        if what.is_empty() { self } else { Error::new(self.kind, format!("{what}: {}", self.message)) }
    }

    /// This failure and that of cleaning up after it, if any.
    pub(crate) fn and(self, cleanup: Result<()>) -> Error {
        match cleanup {
            Ok(()) => self,
            Err(other) => Error::new(self.kind, format!("{}; {}", self.message, other.message)),
        }
    }

    /// With something to look at.
    pub(crate) fn followed_by(self, hint: &str) -> Error {
        Error::new(self.kind, format!("{} ({hint})", self.message))
    }

    /// Several failures of one teardown, as one error; nothing where there was none.
    pub(crate) fn all(errors: Vec<Error>) -> Result<()> {
        let Some(first) = errors.first() else { return Ok(()) };
        let texts: Vec<&str> = errors.iter().map(|error| error.message.as_str()).collect();
        Err(Error::new(first.kind, texts.join("; ")))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<knarr_sys::Error> for Error {
    fn from(error: knarr_sys::Error) -> Self {
        Error::new(Kind::Os, error.to_string())
    }
}

impl From<crate::dbus::Malformed> for Error {
    fn from(error: crate::dbus::Malformed) -> Self {
        Error::new(Kind::Os, error.to_string())
    }
}

/// Says what was being done.
pub(crate) trait Context<T> {
    /// `what` runs only on failure.
    fn context<S: fmt::Display>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context<S: fmt::Display>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::new(error.kind, format!("{}: {}", what(), error.message)))
    }
}

impl<T> Context<T> for knarr_sys::Result<T> {
    fn context<S: fmt::Display>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(Error::from).context(what)
    }
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context<S: fmt::Display>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|errno| {
            Error::new(Kind::Os, format!("{}: {}", what(), knarr_sys::error::description(errno)))
        })
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context<S: fmt::Display>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| {
            let text = match error.raw_os_error() {
                Some(code) => knarr_sys::error::description(rustix::io::Errno::from_raw_os_error(code)),
                None => error.to_string(),
            };
            Error::new(Kind::Os, format!("{}: {text}", what()))
        })
    }
}
