//! Programs that keep credentials for the Docker config.json: `docker-credential-NAME get|store|erase`, which read one
//! document on stdin and answer on stdout.

use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};

/// What a helper calls the user when the secret is a refresh token.
const TOKEN_USER: &str = "<token>";
const SECONDS: i64 = 30;
const MAX_ANSWER: u64 = 1 << 20;

/// Credentials as helpers write and read them.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Kept {
    #[serde(rename = "ServerURL", default)]
    server: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// What the helper has for a server. Blocks: it may ask somebody.
pub(super) fn get(name: &str, server: &str) -> Result<Option<Credentials>> {
    let Some(answer) = ask(name, "get", server.as_bytes())? else { return Ok(None) };
    let kept: Kept = serde_json::from_slice(&answer)
        .map_err(|e| Error::invalid(format!("docker-credential-{name}: {e}")))?;
    Ok(Some(if kept.username == TOKEN_USER {
        Credentials { identity_token: kept.secret, ..Credentials::default() }
    } else {
        Credentials::basic(kept.username, kept.secret)
    }))
}

/// Gives the helper credentials to keep.
pub(super) fn store(name: &str, server: &str, credentials: &Credentials) -> Result<()> {
    let kept = Kept {
        server: server.to_owned(),
        username: credentials.username.clone(),
        secret: credentials.password.clone(),
    };
    let document = serde_json::to_vec(&kept).map_err(|e| Error::invalid(format!("credentials: {e}")))?;
    ask(name, "store", &document).map(drop)
}

/// Makes the helper forget a server. Whether it knew it.
pub(super) fn erase(name: &str, server: &str) -> Result<bool> {
    Ok(ask(name, "erase", server.as_bytes())?.is_some())
}

/// Runs the helper. None: it knows nothing of this server, which it says on its output.
fn ask(name: &str, verb: &str, question: &[u8]) -> Result<Option<Vec<u8>>> {
    if name.contains('/') {
        return Err(Error::invalid(format!("config.json: invalid credential helper {name:?}")));
    }
    let program = format!("docker-credential-{name}");
    let failed = |e: std::io::Error| Error::io(&program, e);
    let mut command = Command::new(&program);
    command.arg(verb).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(question) {
            // It ended without asking for which server: its answer says why.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
            written => written.map_err(failed)?,
        }
    }
    if !ends_within(&child, SECONDS).map_err(|e| Error::io(&program, e))? {
        child.kill().and_then(|()| child.wait()).map_err(failed)?;
        let message = format!("{program}: no answer within {SECONDS} seconds");
        return Err(Error::new(ErrorKind::Unavailable, message));
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER).read_to_end(&mut output).map_err(failed)?;
    }
    if child.wait().map_err(failed)?.success() {
        return Ok(Some(output));
    }
    let words = String::from_utf8_lossy(&output).trim().to_owned();
    if words.contains("credentials not found") {
        return Ok(None);
    }
    Err(Error::new(ErrorKind::Unauthorized, format!("{program}: {words}")))
}

/// Waits for a child without reaping it.
fn ends_within(child: &Child, seconds: i64) -> rustix::io::Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let pid = rustix::process::Pid::from_child(child);
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    let deadline = Timespec { tv_sec: seconds, tv_nsec: 0 };
    Ok(poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&deadline))? > 0)
}
