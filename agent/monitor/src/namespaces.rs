//! `knarr-monitor namespaces KIND...`: makes a user namespace, and then the named ones as its property, for the engine
//! to pin. Only a process with one thread may make a user namespace, and the engine has many.
//!
//! ```text
//! -> user            the user namespace exists; the engine writes its id maps
//! <- (any line)
//! -> ready           the others exist; the engine binds /proc/PID/ns/*
//! <- (end of input)  and this process goes
//! ```

use knarr_sys::namespace::{self, Kind};
use std::io::{BufRead, Write};

/// Runs the whole conversation.
pub(crate) fn run(names: impl Iterator<Item = std::ffi::OsString>) -> Result<(), String> {
    let flags =
        names.map(|name| kind(&name).map(Kind::clone_flag)).try_fold(0, |flags, flag| Ok(flags | flag?));
    let flags = flags.map_err(|name: String| format!("unknown namespace {name}"))?;
    namespace::unshare(Kind::User.clone_flag()).map_err(|error| error.to_string())?;
    say("user")?;
    hear()?;
    if flags != 0 {
        namespace::unshare(flags).map_err(|error| error.to_string())?;
    }
    say("ready")?;
    while hear()? {}
    Ok(())
}

fn kind(name: &std::ffi::OsStr) -> Result<Kind, String> {
    match name.to_str() {
        Some("net") => Ok(Kind::Network),
        Some("ipc") => Ok(Kind::Ipc),
        Some("uts") => Ok(Kind::Uts),
        _ => Err(name.to_string_lossy().into_owned()),
    }
}

fn say(word: &str) -> Result<(), String> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{word}").and_then(|()| stdout.flush()).map_err(|error| error.to_string())
}

/// One line; whether there was one.
fn hear() -> Result<bool, String> {
    let mut line = String::new();
    let length = std::io::stdin().lock().read_line(&mut line).map_err(|error| error.to_string())?;
    Ok(length > 0)
}
