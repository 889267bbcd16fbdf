//! A disk becomes files: formatted when there is nothing on it, checked when there is, mounted for the node.

use super::{Disk, PATIENCE, blocking};
use crate::kubelet::program::{self, Ended};
use crate::kubelet::volumes::mounts;
use std::path::Path;
use std::time::Duration;

/// A large disk is formatted, or checked, for as long as it takes.
const LONG: Duration = Duration::from_secs(3600);
/// `blkid` found nothing that it knows.
const NOTHING: i32 = 2;

/// Mounts the disk at `global`, once; a second user may need what the first did not: to write.
pub(super) async fn mount(disk: &Disk, device: &str, global: &Path) -> Result<(), String> {
    let looked = global.to_path_buf();
    if blocking(move || mounts::is_mounted(&looked)).await? {
        return if disk.read_only { Ok(()) } else { make_writable(global).await };
    }
    let found = format(device).await?;
    match (&found, disk.read_only) {
        (None, true) => {
            return Err(format!(
                "cannot mount unformatted disk {device} as we are manipulating it in read-only mode"
            ));
        }
        (None, false) => make(disk, device).await?,
        (Some(_), true) => {}
        (Some(_), false) => check(device).await?,
    }
    let (global, arguments) = (global.to_path_buf(), arguments(disk, device, global));
    blocking(move || std::fs::create_dir_all(global)).await?;
    let mounted = program::succeed("mount", &arguments, PATIENCE).await;
    mounted.map(drop).map_err(|failed| {
        let why = program::mount_failure(&failed, &arguments);
        match found {
            Some(found) if found != disk.fs_type => {
                format!(
                    "failed to mount the volume as {:?}, it already contains {found}. Mount error: {why}",
                    disk.fs_type
                )
            }
            _ => why,
        }
    })
}

fn arguments(disk: &Disk, device: &str, global: &Path) -> Vec<String> {
    let read_only = disk.read_only.then(|| "ro".to_owned());
    let options: Vec<String> =
        disk.mount_options.iter().cloned().chain(read_only).chain(["defaults".to_owned()]).collect();
    let words = ["-t", &disk.fs_type, "-o", &options.join(","), device].map(str::to_owned);
    words.into_iter().chain([global.to_string_lossy().into_owned()]).collect()
}

async fn make_writable(global: &Path) -> Result<(), String> {
    let arguments = ["-o", "remount,rw", &global.to_string_lossy()].map(str::to_owned);
    let done = program::succeed("mount", &arguments, PATIENCE).await;
    done.map(drop).map_err(|failed| program::mount_failure(&failed, &arguments))
}

/// What is on the disk: a file system, or something else that must not be written over.
async fn format(device: &str) -> Result<Option<String>, String> {
    let arguments = ["-p", "-s", "TYPE", "-s", "PTTYPE", "-o", "export", device].map(str::to_owned);
    let ended = program::run("blkid", &arguments, PATIENCE).await?;
    match ended.code {
        Some(0) => Ok(Some(kind(&ended.output))),
        Some(NOTHING) => Ok(None),
        _ => Err(format!("blkid {device}: {}: {}", ended.status(), ended.output.trim())),
    }
}

fn kind(output: &str) -> String {
    let of = |name: &str| output.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    // Partitions, and their neighbour's remains.
    if of("PTTYPE=").is_some() {
        return "unknown data, probably partitions".to_owned();
    }
    of("TYPE=").unwrap_or_else(|| "unknown data".to_owned())
}

async fn make(disk: &Disk, device: &str) -> Result<(), String> {
    let options: &[&str] = match disk.fs_type.as_str() {
        "ext3" | "ext4" => &["-F", "-m0"],
        "xfs" => &["-f"],
        _ => &[],
    };
    let arguments: Vec<String> = options.iter().chain([&device]).map(|&word| word.to_owned()).collect();
    let made = program::succeed(&format!("mkfs.{}", disk.fs_type), &arguments, LONG).await;
    made.map(drop).map_err(|failed| {
        format!(
            "format of disk failed: type:({:?}) target:({device:?}) errcode:({}) output:({})",
            disk.fs_type, failed.status, failed.output
        )
    })
}

/// A machine without the program mounts what it finds.
async fn check(device: &str) -> Result<(), String> {
    match program::run("fsck", &["-a".to_owned(), device.to_owned()], LONG).await {
        Ok(Ended { code: Some(4), output }) => {
            Err(format!("'fsck' found errors on device {device} but could not correct them: {output}"))
        }
        Ok(Ended { code: Some(0 | 1), .. }) => Ok(()),
        Ok(ended) => {
            tracing::info!(device, "fsck: {}: {}", ended.status(), ended.output.trim());
            Ok(())
        }
        Err(error) => {
            tracing::info!(device, "{error}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_formatted_only_where_nothing_is_on_it() {
        assert_eq!(kind("DEVNAME=/dev/sda\nTYPE=ext4\n"), "ext4");
        assert_eq!(kind("DEVNAME=/dev/sda\nTYPE=vfat\nPTTYPE=dos\n"), "unknown data, probably partitions");
        assert_eq!(kind("DEVNAME=/dev/sda\n"), "unknown data");
    }

    #[test]
    fn mount_is_told_what_the_volume_says() {
        let disk = Disk { fs_type: "xfs".into(), mount_options: vec!["noatime".into()], ..Disk::default() };
        let written = arguments(&disk, "/dev/sda", Path::new("/g"));
        assert_eq!(written, ["-t", "xfs", "-o", "noatime,defaults", "/dev/sda", "/g"]);
        let read = Disk { read_only: true, ..disk };
        assert_eq!(arguments(&read, "/dev/sda", Path::new("/g"))[3], "noatime,ro,defaults");
    }
}
