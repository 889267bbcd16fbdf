//! `plugins_registry`: every socket in it is a plugin that wants to be known. It is asked what it is, judged, and told the
//! verdict; when its socket goes, so does the driver.

use super::{Csi, Driver, PATIENCE};
use crate::kubelet::host::{rpc_error, within};
use inotify::{Inotify, WatchMask};
use knarr_cri::plugin_registration::registration_client::RegistrationClient;
use knarr_cri::plugin_registration::{InfoRequest, PluginInfo, RegistrationStatus};
use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;

/// Look again after this long, whatever inotify says: a plugin that was refused, or not ready, is asked again.
const RELIST: Duration = Duration::from_secs(10);

/// A socket's path and its inode: a plugin that starts again makes another one.
type Sockets = BTreeMap<PathBuf, u64>;

/// Never returns.
pub(super) async fn follow(csi: Csi) {
    let directory = csi.root.join("plugins_registry");
    if let Err(error) = tokio::fs::create_dir_all(&directory).await {
        return tracing::warn!("{}: no storage drivers: {error}", directory.display());
    }
    let mut watch = watch(&directory).ok();
    let mut known = Sockets::new();
    loop {
        let listed = directory.clone();
        let found = tokio::task::spawn_blocking(move || sockets(&listed)).await;
        if let Ok(Ok(found)) = found {
            csi.compare(&mut known, found).await;
        }
        match &mut watch {
            Some(watch) => drop(tokio::time::timeout(RELIST, changed(watch)).await),
            None => tokio::time::sleep(RELIST).await,
        }
    }
}

fn watch(directory: &Path) -> io::Result<Receiver> {
    let inotify = Inotify::init()?;
    let mask = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
    inotify.watches().add(directory, mask)?;
    Receiver::from_owned_fd_unchecked(inotify.into())
}

/// What happened is of no interest, only that something did.
async fn changed(watch: &mut Receiver) {
    let mut buffer = [0; 4096];
    let told = async {
        watch.readable().await?;
        while watch.try_read(&mut buffer).is_ok_and(|read| read > 0) {}
        io::Result::Ok(())
    };
    if told.await.is_err() {
        tokio::time::sleep(RELIST).await;
    }
}

/// Blocks.
fn sockets(directory: &Path) -> io::Result<Sockets> {
    let mut found = Sockets::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // One that went while we looked is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if metadata.file_type().is_socket() && !hidden {
            found.insert(entry.path(), metadata.ino());
        }
    }
    Ok(found)
}

impl Csi {
    /// Forgets drivers whose sockets went, and meets those that came.
    async fn compare(&self, known: &mut Sockets, found: Sockets) {
        let gone: Vec<PathBuf> = known
            .iter()
            .filter(|(path, inode)| found.get(*path) != Some(*inode))
            .map(|(path, _)| path.clone())
            .collect();
        for path in gone {
            known.remove(&path);
            self.forget(&path).await;
        }
        for (path, inode) in found {
            if known.contains_key(&path) {
                continue;
            }
            match self.meet(&path).await {
                Ok(driver) => {
                    known.insert(path, inode);
                    tracing::info!(driver, "a storage driver has registered");
                    self.sweep(&driver).await;
                }
                Err(error) => tracing::warn!("plugin {}: {error}", path.display()),
            }
        }
    }

    async fn forget(&self, registrar: &Path) {
        let name = {
            let mut drivers = self.lock();
            let name = drivers.iter().find(|(_, driver)| driver.registrar == registrar);
            let name = name.map(|(name, _)| name.clone());
            name.inspect(|name| drop(drivers.remove(name)))
        };
        let Some(name) = name else { return };
        tracing::info!(driver = name, "a storage driver has gone");
        if let Err(error) = self.tell_node().await {
            tracing::warn!(driver = name, "CSINode: {error}");
        }
    }

    /// Asks a plugin what it is and tells it whether it is welcome.
    async fn meet(&self, socket: &Path) -> Result<String, String> {
        let channel = knarr_cri::client::plugin(socket.to_path_buf()).map_err(|error| error.to_string())?;
        let mut client = RegistrationClient::new(channel);
        let info = within(PATIENCE, client.get_info(InfoRequest {})).await;
        let info = info.map_err(|status| rpc_error(&status))?.into_inner();
        let verdict = self.judge(socket, &info).await;
        let status = RegistrationStatus {
            plugin_registered: verdict.is_ok(),
            error: verdict.as_ref().err().cloned().unwrap_or_default(),
        };
        let told = within(PATIENCE, client.notify_registration_status(status)).await;
        verdict?;
        told.map(|_| info.name).map_err(|status| rpc_error(&status))
    }

    async fn judge(&self, socket: &Path, info: &PluginInfo) -> Result<(), String> {
        check(info)?;
        let endpoint =
            if info.endpoint.is_empty() { socket.to_path_buf() } else { info.endpoint.clone().into() };
        let driver = Driver::meet(socket.to_path_buf(), endpoint).await?;
        let before = self.lock().insert(info.name.clone(), driver);
        let told = self.tell_node().await;
        if told.is_err() {
            // Pods must not be given volumes of a driver that the cluster does not know to be here.
            let mut drivers = self.lock();
            match before {
                Some(before) => drivers.insert(info.name.clone(), before),
                None => drivers.remove(&info.name),
            };
        }
        told
    }
}

/// A driver's name becomes a directory's.
fn check(info: &PluginInfo) -> Result<(), String> {
    if info.r#type != "CSIPlugin" {
        return Err(format!("no handler registered for plugin type: {} at socket", info.r#type));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let name = &info.name;
    if name.len() > 63 || !name.chars().all(legal) || !edge(name.chars().next()) || !edge(name.chars().last())
    {
        return Err(format!("invalid driver name {name:?}"));
    }
    let first = |version: &String| version.trim_start_matches('v').split('.').next() == Some("1");
    if !info.supported_versions.iter().any(first) {
        return Err(format!("versions {:?} are not supported: none of them is 1.x", info.supported_versions));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_storage_drivers_of_version_1_are_welcome() {
        let info = |kind: &str, name: &str, version: &str| PluginInfo {
            r#type: kind.into(),
            name: name.into(),
            endpoint: String::new(),
            supported_versions: vec![version.into()],
        };
        check(&info("CSIPlugin", "hostpath.csi.k8s.io", "1.0.0")).unwrap();
        for wrong in [
            info("DRAPlugin", "a", "1.0.0"),
            info("CSIPlugin", "../a", "1.0.0"),
            info("CSIPlugin", "", "1.0.0"),
            info("CSIPlugin", "a", "0.3.0"),
            info("CSIPlugin", "a", "10.0"),
        ] {
            assert!(check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
