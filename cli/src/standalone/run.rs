//! `knarr run`: one container, from image to exit status, with no daemon.
//!
//! In the foreground the exit status is the container's own; 125 says that knarr failed, 126 that the command
//! could not be invoked, 127 that it was not found (docker run's numbers).

use super::{Standalone, plan, terminal};
use crate::args::Run;
use crate::settings::Settings;
use crate::{image, output, up};
use anyhow::{Context, bail};
use knarr_agent::cri::RuntimeService;
use knarr_agent::cri::v1::{CreateContainerRequest, RunPodSandboxRequest, StartContainerRequest};
use knarr_agent::engine::monitors::{AttachOutput, AttachSession};
use knarr_images::{Image, ImageStore};
use std::io::Write;
use std::process::ExitCode;
use tokio::sync::mpsc::Receiver;

/// Seconds between the first signal to us and the container's SIGKILL.
const STOP_SECONDS: i64 = 10;

/// Runs the container; errors of ours end with 125 to 127.
pub(crate) async fn run(settings: Settings, arguments: Box<Run>) -> anyhow::Result<ExitCode> {
    match start(&settings, &arguments).await {
        Ok(code) => Ok(code),
        Err(error) => {
            let text = output::describe(&error);
            output::complain(&format!("knarr: {text}"));
            Ok(ExitCode::from(failure_code(&text)))
        }
    }
}

/// Docker's exit status for a container that could not be started.
fn failure_code(text: &str) -> u8 {
    let start_failed = text.contains("unable to start container process") || text.contains("exec:");
    match start_failed {
        true if text.contains("no such file or directory") || text.contains("executable file not found") => {
            127
        }
        true if text.contains("permission denied") => 126,
        _ => 125,
    }
}

async fn start(settings: &Settings, arguments: &Run) -> anyhow::Result<ExitCode> {
    let name = name(settings, arguments)?;
    let store = image::open(settings)?;
    let image = image::pull_if_missing(&store, &arguments.image).await?;
    store.verify(&image, &arguments.image)?;
    let shown = shown_command(&store, &image, arguments)?;
    let place = Standalone::open(settings, &name).await?;
    let ended = match create(&place, arguments, &image.id, shown).await {
        Ok(created) => serve(&place, arguments, created).await,
        Err(error) => Err(error),
    };
    let keep = ended.is_ok() && (arguments.detach || !arguments.rm);
    if !keep {
        let removed = place.remove().await.context("remove the container");
        return ended.and_then(|code| removed.map(|()| code));
    }
    ended
}

/// The name asked for, or twelve random digits.
fn name(settings: &Settings, arguments: &Run) -> anyhow::Result<String> {
    let Some(name) = &arguments.name else {
        return Ok(uuid()?[..12].to_owned());
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(legal) || name.starts_with(['.', '-', '_']) {
        bail!("--name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed");
    }
    if super::names(settings)?.contains(name) {
        bail!("the container name {name:?} is already in use; `knarr rm {name}` removes it");
    }
    Ok(name.clone())
}

fn uuid() -> anyhow::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
    Ok(text.trim().replace('-', ""))
}

/// Sandbox and container ids of a created container.
struct Created {
    sandbox_id: String,
    container_id: String,
}

/// The whole command as `ps` shows it: entry point and arguments, the user's before the image's.
fn shown_command(store: &ImageStore, image: &Image, arguments: &Run) -> anyhow::Result<String> {
    let config = store.config(image)?;
    let config = config.config().clone().unwrap_or_default();
    let mut words: Vec<String> = match &arguments.entrypoint {
        Some(entrypoint) => vec![entrypoint.clone()],
        None => config.entrypoint().clone().unwrap_or_default(),
    };
    match (arguments.command.is_empty(), &arguments.entrypoint) {
        (false, _) => words.extend(arguments.command.iter().cloned()),
        (true, None) => words.extend(config.cmd().clone().unwrap_or_default()),
        (true, Some(_)) => {}
    }
    Ok(words.join(" "))
}

async fn create(
    place: &Standalone,
    arguments: &Run,
    image_id: &str,
    shown: String,
) -> anyhow::Result<Created> {
    let logs = place.log_file();
    let directory = logs.parent().context("log directory")?;
    let sandbox = plan::sandbox(arguments, &place.name, directory)?;
    let container = plan::container(arguments, image_id, shown)?;
    std::fs::create_dir_all(directory).with_context(|| format!("mkdir {}", directory.display()))?;
    let request = RunPodSandboxRequest { config: Some(sandbox.clone()), runtime_handler: String::new() };
    let sandbox_id = place.engine.run_pod_sandbox(request).await?.pod_sandbox_id;
    let request = CreateContainerRequest {
        pod_sandbox_id: sandbox_id.clone(),
        config: Some(container),
        sandbox_config: Some(sandbox),
    };
    let container_id = place.engine.create_container(request).await?.container_id;
    Ok(Created { sandbox_id, container_id })
}

/// Starts it; in the foreground joins its stdio first, so that not a byte is lost, and waits for its end.
async fn serve(place: &Standalone, arguments: &Run, created: Created) -> anyhow::Result<ExitCode> {
    let start = StartContainerRequest { container_id: created.container_id.clone() };
    if arguments.detach {
        place.engine.start_container(start).await?;
        output::line(&place.name);
        return Ok(ExitCode::SUCCESS);
    }
    let stop = up::stop_signal()?;
    let session = place.monitors.attach(&created.sandbox_id, &created.container_id).await?;
    let _raw = if arguments.tty { terminal::RawMode::enter()? } else { None };
    place.engine.start_container(start).await?;
    let printed = tokio::spawn(pump(session, arguments.interactive, arguments.tty));
    tokio::pin!(stop);
    let exit = place.monitors.wait(&created.sandbox_id, &created.container_id);
    tokio::pin!(exit);
    let exit = tokio::select! {
        exit = &mut exit => exit?,
        () = stop => {
            place.stop(STOP_SECONDS).await?;
            exit.await?
        }
    };
    printed.await??;
    Ok(ExitCode::from(exit.code.clamp(0, 255) as u8))
}

/// Carries stdio until the container's output ends.
async fn pump(session: AttachSession, interactive: bool, tty: bool) -> anyhow::Result<()> {
    let AttachSession { stdin, output, resize } = session;
    if interactive {
        terminal::forward_stdin(stdin);
    }
    let sizes = tty.then(|| tokio::spawn(terminal::follow_size(resize)));
    let printed = print(output).await;
    if let Some(sizes) = sizes {
        sizes.abort();
    }
    printed
}

async fn print(mut output: Receiver<AttachOutput>) -> anyhow::Result<()> {
    while let Some(piece) = output.recv().await {
        match piece {
            AttachOutput::Stdout(bytes) => write(&mut std::io::stdout(), &bytes)?,
            AttachOutput::Stderr(bytes) => write(&mut std::io::stderr(), &bytes)?,
        }
    }
    Ok(())
}

/// A reader that went away (`knarr run ... | head`) ends the printing, not the container.
fn write(stream: &mut dyn Write, bytes: &[u8]) -> anyhow::Result<()> {
    match stream.write_all(bytes).and_then(|()| stream.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("write output"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::failure_code;

    #[test]
    fn failures_have_dockers_numbers() {
        let not_found = r#"unable to start container process: exec: "x": executable file not found in $PATH"#;
        let denied = r#"unable to start container process: exec: "/etc": permission denied"#;
        assert_eq!(failure_code(not_found), 127);
        assert_eq!(failure_code(denied), 126);
        assert_eq!(failure_code("busybox: no such image"), 125);
        assert_eq!(failure_code("open /x: no such file or directory"), 125);
    }
}
