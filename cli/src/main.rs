//! `knarr`: the front door. Parses the command line, hands it to one file per command, and reports an error once.

mod age;
mod agent_command;
mod apply;
mod args;
mod at_rest;
mod completions;
mod confirm;
mod doctor;
mod down;
mod engine_command;
mod events;
mod filter;
mod image;
mod inspection;
mod instance;
mod logging;
mod login;
mod manifest;
mod misunderstood;
mod moment;
mod output;
mod print_config;
mod server_command;
mod service_manager;
mod settings;
mod standalone;
mod system;
mod template;
mod token_command;
mod top;
mod up;
mod words;

use args::{Arguments, Command, Later};
use clap::Parser;
use std::process::ExitCode;
use std::time::Duration;

/// As many as processors are usually busy at once.
const ARENAS: u8 = 2;
/// How long a thread for blocking work waits for more of it.
const IDLE_THREADS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    let read = Arguments::try_parse_from(&words);
    let arguments = match read.or_else(|refused| args::switches::again(&words, refused)) {
        Ok(arguments) => arguments,
        Err(error) => return misunderstood::tell(&words, &error),
    };
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            output::complain(&format!("knarr: {}", output::describe(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Runs one command on a runtime of its own. A container's exit status becomes ours.
fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    logging::start(&arguments.global.log_level, arguments.global.log_format)?;
    let settings = settings::Settings::resolve(&arguments.global)?;
    // What lives long waits nearly all the time, and then needs neither threads nor memory for its busy moments.
    knarr_agent::limit_arenas(ARENAS);
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).thread_keep_alive(IDLE_THREADS).enable_all().build()?;
    let code = runtime.block_on(dispatch(arguments.command, settings));
    // A blocked read of the terminal must not hold up the exit.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command, settings: settings::Settings) -> anyhow::Result<ExitCode> {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        Command::Up(Later(arguments)) => done(at_rest::beside(up::run(settings, *arguments)).await),
        Command::Down(arguments) => done(down::run(settings, arguments).await),
        Command::Server(Later(arguments)) => {
            done(at_rest::beside(server_command::run(settings, *arguments)).await)
        }
        Command::Agent(Later(arguments)) => {
            done(at_rest::beside(agent_command::run(settings, *arguments)).await)
        }
        Command::Engine(arguments) => done(at_rest::beside(engine_command::run(settings, arguments)).await),
        Command::Image(Later(command)) => image::run(settings, *command).await,
        Command::Manifest(Later(command)) => done(manifest::run(&settings, *command).await),
        Command::Login(arguments) => done(login::run(&settings, arguments).await),
        Command::Logout { server } => done(login::forget(server).await),
        Command::Container(command) => standalone::dispatch(settings, command).await,
        Command::Word(word) => words::run(settings, word).await,
        Command::Token(Later(command)) => done(token_command::run(&settings, *command).await),
        Command::Top { container: None, .. } => done(top::run(settings).await),
        Command::Top { container: Some(name), ps } => done(standalone::top::run(&settings, &name, &ps).await),
        Command::Doctor => done(doctor::run(settings)),
        Command::Network(Later(command)) => done(standalone::networks::run(&settings, *command).await),
        Command::Completions { shell } => done(completions::completions(shell)),
        Command::Man { directory } => done(completions::man_pages(&directory)),
    }
}
