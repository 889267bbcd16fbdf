//! Signals by number or name, with or without `SIG`, including real-time ones.

use crate::error::{Error, Result};
use rustix::process::Signal;

/// The first and the last signal that programs may use for themselves.
const REAL_TIME: (i32, i32) = (34, 64);

/// Reads what `kill` is given.
pub(crate) fn parse(word: &str) -> Result<Signal> {
    let name = word.to_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let number = name.parse().ok().or_else(|| real_time(name)).or_else(|| named(name));
    let signal = number.and_then(knarr_sys::process::signal);
    signal.ok_or_else(|| Error::invalid(format!("unknown signal {word:?}")))
}

fn named(name: &str) -> Option<i32> {
    format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok().map(|signal| signal as i32)
}

/// `RTMIN`, `RTMIN+3`, `RTMAX-1`
fn real_time(name: &str) -> Option<i32> {
    let offset = |rest: &str, sign: char| match rest.strip_prefix(sign) {
        Some(number) => number.parse::<u8>().ok().map(i32::from),
        None => rest.is_empty().then_some(0),
    };
    let number = match name.strip_prefix("RTMIN") {
        Some(rest) => REAL_TIME.0 + offset(rest, '+')?,
        None => REAL_TIME.1 - offset(name.strip_prefix("RTMAX")?, '-')?,
    };
    (REAL_TIME.0..=REAL_TIME.1).contains(&number).then_some(number)
}

/// What a process died of, in the words that callers know.
pub(crate) fn description(number: i32) -> String {
    let known = match number {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trace/breakpoint trap",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGSYS => "bad system call",
        _ => return format!("signal {number}"),
    };
    known.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names() {
        for (word, number) in [
            ("9", 9),
            ("KILL", 9),
            ("SIGKILL", 9),
            ("sigterm", 15),
            ("RTMIN+1", 35),
            ("SIGRTMAX", 64),
            ("37", 37),
        ] {
            assert_eq!(parse(word).unwrap().as_raw(), number, "{word}");
        }
        for bad in ["", "0", "-1", "65", "32", "SIGNOPE", "RTMIN+99"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
