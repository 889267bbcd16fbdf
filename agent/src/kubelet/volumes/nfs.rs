//! NFS volumes, mounted as a kubelet mounts them: by the machine's own `mount` and the helper of nfs-common that it finds.
//! A server that does not answer holds up its own pod, and for two minutes at most at a time.

use super::{Source, VolumeError, VolumeInputs, directory, mounts, source};
use crate::kubelet::{pod, program};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For one mount.
const PATIENCE: Duration = Duration::from_secs(120);

/// An exported directory.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Export<'a> {
    /// Name or address.
    pub server: &'a str,
    #[allow(missing_docs)]
    pub path: &'a str,
    #[allow(missing_docs)]
    pub read_only: bool,
    /// `mountOptions` of a persistent volume.
    pub options: &'a [String],
}

/// Mounts every NFS volume of the pod that is not mounted yet.
pub async fn mount_all(inputs: &VolumeInputs) -> Result<(), VolumeError> {
    for volume in pod::spec(&inputs.pod).volumes.iter().flatten() {
        // What cannot be told is told by those who make the rest.
        let Ok(found) = source(&inputs.pod, volume, &inputs.references) else { continue };
        let Source::Nfs { export, .. } = found else { continue };
        let target = directory(&inputs.paths, &inputs.pod, volume, &found);
        let mounted = mount(export, target).await;
        mounted.map_err(|message| VolumeError { volume: Some(volume.name.clone()), message })?;
    }
    Ok(())
}

async fn mount(export: Export<'_>, target: PathBuf) -> Result<(), String> {
    let arguments = arguments(export, &target)?;
    let looked = target.clone();
    let present = tokio::task::spawn_blocking(move || mounts::is_mounted(&looked)).await;
    if present.map_err(|error| error.to_string())?.map_err(|error| error.to_string())? {
        return Ok(());
    }
    let made = tokio::fs::create_dir_all(&target).await;
    made.map_err(|error| format!("{}: {error}", target.display()))?;
    let mounted = program::succeed("mount", &arguments, PATIENCE).await;
    if mounted.is_err() {
        // An empty directory is in nobody's way; the next attempt may find it.
        let _ = tokio::fs::remove_dir(&target).await;
    }
    mounted.map(drop).map_err(|failed| program::mount_failure(&failed, &arguments))
}

fn arguments(export: Export<'_>, target: &Path) -> Result<Vec<String>, String> {
    if export.server.starts_with('-') {
        return Err(format!("nfs.server: {:?} is an option, not a server", export.server));
    }
    let read_only = export.read_only.then(|| "ro".to_owned());
    let options: Vec<String> = export.options.iter().cloned().chain(read_only).collect();
    let is_bare_v6 = export.server.contains(':') && !export.server.starts_with('[');
    let server = if is_bare_v6 { format!("[{}]", export.server) } else { export.server.to_owned() };
    let mut arguments = vec!["-t".to_owned(), "nfs".to_owned()];
    if !options.is_empty() {
        arguments.extend(["-o".to_owned(), options.join(",")]);
    }
    arguments.extend([format!("{server}:{}", export.path), target.display().to_string()]);
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_is_told_what_the_volume_says() {
        let options = ["vers=4.2".to_owned()];
        let plain = Export { server: "s", path: "/e", read_only: false, options: &[] };
        let target = Path::new("/t");
        assert_eq!(arguments(plain, target).unwrap(), ["-t", "nfs", "s:/e", "/t"]);
        let all = Export { server: "fd00::1", read_only: true, options: &options, ..plain };
        assert_eq!(arguments(all, target).unwrap(), ["-t", "nfs", "-o", "vers=4.2,ro", "[fd00::1]:/e", "/t"]);
        let option = Export { server: "-obind", ..plain };
        assert!(arguments(option, target).unwrap_err().starts_with("nfs.server: "));
    }
}
