//! Docker's other names, led to what they are names of.

use crate::args::{Builders, Container, Containers, Image, Later, Word};
use crate::settings::Settings;
use crate::{image, standalone, system};
use std::process::ExitCode;

/// Runs the command that the word stands for.
pub(crate) async fn run(settings: Settings, word: Word) -> anyhow::Result<ExitCode> {
    let command = match word {
        Word::Container(Later(command)) => return container(settings, *command).await,
        Word::System(Later(command)) => return done(system::run(settings, *command).await),
        Word::Info(arguments) => return done(system::info::run(&settings, &arguments).await),
        Word::Version(arguments) => return done(system::version::run(&settings, &arguments)),
        Word::Images(arguments) => Image::Ls(arguments),
        Word::Pull(arguments) => Image::Pull(arguments),
        Word::Push(arguments) => Image::Push(arguments),
        Word::Rmi(arguments) => Image::Rm(arguments),
        Word::Tag(arguments) => Image::Tag(arguments),
        Word::Build(arguments) | Word::Buildx(Builders::Build(arguments)) => Image::Build(arguments),
        Word::Buildx(Builders::Prune(arguments)) => {
            return done(image::prune::builds(&settings, &arguments));
        }
        Word::Save(arguments) => Image::Save(arguments),
        Word::Load(arguments) => Image::Load(arguments),
        Word::Import(arguments) => Image::Import(arguments),
        Word::History(arguments) => Image::History(arguments),
    };
    image::run(settings, command).await
}

async fn container(settings: Settings, command: Containers) -> anyhow::Result<ExitCode> {
    match command {
        Containers::Any(Container::Inspect(mut arguments)) => {
            arguments.kind = Some("container".to_owned());
            standalone::dispatch(settings, Container::Inspect(arguments)).await
        }
        Containers::Any(command) => standalone::dispatch(settings, command).await,
        Containers::Ls(arguments) => standalone::dispatch(settings, Container::Ps(arguments)).await,
        Containers::Prune(arguments) => done(standalone::prune::run(&settings, &arguments).await),
        Containers::Top { container, ps } => done(standalone::top::run(&settings, &container, &ps).await),
    }
}

fn done(result: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    result.map(|()| ExitCode::SUCCESS)
}
