//! Where a driver's volume is: for the node, and in a pod. Files and devices have places of their own, both where a
//! kubelet has them, for drivers and their operators look there.

use super::record::Record;
use super::{PLUGIN, volume};
use crate::kubelet::paths::Paths;
use crate::kubelet::volumes::Shown;
use std::io;
use std::path::{Path, PathBuf};

/// Of devices, among the places of drivers' volumes.
pub(super) const DEVICES: &str = "plugins/kubernetes.io/csi/volumeDevices";

/// The places of one volume in one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    /// Holds the record that the pod has it.
    pub(super) record: PathBuf,
    /// What the driver makes for the pod.
    pub(super) target: PathBuf,
    /// Where a device is shown.
    pub(super) shown: Option<Shown>,
    /// For the node.
    pub(super) staging: Staging,
}

/// Where a volume is made ready for all pods of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Staging {
    /// Holds the record that it is.
    pub(super) record: PathBuf,
    /// What the driver makes.
    pub(super) target: PathBuf,
}

impl Staging {
    /// Of files.
    fn of_files(root: &Path, driver: &str, handle: &str) -> Staging {
        let record = root.join("plugins/kubernetes.io/csi").join(driver).join(volume::digest(&[handle]));
        Staging { target: record.join("globalmount"), record }
    }

    fn of_device(root: &Path, name: &str) -> Staging {
        let devices = root.join(DEVICES);
        Staging { target: devices.join("staging").join(name), record: devices.join(name).join("data") }
    }

    /// Of what a record is about that was found at `directory`.
    pub(super) fn of_record(root: &Path, directory: &Path, record: &Record) -> Staging {
        match directory.starts_with(root.join(DEVICES)) {
            true => Staging::of_device(root, &record.spec_vol_id),
            false => Staging::of_files(root, &record.driver_name, &record.volume_handle),
        }
    }

    /// Forgets it; each part may be gone. Blocks.
    pub(super) fn remove(&self) -> io::Result<()> {
        Record::remove(&self.record, &self.target)?;
        // The directory of a device's name; its neighbours are not ours to remove.
        if self.record.ends_with("data")
            && let Some(parent) = self.record.parent()
        {
            let _others = std::fs::remove_dir(parent);
        }
        Ok(())
    }
}

impl Places {
    /// Of a volume with this name in the pod `uid`.
    pub(super) fn of_pod(root: &Path, paths: &Paths, uid: &str, volume: &super::CsiVolume) -> Places {
        let at_first = paths.volume_device(uid, PLUGIN, &volume.name);
        if !volume.block || at_first.join("vol_data.json").exists() {
            let place = if volume.block { at_first } else { paths.volume(uid, PLUGIN, &volume.name) };
            return Places::of_files(root, place, &volume.driver, &volume.handle);
        }
        Places::of_device(root, paths, uid, &volume.name)
    }

    /// Of what a record is about that was found at `directory` in the pod `uid`.
    pub(super) fn of_record(
        root: &Path,
        paths: &Paths,
        uid: &str,
        directory: &Path,
        record: &Record,
    ) -> Places {
        match directory == device_record(paths, uid, &record.spec_vol_id) {
            true => Places::of_device(root, paths, uid, &record.spec_vol_id),
            // A device of a version before was where files are.
            false => {
                let (driver, handle) = (&record.driver_name, &record.volume_handle);
                Places::of_files(root, directory.to_path_buf(), driver, handle)
            }
        }
    }

    fn of_files(root: &Path, place: PathBuf, driver: &str, handle: &str) -> Places {
        let staging = Staging::of_files(root, driver, handle);
        Places { target: place.join("mount"), record: place, shown: None, staging }
    }

    fn of_device(root: &Path, paths: &Paths, uid: &str, name: &str) -> Places {
        Places {
            record: device_record(paths, uid, name),
            target: root.join(DEVICES).join("publish").join(name).join(uid),
            shown: Some(Shown {
                link: paths.volume_device(uid, PLUGIN, name),
                map: root.join(DEVICES).join(name).join("dev").join(uid),
            }),
            staging: Staging::of_device(root, name),
        }
    }

    /// Shows what the driver has made. Blocks.
    pub(super) fn show(&self) -> io::Result<()> {
        self.shown.as_ref().map_or(Ok(()), |shown| shown.show(&self.target))
    }

    /// Takes that back, before the driver takes its own; each part may be gone. Blocks.
    pub(super) fn hide(&self) -> io::Result<()> {
        self.shown.as_ref().map_or(Ok(()), Shown::hide)
    }

    /// Forgets it; each part may be gone. Blocks.
    pub(super) fn remove(&self) -> io::Result<()> {
        Record::remove(&self.record, &self.target)?;
        if let (Some(_), Some(publish)) = (&self.shown, self.target.parent()) {
            // Other pods' devices are in it.
            let _others = std::fs::remove_dir(publish);
        }
        Ok(())
    }
}

/// Where it is known that a pod has a device: the place of the device itself is a link.
fn device_record(paths: &Paths, uid: &str, name: &str) -> PathBuf {
    paths.pod(uid).join("plugins").join(PLUGIN).join(name)
}

#[cfg(test)]
mod tests {
    use super::super::CsiVolume;
    use super::*;
    use std::os::unix::fs::FileTypeExt;

    fn volume(block: bool) -> CsiVolume {
        let (name, driver, handle) = ("pv".to_owned(), "d".to_owned(), "h".to_owned());
        CsiVolume { name, driver, handle, block, ..Default::default() }
    }

    #[test]
    fn files_and_devices_are_where_a_kubelet_has_them() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let paths = Paths::new(root.path(), Path::new("/logs"));
        let files = Places::of_pod(root.path(), &paths, "u", &volume(false));
        assert_eq!(files.target, at("pods/u/volumes/kubernetes.io~csi/pv/mount"));
        let named = format!("plugins/kubernetes.io/csi/d/{}/globalmount", volume::digest(&["h"]));
        assert_eq!(files.staging.target, at(&named));
        let device = Places::of_pod(root.path(), &paths, "u", &volume(true));
        assert_eq!(device.target, at("plugins/kubernetes.io/csi/volumeDevices/publish/pv/u"));
        let shown = device.shown.clone().unwrap();
        assert_eq!(shown.link, at("pods/u/volumeDevices/kubernetes.io~csi/pv"));
        assert_eq!(shown.map, at("plugins/kubernetes.io/csi/volumeDevices/pv/dev/u"));
        assert_eq!(device.staging.target, at("plugins/kubernetes.io/csi/volumeDevices/staging/pv"));
        assert_eq!(device.staging.record, at("plugins/kubernetes.io/csi/volumeDevices/pv/data"));
        let record = Record::of(&volume(true), "n");
        assert_eq!(Places::of_record(root.path(), &paths, "u", &device.record, &record), device);
        assert_eq!(Staging::of_record(root.path(), &device.staging.record, &record), device.staging);
        let record = Record::of(&volume(false), "n");
        assert_eq!(Places::of_record(root.path(), &paths, "u", &files.record, &record), files);
        assert_eq!(Staging::of_record(root.path(), &files.staging.record, &record), files.staging);
    }

    #[test]
    fn a_device_that_a_version_before_gave_stays_where_it_is() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path(), Path::new("/logs"));
        let old = paths.volume_device("u", PLUGIN, "pv");
        let record = Record::of(&volume(true), "n");
        record.write(&old).unwrap();
        let places = Places::of_pod(root.path(), &paths, "u", &volume(true));
        assert_eq!(places.target, old.join("mount"));
        assert_eq!(Places::of_record(root.path(), &paths, "u", &old, &record), places);
    }

    #[test]
    fn nothing_is_left_of_a_device() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths::new(root.path(), Path::new("/logs"));
        let places = Places::of_pod(root.path(), &paths, "u", &volume(true));
        let record = Record::of(&volume(true), "n");
        record.write(&places.record).unwrap();
        record.write(&places.staging.record).unwrap();
        std::fs::create_dir_all(places.target.parent().unwrap()).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let (device, number) = (rustix::fs::FileType::BlockDevice, rustix::fs::makedev(250, 77));
        rustix::fs::mknodat(rustix::fs::CWD, &places.target, device, mode, number).unwrap();
        places.show().unwrap();
        places.show().unwrap();
        let shown = places.shown.clone().unwrap();
        let found = |place: &Path| std::fs::metadata(place).unwrap().file_type().is_block_device();
        assert!(found(&shown.link) && found(&shown.map));
        for _ in 0..2 {
            places.hide().unwrap();
            places.remove().unwrap();
            places.staging.remove().unwrap();
        }
        let devices = root.path().join(DEVICES);
        assert_eq!(std::fs::read_dir(devices.join("publish")).unwrap().count(), 0);
        assert!(!devices.join("pv").exists());
    }
}
