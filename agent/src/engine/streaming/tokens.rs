//! What each handed-out URL stands for, until it is redeemed or a minute has passed.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use knarr_cri::Status;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A URL works for this long.
const LIFETIME: Duration = Duration::from_secs(60);

/// URLs that wait at the same time; beyond it new ones are refused.
const MAX_WAITING: usize = 1000;

/// What a client will do.
#[derive(Debug, Clone)]
pub(super) enum Session {
    Exec {
        container_id: String,
        cmd: Vec<String>,
        stdio: Stdio,
    },
    Attach {
        container_id: String,
        stdio: Stdio,
    },
    /// The ports that were named beforehand.
    PortForward {
        sandbox_id: String,
        ports: Vec<u16>,
    },
}

/// Which streams there will be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stdio {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) tty: bool,
}

impl Stdio {
    pub(super) fn checked(stdin: bool, stdout: bool, stderr: bool, tty: bool) -> Result<Self, Status> {
        if tty && stderr {
            return Err(Status::invalid_argument("tty and stderr cannot both be true"));
        }
        if !stdin && !stdout && !stderr {
            return Err(Status::invalid_argument("one of stdin, stdout, or stderr must be set"));
        }
        Ok(Self { stdin, stdout, stderr, tty })
    }
}

#[derive(Debug, Default)]
pub(super) struct Tokens {
    /// Held for a map operation only, never across an await.
    waiting: Mutex<HashMap<String, (Session, Instant)>>,
}

impl Tokens {
    /// A new token.
    pub(super) fn insert(&self, session: Session) -> Result<String, Status> {
        let mut random = [0; 24];
        rustls::crypto::ring::default_provider()
            .secure_random
            .fill(&mut random)
            .map_err(|_| Status::internal("the kernel has no random numbers"))?;
        let token = URL_SAFE_NO_PAD.encode(random);
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        waiting.retain(|_, (_, since)| now.duration_since(*since) < LIFETIME);
        if waiting.len() >= MAX_WAITING {
            return Err(Status::resource_exhausted("maximum number of in-flight requests exceeded"));
        }
        waiting.insert(token.clone(), (session, now));
        Ok(token)
    }

    /// The path element that this token belongs to.
    pub(super) fn kind(&self, token: &str) -> Option<&'static str> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, _) = waiting.get(token).filter(|(_, since)| since.elapsed() < LIFETIME)?;
        Some(match session {
            Session::Exec { .. } => "exec",
            Session::Attach { .. } => "attach",
            Session::PortForward { .. } => "portforward",
        })
    }

    /// Redeems a token: it works once.
    pub(super) fn take(&self, token: &str) -> Option<Session> {
        let (session, since) = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (since.elapsed() < LIFETIME).then_some(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_works_once() {
        let tokens = Tokens::default();
        let token =
            tokens.insert(Session::PortForward { sandbox_id: "s".into(), ports: Vec::new() }).unwrap();
        let other =
            tokens.insert(Session::PortForward { sandbox_id: "s".into(), ports: Vec::new() }).unwrap();
        assert!(token != other && token.len() == 32);
        assert_eq!(tokens.kind(&token), Some("portforward"));
        assert!(tokens.take(&token).is_some());
        assert!(tokens.take(&token).is_none());
        assert!(tokens.kind("unknown").is_none());
    }

    #[test]
    fn contradictory_streams_are_refused() {
        assert!(Stdio::checked(true, true, true, true).is_err());
        assert!(Stdio::checked(false, false, false, false).is_err());
        assert!(Stdio::checked(false, true, true, false).is_ok());
    }

    #[test]
    fn waiting_tokens_are_bounded() {
        let tokens = Tokens::default();
        for _ in 0..MAX_WAITING {
            tokens.insert(Session::PortForward { sandbox_id: "s".into(), ports: Vec::new() }).unwrap();
        }
        assert!(tokens.insert(Session::PortForward { sandbox_id: "s".into(), ports: Vec::new() }).is_err());
    }
}
