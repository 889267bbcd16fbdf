//! Static pods: every manifest in a directory is a pod that runs as long as its file lies there.
//!
//! The directory is read again on every change (inotify) and every 20 seconds. A file that cannot be read or
//! understood is reported once per version and harms no other; a pod whose file became broken goes on as it was. A file
//! that left and is there again, however fast, is a new one: its pod ends and begins anew.
//! ConfigMaps and Secrets may lie in the same files, for nodes that have no API server.

mod changes;
pub(super) mod parse;

pub use parse::{Documents, parse};

use super::{Origin, SourceEvent};
use crate::kubelet::pod;
use crate::kubelet::references::{Listener, Names};
use changes::Changes;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, Secret};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

/// Read everything again after this long, whatever inotify says.
const RELIST: Duration = Duration::from_secs(20);
/// Larger files are no manifests.
const MAX_FILE: u64 = 10 << 20;

/// ConfigMaps and Secrets by namespace and name.
#[derive(Debug, Default)]
pub struct LocalObjects {
    /// Held only to copy or replace.
    inner: Mutex<(Objects<ConfigMap>, Objects<Secret>)>,
    /// By pod uid; held only to add, remove or tell.
    listeners: Mutex<BTreeMap<String, Listener>>,
}

type Objects<T> = BTreeMap<(String, String), T>;

#[async_trait::async_trait]
impl crate::kubelet::references::ObjectSource for LocalObjects {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Option<ConfigMap>, String> {
        let objects = self.inner.lock().map_err(|error| error.to_string())?;
        Ok(objects.0.get(&(namespace.to_string(), name.to_string())).cloned())
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, String> {
        let objects = self.inner.lock().map_err(|error| error.to_string())?;
        Ok(objects.1.get(&(namespace.to_string(), name.to_string())).cloned())
    }

    async fn claimed(&self, _: &str, _: &str, _: Option<&str>) -> Result<PersistentVolume, String> {
        Err("a node without a cluster has no persistent volumes".to_string())
    }

    /// Changes are rare and few pods care, so every listener hears of every change.
    fn follow(&self, pod_uid: &str, _: &str, _: &Names, listener: Listener) {
        if let Ok(mut listeners) = self.listeners.lock() {
            listeners.insert(pod_uid.to_string(), listener);
        }
    }

    fn forget(&self, pod_uid: &str) {
        if let Ok(mut listeners) = self.listeners.lock() {
            listeners.remove(pod_uid);
        }
    }
}

impl LocalObjects {
    /// Replaces everything; those who use it are told if it differs.
    fn replace(&self, fresh: (Objects<ConfigMap>, Objects<Secret>)) {
        let Ok(mut inner) = self.inner.lock() else { return };
        if *inner == fresh {
            return;
        }
        *inner = fresh;
        drop(inner);
        for listener in self.listeners.lock().iter().flat_map(|listeners| listeners.values()) {
            listener.tell();
        }
    }
}

/// One directory.
pub struct ManifestDirectory {
    directory: PathBuf,
    node: String,
    objects: Arc<LocalObjects>,
    /// The last good contents of each file.
    good: BTreeMap<PathBuf, Documents>,
    /// What was wrong with a file, to say it once.
    reported: BTreeMap<PathBuf, String>,
    told: BTreeMap<String, Arc<k8s_openapi::api::core::v1::Pod>>,
}

impl std::fmt::Debug for ManifestDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManifestDirectory").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl ManifestDirectory {
    /// Manifests of `directory` for the node of that name; ConfigMaps and Secrets go to `objects`.
    pub fn new(directory: &Path, node: &str, objects: Arc<LocalObjects>) -> ManifestDirectory {
        ManifestDirectory {
            directory: directory.to_path_buf(),
            node: node.to_string(),
            objects,
            good: BTreeMap::new(),
            reported: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// Watches until the receiver is gone.
    pub async fn watch(mut self, events: mpsc::UnboundedSender<SourceEvent>) {
        let watch = Changes::of(&self.directory);
        if let Err(error) = &watch {
            tracing::warn!("{}: no notification of changes: {error}", self.directory.display());
        }
        let mut watch = watch.ok();
        loop {
            let told = events.clone();
            let left = watch.as_mut().map(Changes::take_left).unwrap_or_default();
            let read = move || {
                self.forget(&left, &told);
                let open = self.read_all(&told);
                (self, open)
            };
            // Files may be on a disk that hangs. A reader that panicked has lost what it knew.
            let Ok((directory, open)) = tokio::task::spawn_blocking(read).await else { return };
            if !open {
                return;
            }
            self = directory;
            match &mut watch {
                Some(changes) => {
                    if let Ok(Err(error)) = tokio::time::timeout(RELIST, changes.wait()).await {
                        tracing::warn!(
                            "{}: no more notification of changes: {error}",
                            self.directory.display()
                        );
                        watch = None;
                    }
                }
                None => tokio::time::sleep(RELIST).await,
            }
        }
    }

    /// Ends the pods of files that left.
    fn forget(&mut self, left: &BTreeSet<OsString>, events: &mpsc::UnboundedSender<SourceEvent>) {
        let has_left = |file: &PathBuf| file.file_name().is_some_and(|name| left.contains(name));
        for (_, documents) in self.good.extract_if(.., |file, _| has_left(file)) {
            for pod in documents.pods.iter().filter(|pod| self.told.remove(pod::uid(pod)).is_some()) {
                // That nobody listens shows when the directory has been read.
                let _ = events.send(SourceEvent::Gone(pod::uid(pod).to_string()));
            }
        }
    }

    /// Reads the directory and tells what differs; false when nobody listens.
    fn read_all(&mut self, events: &mpsc::UnboundedSender<SourceEvent>) -> bool {
        let files = match list(&self.directory) {
            Ok(files) => files,
            Err(error) => {
                // An unreadable directory says nothing about which pods are wanted: all go on.
                tracing::error!("{}: {error}", self.directory.display());
                return !events.is_closed();
            }
        };
        self.good.retain(|file, _| files.contains(file));
        self.reported.retain(|file, _| files.contains(file));
        for file in files {
            self.read_file(&file);
        }
        self.publish_objects();
        let mut wanted = BTreeMap::new();
        for (file, documents) in &self.good {
            for pod in &documents.pods {
                if wanted.insert(pod::uid(pod).to_string(), pod.clone()).is_some() {
                    tracing::error!("{}: pod {} is defined twice", file.display(), pod::name(pod));
                }
            }
        }
        let mut open = true;
        for (uid, pod) in &wanted {
            if self.told.get(uid) != Some(pod) {
                open &= events.send(SourceEvent::Upsert(pod.clone())).is_ok();
            }
        }
        let uids = wanted.keys().cloned().collect();
        self.told = wanted;
        open && events.send(SourceEvent::All(Origin::Manifests, uids)).is_ok()
    }

    fn read_file(&mut self, file: &Path) {
        let result = read_limited(file)
            .map_err(|error| error.to_string())
            .and_then(|text| parse(&text, file, &self.node));
        match result {
            Ok(documents) => {
                self.reported.remove(file);
                // What has not changed stays the same object: workers hold it, too.
                if self.good.get(file) != Some(&documents) {
                    self.good.insert(file.to_path_buf(), documents);
                }
            }
            Err(error) => {
                if self.reported.get(file) != Some(&error) {
                    tracing::error!("manifest {}: {error}", file.display());
                    self.reported.insert(file.to_path_buf(), error);
                }
            }
        }
    }

    fn publish_objects(&self) {
        let key = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            let namespace = meta.namespace.clone().unwrap_or_else(|| "default".to_string());
            (namespace, meta.name.clone().unwrap_or_default())
        };
        let all = || self.good.values();
        let maps =
            all().flat_map(|documents| &documents.config_maps).map(|map| (key(&map.metadata), map.clone()));
        let secrets = all().flat_map(|documents| &documents.secrets).map(|s| (key(&s.metadata), s.clone()));
        self.objects.replace((maps.collect(), secrets.collect()));
    }
}

/// Regular files that are not hidden.
fn list(directory: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.is_file() {
            files.insert(path);
        }
    }
    Ok(files)
}

fn read_limited(file: &Path) -> io::Result<String> {
    if std::fs::metadata(file)?.len() > MAX_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 10 MiB"));
    }
    std::fs::read_to_string(file)
}
