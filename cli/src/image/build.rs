//! `knarr image build`: an image from a Dockerfile.
//!
//! Steps are told on stderr as BuildKit's plain progress tells them; stdout has the id of the image and nothing else.

use super::build_output::Output;
use super::pull;
use crate::args::Build as Arguments;
use crate::events::{Journal, familiar};
use crate::output;
use crate::settings::Settings;
use anyhow::{Context, anyhow, bail};
use knarr_agent::engine::build_step::StepRunner;
use knarr_images::{Build, BuildEvent, BuildRequest, Image, ImageStore, Network};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Builds the context and prints the image's id.
pub(crate) async fn run(settings: &Settings, store: &ImageStore, arguments: Arguments) -> anyhow::Result<()> {
    let empty = tempfile::tempdir().context("empty context")?;
    let outputs =
        arguments.output.iter().map(|text| Output::parse(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let request = request(&arguments, empty.path())?;
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
    let image = execute(settings, store, build, arguments.quiet).await.map_err(show_where)?;
    arguments.tag.iter().for_each(|tag| journal.image("tag", &image.id, &familiar(tag)));
    if let Some(file) = &arguments.iidfile {
        std::fs::write(file, &image.id).with_context(|| format!("write {}", file.display()))?;
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

fn request(arguments: &Arguments, empty: &Path) -> anyhow::Result<BuildRequest> {
    let from_stdin = arguments.context == Path::new("-");
    let context = if from_stdin { empty.to_owned() } else { arguments.context.clone() };
    check_context(&context)?;
    let file = match &arguments.file {
        Some(file) => file.clone(),
        None if from_stdin => PathBuf::from("-"),
        None => default_file(&context),
    };
    let build_args = build_arguments(&arguments.build_arg)?;
    let epoch =
        build_args.get("SOURCE_DATE_EPOCH").cloned().or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok());
    let epoch = epoch.filter(|text| !text.is_empty());
    Ok(BuildRequest {
        dockerfile: read_dockerfile(&file)?,
        ignore: read_ignore(&file, &context)?,
        file: file.file_name().unwrap_or_default().to_string_lossy().replace('-', "Dockerfile"),
        context,
        tags: arguments.tag.clone(),
        arguments: build_args,
        secrets: arguments.secret.iter().map(|text| secret(text)).collect::<anyhow::Result<_>>()?,
        labels: arguments.label.iter().map(|text| pair(text)).collect(),
        target: arguments.target.clone(),
        platform: arguments.platform.clone(),
        no_cache: arguments.no_cache,
        network: match arguments.network.as_str() {
            "host" | "default" => Network::Host,
            "none" => Network::None,
            other => bail!("--network {other}: not known; host or none"),
        },
        source_date_epoch: epoch
            .map(|text| text.parse().with_context(|| format!("SOURCE_DATE_EPOCH {text:?}: not seconds")))
            .transpose()?,
    })
}

fn check_context(context: &Path) -> anyhow::Result<()> {
    let text = context.to_string_lossy();
    if ["http://", "https://", "git://", "git@"].iter().any(|scheme| text.starts_with(scheme)) {
        bail!("{text}: remote contexts are not supported yet; a directory is");
    }
    let found = std::fs::metadata(context);
    if !found.with_context(|| format!("unable to prepare context: path {text:?}"))?.is_dir() {
        bail!("unable to prepare context: {text:?} is not a directory");
    }
    Ok(())
}

/// `Dockerfile`, else `Containerfile`.
fn default_file(context: &Path) -> PathBuf {
    let names = ["Dockerfile", "Containerfile"].map(|name| context.join(name));
    names.iter().find(|file| file.exists()).unwrap_or(&names[0]).clone()
}

fn read_dockerfile(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("read the Dockerfile from stdin")?;
    } else {
        bytes = std::fs::read(file)
            .with_context(|| format!("failed to read dockerfile: open {}", file.display()))?;
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("{}: not UTF-8", file.display()))
}

/// `DOCKERFILE.dockerignore` wins over the context's own.
fn read_ignore(file: &Path, context: &Path) -> anyhow::Result<String> {
    let mut own = file.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore"), context.join(".containerignore")] {
        match std::fs::read(&path) {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
    }
    Ok(String::new())
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// `NAME=VALUE`; a NAME alone has this process' own value, if there is one.
fn build_arguments(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut arguments = BTreeMap::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => bail!("--build-arg {text}: the name is empty"),
            Some((name, value)) => drop(arguments.insert(name.to_owned(), value.to_owned())),
            None => arguments.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
        }
    }
    Ok(arguments)
}

/// `id=NAME[,src=FILE|,env=VARIABLE]`; without a source the variable of that name, else the file of that name.
fn secret(text: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", _)) => {}
            _ => bail!("--secret {text}: {field:?} is not known; id=NAME[,src=FILE|,env=VARIABLE]"),
        }
    }
    let id = id.with_context(|| format!("--secret {text}: id is missing"))?;
    let value = match (file, variable) {
        (Some(file), _) => {
            std::fs::read(&file).with_context(|| format!("--secret {text}: {}", file.display()))?
        }
        (None, Some(name)) => {
            std::env::var(&name).with_context(|| format!("--secret {text}: {name}"))?.into_bytes()
        }
        (None, None) => match std::env::var(&id) {
            Ok(value) => value.into_bytes(),
            Err(_) => std::fs::read(&id).with_context(|| format!("--secret {text}: {id}"))?,
        },
    };
    Ok((id, value))
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

    #[test]
    fn secrets_name_their_source() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret").unwrap();
        let (id, value) = secret(&format!("id=x,src={}", file.path().display())).unwrap();
        assert_eq!((id.as_str(), &value[..]), ("x", &b"s3cret"[..]));
        for wrong in ["src=/etc/passwd", "id=x,nope=1", "id=x,env=KNARR_NOT_SET"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn build_arguments_need_a_name() {
        assert_eq!(build_arguments(&["a=b=c".into()]).unwrap()["a"], "b=c");
        assert!(build_arguments(&["=b".into()]).is_err());
        assert!(build_arguments(&["KNARR_NOT_SET".into()]).unwrap().is_empty());
    }
}
