//! What happens to containers, for the journal of events. Whoever does something to a container says so; its end is told
//! by whoever sees it first, once for each of its lives:
//!
//! ```text
//! DATA_DIR/containers/PLACE/died-TIME    the end of the life that began then has been told
//! ```

use super::{Standalone, plan};
use crate::events::{Event, Kind};
use anyhow::Context;
use knarr_agent::cri::v1::{Container, ContainerState, ContainerStatus};
use knarr_agent::engine::direct::signal_number;
use knarr_agent::engine::monitors::Exit;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

const TOLD: &str = "died-";
const OUT_OF_MEMORY: &str = "OOMKilled";

impl Standalone {
    /// Something that was done to it. Nothing is told of one that was never made.
    pub(super) async fn tell(&self, action: &str, more: &[(&str, String)]) {
        if let Ok(Some(container)) = self.container().await {
            self.tell_of(&container, action, more);
        }
    }

    /// The same of a container that may be gone by now.
    pub(super) fn tell_of(&self, container: &Container, action: &str, more: &[(&str, String)]) {
        self.journal.note(&event(self.name(), &container.id, &container.labels, action, more));
    }

    /// A signal that is about to be sent; one that comes too late is not told.
    pub(super) async fn tell_kill(&self, container: &Container, signal: &str) {
        let life = self.status().await.ok().flatten().map(|status| marker(&status));
        if life.is_none_or(|life| !self.data_dir().join(life).exists()) {
            let number = signal_number(signal).unwrap_or_default();
            self.tell_of(container, "kill", &[("signal", number.to_string())]);
        }
    }

    /// That it has ended, if it has. Nobody can be told that this could not be told.
    pub(super) async fn tell_end(&self) {
        let ended = async {
            let Some(status) = self.status().await? else { return Ok(()) };
            if status.state() == ContainerState::ContainerExited { self.end_told(&status) } else { Ok(()) }
        };
        self.complain(ended.await);
    }

    /// That it has ended in this way, which its engine may not know yet.
    pub(super) async fn tell_exit(&self, exit: &Exit) {
        let ended = async {
            let Some(mut status) = self.status().await? else { return Ok(()) };
            (status.exit_code, status.finished_at) = (exit.code, exit.finished_at);
            if exit.oom_killed && exit.code != 0 {
                status.reason = OUT_OF_MEMORY.to_owned();
            }
            self.end_told(&status)
        };
        self.complain(ended.await);
    }

    fn complain(&self, told: anyhow::Result<()>) {
        if let Err(error) = told {
            tracing::warn!("the end of {} was not told: {error:#}", self.name());
        }
    }

    fn end_told(&self, status: &ContainerStatus) -> anyhow::Result<()> {
        // One that could not be started has not lived.
        if status.started_at == 0 {
            return Ok(());
        }
        let marker = marker(status);
        if self.journal.once(&self.data_dir().join(&marker), &ends(self.name(), status))? {
            forget(self.data_dir(), &marker)?;
        }
        Ok(())
    }
}

fn marker(status: &ContainerStatus) -> String {
    format!("{TOLD}{}", status.started_at)
}

/// `die`, and before it why, where the kernel did it.
fn ends(name: &str, status: &ContainerStatus) -> Vec<Event> {
    let seconds = (status.finished_at - status.started_at).max(0) / 1_000_000_000;
    let more = [("exitCode", status.exit_code.to_string()), ("execDuration", seconds.to_string())];
    let out_of_memory =
        (status.reason == OUT_OF_MEMORY).then(|| event(name, &status.id, &status.labels, "oom", &[]));
    let died = event(name, &status.id, &status.labels, "die", &more);
    out_of_memory.into_iter().chain([died]).map(|event| event.at(status.finished_at)).collect()
}

/// The marks of earlier lives.
fn forget(directory: &Path, last: &str) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(TOLD) && name != last {
            std::fs::remove_file(directory.join(&name)).with_context(|| format!("remove {name}"))?;
        }
    }
    Ok(())
}

fn event(
    name: &str,
    id: &str,
    labels: &HashMap<String, String>,
    action: &str,
    more: &[(&str, String)],
) -> Event {
    let mut attributes: BTreeMap<String, String> = plan::own_labels(labels);
    let image = labels.get(plan::IMAGE_LABEL).cloned().unwrap_or_default();
    attributes.extend([("image".to_owned(), image), ("name".to_owned(), name.to_owned())]);
    attributes.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Event::now(Kind::Container, action, id, attributes)
}
