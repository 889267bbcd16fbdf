//! `vol_data.json`: which volume of which driver is (or may be) in a directory, written before the driver is told.

use super::places::DEVICES;
use super::volume::CsiVolume;
use serde::{Deserialize, Serialize};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "vol_data.json";
/// Where the records lie in a pod's directory: with files, with devices, and with devices of a version before.
const VOLUMES: [&str; 3] =
    ["volumes/kubernetes.io~csi", "plugins/kubernetes.io~csi", "volumeDevices/kubernetes.io~csi"];

/// What is in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) driver_name: String,
    pub(super) volume_handle: String,
    #[serde(default)]
    pub(super) spec_vol_id: String,
    #[serde(default)]
    pub(super) node_name: String,
    /// `Ephemeral` or `Persistent`.
    #[serde(default)]
    pub(super) volume_lifecycle_mode: String,
    /// Name of its VolumeAttachment; empty where none was needed.
    #[serde(default, rename = "attachmentID")]
    pub(super) attachment_id: String,
}

impl Record {
    /// Of a volume that needed no attachment.
    pub(super) fn of(volume: &CsiVolume, node: &str) -> Record {
        Record {
            driver_name: volume.driver.clone(),
            volume_handle: volume.handle.clone(),
            spec_vol_id: volume.name.clone(),
            node_name: node.to_owned(),
            volume_lifecycle_mode: if volume.inline { "Ephemeral" } else { "Persistent" }.to_owned(),
            attachment_id: String::new(),
        }
    }

    /// Makes the directory with the record in it. Blocks.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.as_file().sync_all()?;
        file.persist(directory.join(FILE)).map(drop).map_err(|error| error.error)
    }

    /// `None` where there is none. Blocks.
    pub(super) fn read(directory: &Path) -> io::Result<Option<Record>> {
        match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the record, what the driver made at `place`, and the directory; each may be gone. Blocks.
    pub(super) fn remove(directory: &Path, place: &Path) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        // The driver has unmounted it: a directory that holds something still is a volume. A device's place is a file.
        if std::fs::symlink_metadata(place).is_ok_and(|found| !found.is_dir()) {
            gone(std::fs::remove_file(place))?;
        }
        gone(std::fs::remove_dir(place))?;
        gone(std::fs::remove_file(directory.join(FILE)))?;
        gone(std::fs::remove_dir(directory))
    }
}

/// Every driver's volume in a pod's directory. Blocks.
pub(super) fn of_pod(pod_directory: &Path) -> io::Result<Vec<(PathBuf, Record)>> {
    let mut found = Vec::new();
    for volumes in VOLUMES {
        for directory in directories(&pod_directory.join(volumes))? {
            if let Some(record) = Record::read(&directory)? {
                found.push((directory, record));
            }
        }
    }
    Ok(found)
}

/// Every volume that is made ready for the node. Blocks.
pub(super) fn staged(root: &Path) -> io::Result<Vec<(PathBuf, Record)>> {
    let mut places = Vec::new();
    for driver in directories(&root.join("plugins/kubernetes.io/csi"))? {
        places.extend(directories(&driver)?);
    }
    let devices = directories(&root.join(DEVICES))?;
    places.extend(devices.into_iter().map(|directory| directory.join("data")));
    let mut found = Vec::new();
    for directory in places {
        if let Some(record) = Record::read(&directory)? {
            found.push((directory, record));
        }
    }
    Ok(found)
}

/// The directories in one; none where it is not there. Blocks.
pub(super) fn directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A link leads to what is somebody else's.
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_to_a_driver_is_known_until_it_is_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join(VOLUMES[0]).join("pv");
        let volume =
            CsiVolume { driver: "d".into(), handle: "h".into(), name: "pv".into(), ..Default::default() };
        let record = Record::of(&volume, "n");
        assert_eq!(of_pod(root.path()).unwrap(), []);
        record.write(&directory).unwrap();
        record.write(&directory).unwrap();
        assert_eq!(of_pod(root.path()).unwrap(), [(directory.clone(), record)]);
        std::fs::create_dir_all(directory.join("mount/kept")).unwrap();
        assert!(Record::remove(&directory, &directory.join("mount")).is_err(), "something is in it");
        std::fs::remove_dir(directory.join("mount/kept")).unwrap();
        Record::remove(&directory, &directory.join("mount")).unwrap();
        Record::remove(&directory, &directory.join("mount")).unwrap();
        assert!(!directory.exists());
    }
}
