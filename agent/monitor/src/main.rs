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
mod reaper;
mod requests;
mod runtime_call;
mod startup;
mod stdio;
mod unread;

use cri_log::Stream;
use knarr_monitor::attach_frame::Kind;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = |result: Result<(), String>| result.map(|()| ExitCode::SUCCESS);
    let result = match arguments.next() {
        Some(command) if command == "init" && arguments.len() > 0 => reaper::run(arguments),
        Some(command) if command == "init" => done(init::run()),
        Some(command) if command == "namespaces" => done(namespaces::run(arguments)),
        _ => done(startup::Options::parse(std::env::args_os().skip(1)).and_then(live)),
    };
    match result {
        Ok(code) => code,
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
