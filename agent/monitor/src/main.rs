//! `knarr-monitor`: the process that stays with a pod. The library says who it is for; `poll_loop` is its heart.

mod adoption;
mod clients;
mod connection;
mod container;
mod cri_log;
mod early_output;
mod error_log;
mod forget;
mod init;
mod input;
mod kill_tree;
mod log_frame;
mod log_writer;
mod logs;
mod monitor;
mod namespaces;
mod oom;
mod output;
mod poll_loop;
mod reap;
mod requests;
mod runtime_call;
mod startup;
mod stdio;

use cri_log::Stream;
use knarr_monitor::attach_frame::Kind;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match std::env::args_os().nth(1) {
        Some(command) if command == "init" => init::run(),
        Some(command) if command == "namespaces" => namespaces::run(std::env::args_os().skip(2)),
        _ => startup::Options::parse(std::env::args_os().skip(1)).and_then(live),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The launcher reads it while we start; afterwards this is /dev/null and monitor.log has the story.
            let _ = writeln!(std::io::stdout(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// The lock is held to the end.
fn live(options: startup::Options) -> Result<(), String> {
    let (monitor, _lock) = startup::start(options).map_err(|error| error.to_string())?;
    monitor.run().map_err(|error| {
        error_log::ErrorLog::default().note(&format!("poll: {error}"));
        error.to_string()
    })
}

/// The frame that carries a stream to attached clients.
fn attach_kind(stream: Stream) -> Kind {
    match stream {
        Stream::Stdout => Kind::Stdout,
        Stream::Stderr => Kind::Stderr,
    }
}
