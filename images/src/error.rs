//! What can go wrong with an image, as kinds that callers branch on, with the cause in words.

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
    /// Used by a container.
    InUse,
    /// Known, but not done by this version.
    Unsupported,
    /// Disk full and other errors of the machine.
    Io,
}

/// One failure: a kind and a sentence.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure with no further cause.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// Something this version does not do.
    pub fn unsupported(what: &str) -> Self {
        Self::new(ErrorKind::Unsupported, format!("{what}: not supported yet"))
    }

    /// What a caller may branch on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}
