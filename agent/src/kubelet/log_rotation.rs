//! Keeps the logs of running containers small: a file that has grown too large is renamed, the runtime is told to
//! begin a new one, and what was rotated earlier is compressed or, beyond the number of files to keep, removed.
//!
//! Nothing is lost: until the runtime has opened the new file it writes to the renamed one, which is compressed one
//! rotation later at the earliest. A rename that the runtime does not follow is taken back.

use crate::kubelet::host::{CALL_DEADLINE, within};
use crate::kubelet::log_files;
use flate2::Compression;
use flate2::write::GzEncoder;
use knarr_cri::RuntimeService;
use knarr_cri::v1::{
    ContainerFilter, ContainerState, ContainerStateValue, ContainerStatusRequest, ListContainersRequest,
    ReopenContainerLogRequest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// When and how far logs are rotated.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes from which on a log is rotated.
    pub size: u64,
    /// Files kept per container, the current one included.
    pub files: usize,
    /// Between two looks.
    pub period: Duration,
}

/// Rotates until it is cancelled.
pub async fn run(runtime: Arc<dyn RuntimeService>, limits: Limits) {
    let mut logs = BTreeMap::new();
    let mut ticks = tokio::time::interval(limits.period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = find(&*runtime, &mut logs).await {
            tracing::warn!("log rotation: {error}");
            continue;
        }
        for (id, log) in &large(&logs, limits.size).await {
            if let Err(error) = rotate_if_large(&*runtime, id, log, limits).await {
                tracing::warn!(container = id, "rotation of {}: {error}", log.display());
            }
        }
    }
}

/// Brings the map from running container to log up to date.
async fn find(runtime: &dyn RuntimeService, logs: &mut BTreeMap<String, PathBuf>) -> Result<(), String> {
    let state = ContainerStateValue { state: ContainerState::ContainerRunning as i32 };
    let filter = Some(ContainerFilter { state: Some(state), ..Default::default() });
    let listed = within(CALL_DEADLINE, runtime.list_containers(ListContainersRequest { filter })).await;
    let running = listed.map_err(|status| status.message().to_string())?.containers;
    let ids: BTreeSet<&str> = running.iter().map(|container| container.id.as_str()).collect();
    logs.retain(|id, _| ids.contains(id.as_str()));
    for container in running {
        if logs.contains_key(&container.id) {
            continue;
        }
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        // One that is just going away has no status, and nothing to rotate.
        let Ok(answer) = within(CALL_DEADLINE, runtime.container_status(request)).await else { continue };
        let log = answer.status.map(|status| status.log_path).unwrap_or_default();
        if !log.is_empty() {
            logs.insert(container.id, log.into());
        }
    }
    Ok(())
}

/// Those that are to be rotated: all looked at in one go.
async fn large(logs: &BTreeMap<String, PathBuf>, size: u64) -> BTreeMap<String, PathBuf> {
    let mut logs = logs.clone();
    let looked = tokio::task::spawn_blocking(move || {
        // What cannot be looked at is told when it is to be rotated.
        logs.retain(|_, log| match std::fs::metadata(log) {
            Ok(found) => found.len() >= size,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
        logs
    });
    looked.await.unwrap_or_default()
}

async fn rotate_if_large(
    runtime: &dyn RuntimeService,
    id: &str,
    log: &Path,
    limits: Limits,
) -> Result<(), String> {
    let path = log.to_path_buf();
    let moved = tokio::task::spawn_blocking(move || make_room_and_move(&path, limits)).await;
    let moved = moved.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let Some(moved) = moved else { return Ok(()) };
    let request = ReopenContainerLogRequest { container_id: id.to_string() };
    let Err(status) = within(CALL_DEADLINE, runtime.reopen_container_log(request)).await else {
        return Ok(());
    };
    let back = tokio::fs::rename(&moved, log).await;
    let also = back.err().map(|error| format!("; and it cannot be taken back: {error}")).unwrap_or_default();
    Err(format!("ReopenContainerLog: {}{also}", status.message()))
}

/// Renames a log that is too large, after older ones were compressed or removed; answers its new name.
fn make_room_and_move(log: &Path, limits: Limits) -> io::Result<Option<PathBuf>> {
    match std::fs::metadata(log) {
        Ok(found) if found.len() >= limits.size => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    let target = with_suffix(log, &jiff::Zoned::now().strftime(".%Y%m%d-%H%M%S").to_string());
    let mut older = log_files::rotated(log)?;
    if older.iter().any(|file| file.starts_with(&target) || *file == with_suffix(&target, ".gz")) {
        // Twice within a second: the next look is early enough.
        return Ok(None);
    }
    // Room for the one that is moved now and for the new one.
    let excess = older.len().saturating_sub(limits.files.saturating_sub(2));
    for file in older.drain(..excess) {
        std::fs::remove_file(file)?;
    }
    for file in older.iter().filter(|file| !log_files::is_compressed(file)) {
        compress(file)?;
    }
    std::fs::rename(log, &target)?;
    Ok(Some(target))
}

/// A half-written file has another name, and the next rotation writes it anew.
fn compress(file: &Path) -> io::Result<()> {
    let temporary = with_suffix(file, ".tmp");
    let mut encoder = GzEncoder::new(File::create(&temporary)?, Compression::default());
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?;
    std::fs::rename(&temporary, with_suffix(file, ".gz"))?;
    std::fs::remove_file(file)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    #[test]
    fn old_logs_are_compressed_and_the_oldest_go() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("0.log");
        let limits = Limits { size: 5, files: 3, period: Duration::from_secs(1) };
        for second in 1..=3 {
            std::fs::write(with_suffix(&log, &format!(".20200101-00000{second}")), format!("{second}"))
                .unwrap();
        }
        std::fs::write(&log, "tiny").unwrap();
        assert_eq!(make_room_and_move(&log, limits).unwrap(), None);
        std::fs::write(&log, "large enough").unwrap();
        let moved = make_room_and_move(&log, limits).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "large enough");
        let older = with_suffix(&log, ".20200101-000003.gz");
        assert_eq!(log_files::rotated(&log).unwrap(), [older.clone(), moved]);
        let mut text = String::new();
        flate2::read::GzDecoder::new(File::open(older).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "3");
        std::fs::write(&log, "too soon").unwrap();
        assert!(make_room_and_move(&log, limits).is_ok());
    }
}
