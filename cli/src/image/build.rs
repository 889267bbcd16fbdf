//! `knarr image build`: an image from a Dockerfile.
//!
//! Steps are told on stderr as BuildKit's plain progress tells them; stdout has the id of the image and nothing else.

use super::build_output::Output;
use super::{build_request, names, pull, push};
use crate::args::Build as Arguments;
use crate::events::{Journal, familiar};
use crate::output;
use crate::settings::Settings;
use anyhow::Context;
use knarr_agent::engine::build_step::StepRunner;
use knarr_images::{Build, BuildEvent, Image, ImageStore};
use std::path::Path;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Builds the context and prints the image's id.
pub(crate) async fn run(settings: &Settings, store: &ImageStore, arguments: Arguments) -> anyhow::Result<()> {
    let aside = tempfile::tempdir().context("a place for the context")?;
    let outputs =
        arguments.output.iter().map(|text| Output::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let request = build_request::of(&arguments, aside.path())?;
    let text = request.dockerfile.clone();
    let show_where = |error: anyhow::Error| {
        if let Some(excerpt) = excerpt(&format!("{error:#}"), &text) {
            output::complain(&excerpt);
        }
        error
    };
    let journal = Journal::of(settings);
    let build = Build::plan(request).map_err(|error| show_where(error.into()))?;
    pull_bases(store, &journal, &build, &arguments).await?;
    let image = execute(settings, store, build, arguments.quiet || arguments.progress == "quiet")
        .await
        .map_err(show_where)?;
    arguments.tag.iter().for_each(|tag| journal.image("tag", &image.id, &familiar(tag)));
    if let Some(file) = &arguments.iidfile {
        std::fs::write(file, &image.id).with_context(|| format!("write {}", file.display()))?;
    }
    if let Some(file) = &arguments.metadata_file {
        metadata(store, &image, &arguments.tag, file)?;
    }
    for name in arguments.tag.iter().filter(|_| arguments.push) {
        push::push(store, &journal, &image, name, arguments.quiet).await?;
    }
    let to_stdout = outputs.iter().any(|output| output.destination == Path::new("-"));
    let name = arguments.tag.first().unwrap_or(&image.id);
    for output in &outputs {
        output.write(store, &image, name)?;
    }
    if !to_stdout {
        output::line(&image.id);
    }
    Ok(())
}

/// What was built, in BuildKit's words.
fn metadata(store: &ImageStore, image: &Image, tags: &[String], file: &Path) -> anyhow::Result<()> {
    let names = tags.iter().map(|tag| names::whole(tag)).collect::<anyhow::Result<Vec<_>>>()?;
    let document = serde_json::json!({
        "containerimage.config.digest": image.id,
        "containerimage.digest": store.inspect(image)?.manifest_digest,
        "image.name": names.join(","),
    });
    let text = serde_json::to_string_pretty(&document)?;
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))
}

/// Builds on a thread that may block; a signal kills the steps at work and ends the build.
async fn execute(
    settings: &Settings,
    store: &ImageStore,
    build: Build,
    quiet: bool,
) -> anyhow::Result<Image> {
    let runner = Arc::new(StepRunner::new(&settings.node)?);
    let (store, steps) = (store.clone(), runner.clone());
    let mut building = tokio::task::spawn_blocking(move || {
        let listener = |event| {
            if !quiet {
                tell(&event)
            }
        };
        store.build(&build, steps.as_ref(), &listener)
    });
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    loop {
        tokio::select! {
            built = &mut building => return Ok(built??),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        let runner = runner.clone();
        tokio::task::spawn_blocking(move || runner.cancel()).await?;
    }
}

async fn pull_bases(
    store: &ImageStore,
    journal: &Journal,
    build: &Build,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    for (name, platform) in build.images() {
        if arguments.pull || store.find(&name)?.is_none() {
            let platform = platform.or_else(|| arguments.platform.clone());
            pull::pull(store, journal, &name, platform, arguments.quiet)
                .await
                .with_context(|| format!("FROM {name}"))?;
        }
    }
    Ok(())
}

fn tell(event: &BuildEvent) {
    output::complain(&match event {
        BuildEvent::Started { step, name } => format!("#{step} {name}"),
        BuildEvent::Output { step, line } => format!("#{step} {line}"),
        BuildEvent::Cached { step } => format!("#{step} CACHED"),
        BuildEvent::Done { step, took } => format!("#{step} DONE {:.1}s", took.as_secs_f64()),
        BuildEvent::Failed { step, error } => format!("#{step} ERROR: {error}"),
    });
}

/// The lines around the one that an error names (`FILE:LINE: ...`).
fn excerpt(error: &str, text: &str) -> Option<String> {
    let mut fields = error.splitn(3, ':');
    let (file, line) = (fields.next()?, fields.next()?.parse::<usize>().ok()?);
    let ruler = "--------------------";
    let mut shown = vec![format!("{file}:{line}"), ruler.to_owned()];
    for (index, content) in text.lines().enumerate() {
        let number = index + 1;
        if number + 3 > line && number < line + 3 {
            let mark = if number == line { ">>>" } else { "   " };
            shown.push(format!("{number:4} | {mark} {}", content.trim_end()));
        }
    }
    shown.push(ruler.to_owned());
    Some(shown.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_shows_its_line() {
        let shown = excerpt("Dockerfile:2: process failed", "FROM a\nRUN false\n").unwrap();
        assert!(shown.contains("   2 | >>> RUN false"), "{shown}");
        assert_eq!(excerpt("FROM a: not found", ""), None);
    }
}
