//! `knarr image build`: an image from a Dockerfile.
//!
//! Steps are told on stderr as BuildKit's plain progress tells them; stdout has the id of the image and nothing else.

use super::build_call::Call;
use super::build_findings::{self, excerpt};
use super::build_output::Output;
use super::{build_request, names, pull, push};
use crate::args::Build as Arguments;
use crate::events::{Journal, familiar};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_agent::engine::build_step::StepRunner;
use knarr_images::{
    BaseConfigs, Build, BuildEvent, BuildRequest, Findings, Image, ImageStore, Platform, check_dockerfile,
};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Builds the context and prints the image's id.
pub(crate) async fn run(
    settings: &Settings,
    store: &ImageStore,
    mut arguments: Arguments,
) -> anyhow::Result<ExitCode> {
    let call = Call::of(&arguments)?;
    let aside = tempfile::tempdir().context("a place for the context")?;
    let outputs =
        arguments.output.iter().map(|text| Output::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    arguments.tag.extend(outputs.iter().flat_map(|output| output.names.clone()));
    arguments.push |= outputs.iter().any(|output| output.push);
    if arguments.push && arguments.tag.is_empty() {
        bail!("tag is needed when pushing to registry");
    }
    let request = build_request::of(store, &arguments, aside.path()).await?;
    if let Some(call) = call {
        return call.answer(store, request).await;
    }
    if let Some(platforms) = several(&request)? {
        for_several(settings, store, &arguments, (&request, &outputs), &platforms).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let (journal, (file, text)) = (Journal::of(settings), (request.file.clone(), request.dockerfile.clone()));
    let show_where = |error: anyhow::Error| {
        if let Some(line) = line_of(&format!("{error:#}"), &file) {
            output::complain(excerpt(&file, &text, (line, line)).trim_end());
        }
        error
    };
    let mut build = Build::plan(request.clone()).map_err(|error| show_where(error.into()))?;
    pull_bases(store, &journal, &mut build, &arguments).await?;
    let found = findings(store, &request, &build)?;
    let image = match build_findings::refuse(&found) {
        Ok(()) => execute(settings, store, build, is_quiet(&arguments)).await.map_err(show_where),
        Err(violation) => Err(violation),
    };
    tell_findings(&found, &arguments);
    let image = image?;
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
    Ok(ExitCode::SUCCESS)
}

/// What is better written otherwise in the stages that are built; their bases are here by now.
fn findings(store: &ImageStore, request: &BuildRequest, build: &Build) -> anyhow::Result<Findings> {
    let mut configs = BaseConfigs::new();
    for base in build.bases(false) {
        if let Some(image) = store.find(&base.0)? {
            configs.insert(base, store.inspect(&image)?.config);
        }
    }
    Ok(check_dockerfile(request, &configs, false)?)
}

/// After everything else, where it is seen.
fn tell_findings(found: &Findings, arguments: &Arguments) {
    if let Some(text) = build_findings::warnings(found).filter(|_| !is_quiet(arguments)) {
        output::complain(&text);
    }
}

/// Nothing is told but what was built.
fn is_quiet(arguments: &Arguments) -> bool {
    arguments.quiet || ["quiet", "none"].contains(&arguments.progress.as_str())
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

/// The platforms of a build, where there is more than one.
fn several(request: &BuildRequest) -> anyhow::Result<Option<Vec<Platform>>> {
    let Some(text) = request.platform.as_deref().filter(|text| text.contains(',')) else { return Ok(None) };
    let mut platforms: Vec<Platform> = Vec::new();
    for one in text.split(',') {
        let platform = Platform::parse(one.trim())?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(Some(platforms))
}

/// One image for each platform, and an index of them where they are pushed: a name of this store is one image's.
async fn for_several(
    settings: &Settings,
    store: &ImageStore,
    arguments: &Arguments,
    (request, outputs): (&BuildRequest, &[Output]),
    platforms: &[Platform],
) -> anyhow::Result<()> {
    let each =
        |platform: &Platform| outputs.iter().map(|one| one.of_platform(&platform.to_string())).collect();
    if platforms.iter().map(each).any(|all: Option<Vec<Output>>| all.is_none()) {
        bail!("docker exporter does not currently support exporting manifest lists: use --push, with --tag");
    }
    let (journal, host) = (Journal::of(settings), Platform::host());
    // What names stand for here afterwards is this machine's, so that comes last.
    let mut order: Vec<&Platform> = platforms.iter().collect();
    order.sort_by_key(|platform| **platform == host);
    let last = order.last().copied();
    let mut images = Vec::new();
    let mut found = Findings::default();
    for platform in order {
        let tags = if Some(platform) == last { request.tags.clone() } else { Vec::new() };
        let request = BuildRequest { platform: Some(platform.to_string()), tags, ..request.clone() };
        let mut build = Build::plan(request.clone())?;
        pull_bases(store, &journal, &mut build, arguments).await?;
        found = findings(store, &request, &build)?;
        build_findings::refuse(&found)?;
        let image = execute(settings, store, build, is_quiet(arguments)).await;
        let image = image.with_context(|| format!("platform {platform}"))?;
        for output in each(platform).into_iter().flatten() {
            output.write(store, &image, &image.id)?;
        }
        images.push((image, platform.clone()));
    }
    tell_findings(&found, arguments);
    let mut digest = images.last().map(|(image, _)| image.id.clone()).unwrap_or_default();
    images.sort_by_key(|(_, platform)| platforms.iter().position(|known| known == platform));
    for name in arguments.tag.iter().filter(|_| arguments.push) {
        digest = store.push_index(&images, name, None, None).await?;
        journal.image("push", &familiar(name), &familiar(name));
    }
    if let Some(file) = &arguments.iidfile {
        std::fs::write(file, &digest).with_context(|| format!("write {}", file.display()))?;
    }
    output::line(&digest);
    Ok(())
}

/// Stages begin with the images that are here, where these are for the right platform.
async fn pull_bases(
    store: &ImageStore,
    journal: &Journal,
    build: &mut Build,
    arguments: &Arguments,
) -> anyhow::Result<()> {
    let mut done = BTreeSet::new();
    // What the ONBUILDs of an image copy from is known once it is here.
    while let Some((name, platform)) = build.images().into_iter().find(|image| !done.contains(image)) {
        let wanted = platform.clone().unwrap_or_else(|| build.platform());
        let here = store.find(&name)?;
        let fitting = match &here {
            Some(image) if !arguments.pull => is_for(store, image, &wanted)?,
            _ => false,
        };
        let image = match here {
            Some(image) if fitting => image,
            here => {
                let pulled = pull::pull(store, journal, &name, Some(wanted), arguments.quiet).await;
                match (pulled, here.filter(|_| !arguments.pull)) {
                    (Ok(image), _) => image,
                    // The build says what is wrong with it.
                    (Err(_), Some(image)) => image,
                    (Err(error), None) => return Err(error.context(format!("FROM {name}"))),
                }
            }
        };
        let triggers = &store.inspect(&image)?.config["config"]["OnBuild"];
        let triggers = triggers.as_array().into_iter().flatten().filter_map(Value::as_str);
        let triggers: Vec<String> = triggers.map(str::to_owned).collect();
        build.stand_on((name.clone(), platform.clone()), &image, &triggers)?;
        done.insert((name, platform));
    }
    Ok(())
}

/// Whether an image is for a platform; one that does not say is for any.
pub(crate) fn is_for(store: &ImageStore, image: &Image, wanted: &str) -> anyhow::Result<bool> {
    let wanted = Platform::parse(wanted)?;
    let config = store.inspect(image)?.config;
    let says = |field: &str| config[field].as_str().unwrap_or_default().to_owned();
    let (os, architecture) = (says("os"), says("architecture"));
    Ok(architecture.is_empty() || (os == wanted.os && architecture == wanted.architecture))
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

/// The line that an error names (`FILE:LINE: ...`).
fn line_of(error: &str, file: &str) -> Option<usize> {
    error.strip_prefix(file)?.strip_prefix(':')?.split(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_line() {
        assert_eq!(line_of("Dockerfile:2: process failed", "Dockerfile"), Some(2));
        assert_eq!(line_of("FROM a: not found", "FROM a"), None);
    }
}
