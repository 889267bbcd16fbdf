//! `iscsi.json` in a pod's directory: which disk the pod has, or may have. It is there from before the login until the
//! disk has been let go of.

use super::Disk;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

const FILE: &str = "iscsi.json";
/// Where they are in a pod's directory.
const PLACE: &str = "plugins/kubernetes.io~iscsi";

/// Where the record of one volume is.
pub(super) fn place(pod_directory: &Path, name: &str) -> PathBuf {
    pod_directory.join(PLACE).join(name)
}

/// Blocks.
pub(super) fn write(directory: &Path, disk: &Disk) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&serde_json::to_vec(disk)?)?;
    file.as_file().sync_all()?;
    file.persist(directory.join(FILE)).map(drop).map_err(|error| error.error)
}

/// The disks of a pod. Blocks.
pub(super) fn of_pod(pod_directory: &Path) -> io::Result<Vec<(PathBuf, Disk)>> {
    let mut found = Vec::new();
    for directory in directories(&pod_directory.join(PLACE))? {
        match std::fs::read(directory.join(FILE)) {
            Ok(bytes) => found.push((directory, serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The disks of all pods but those of one record. Blocks.
pub(super) fn of_others(pods: &Path, own: &Path) -> io::Result<Vec<Disk>> {
    let mut found = Vec::new();
    for pod in directories(pods)? {
        let others = of_pod(&pod)?.into_iter().filter(|(directory, _)| directory != own);
        found.extend(others.map(|(_, disk)| disk));
    }
    Ok(found)
}

/// Forgets one. Blocks.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The directories in one; none where it is not there. Blocks.
fn directories(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    entries.map(|entry| entry.map(|entry| entry.path())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_known_until_it_is_let_go_of() {
        let root = tempfile::tempdir().unwrap();
        let disk =
            |lun| Disk { target: "iqn.a:b".into(), lun, portals: vec!["h:1".into()], ..Disk::default() };
        let (first, second) = (root.path().join("one"), root.path().join("two"));
        let (one, two) = (place(&first, "v"), place(&second, "w"));
        assert_eq!(of_pod(&first).unwrap(), []);
        write(&one, &disk(1)).unwrap();
        write(&one, &disk(1)).unwrap();
        write(&two, &disk(2)).unwrap();
        assert_eq!(of_pod(&first).unwrap(), [(one.clone(), disk(1))]);
        assert_eq!(of_others(root.path(), &one).unwrap(), [disk(2)]);
        remove(&one).unwrap();
        remove(&one).unwrap();
        assert_eq!(of_pod(&first).unwrap(), []);
    }
}
