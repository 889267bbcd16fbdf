//! `knarr`: the front door. Parses the command line, hands it to one file per command, and reports an error once.

mod agent_command;
mod apply;
mod args;
mod completions;
mod doctor;
mod down;
mod engine_command;
mod image;
mod instance;
mod logging;
mod network_command;
mod output;
mod print_config;
mod server_command;
mod service_manager;
mod settings;
mod standalone;
mod token_command;
mod top;
mod up;

use args::{Arguments, Command};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(dispatch(arguments.command, settings));
    // A blocked read of the terminal must not hold up the exit.
    runtime.shutdown_background();
    code
}

async fn dispatch(command: Command, settings: settings::Settings) -> anyhow::Result<ExitCode> {
    let done = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS);
    match command {
        Command::Up(arguments) => done(up::run(settings, arguments).await),
        Command::Down(arguments) => done(down::run(settings, arguments).await),
        Command::Server(arguments) => done(server_command::run(settings, arguments).await),
        Command::Agent(arguments) => done(agent_command::run(settings, arguments).await),
        Command::Engine(arguments) => done(engine_command::run(settings, arguments).await),
        Command::Image(command) => done(image::run(settings, command).await),
        Command::Run(arguments) => standalone::run::run(settings, arguments).await,
        Command::Exec(arguments) => standalone::exec::run(settings, arguments).await,
        Command::Ps(arguments) => done(standalone::ps::run(settings, arguments).await),
        Command::Logs(arguments) => done(standalone::logs::run(settings, arguments).await),
        Command::Stop(arguments) => done(standalone::stop::run(settings, arguments).await),
        Command::Kill(arguments) => done(standalone::kill::run(settings, arguments).await),
        Command::Wait { names } => done(standalone::wait::run(settings, &names).await),
        Command::Inspect { names } => done(standalone::inspect::run(settings, &names).await),
        Command::Rm(arguments) => done(standalone::rm::run(settings, arguments).await),
        Command::Token(command) => done(token_command::run(&settings, command).await),
        Command::Top => done(top::run(settings).await),
        Command::Doctor => done(doctor::run(settings)),
        Command::Network => done(network_command::run(settings).await),
        Command::Completions { shell } => done(completions::completions(shell)),
        Command::Man { directory } => done(completions::man_pages(&directory)),
    }
}
