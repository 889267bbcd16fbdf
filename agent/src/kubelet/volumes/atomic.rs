//! Replaces the contents of a directory at once, as the kubelet does: files live in a directory named after the
//! time, `..data` is a link to it, and each visible name is a link through `..data`. A reader sees either all old
//! files or all new ones.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// Permission bits.
    pub(super) mode: u32,
    /// The user it belongs to, where that is not root.
    pub(super) owner: Option<u32>,
}

/// By path relative to the volume.
pub(super) type Files = BTreeMap<String, File>;

const DATA: &str = "..data";

/// Makes `directory` show exactly `files` (relative paths); does nothing when it already does. With `group`, files
/// belong to it and it may read them.
pub(super) fn replace_contents(directory: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let group_bits = if group.is_some() { 0o2000 } else { 0 };
    chown(directory, None, group)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777 | group_bits))?;
    if let Some(bad) = files.keys().find(|name| !is_inside(name)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("\"{bad}\" leaves the volume")));
    }
    if shows(directory, files)? {
        return Ok(());
    }
    let old = std::fs::read_link(directory.join(DATA)).ok();
    let fresh = fresh_directory(directory, group)?;
    write_all(&directory.join(&fresh), files, group)?;
    let link = directory.join("..data_tmp");
    remove_if_there(&link)?;
    symlink(&fresh, &link)?;
    std::fs::rename(&link, directory.join(DATA))?;
    show_names(directory, files)?;
    match old {
        Some(old) => std::fs::remove_dir_all(directory.join(old)),
        None => Ok(()),
    }
}

fn is_inside(name: &str) -> bool {
    let normal = |part: Component<'_>| matches!(part, Component::Normal(name) if !name.as_encoded_bytes().starts_with(b".."));
    !name.is_empty() && Path::new(name).components().all(normal)
}

/// Whether the visible files are these, byte for byte.
fn shows(directory: &Path, files: &Files) -> io::Result<bool> {
    let data = directory.join(DATA);
    if !data.is_symlink() || visible_names(directory)? != wanted_names(files) {
        return Ok(false);
    }
    let same = |(name, file): (&String, &File)| {
        std::fs::read(data.join(name)).is_ok_and(|present| present == file.bytes)
    };
    Ok(files.iter().all(same) && count_files(&data)? == files.len())
}

fn count_files(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

/// A directory that no earlier one can be confused with.
fn fresh_directory(directory: &Path, group: Option<u32>) -> io::Result<PathBuf> {
    let name = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%9f").to_string();
    std::fs::create_dir(directory.join(&name))?;
    let mode = if group.is_some() { 0o2775 } else { 0o755 };
    chown(directory.join(&name), None, group)?;
    std::fs::set_permissions(directory.join(&name), std::fs::Permissions::from_mode(mode))?;
    Ok(name.into())
}

fn write_all(directory: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    for (name, File { bytes, mode, owner }) in files {
        let path = directory.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, bytes)?;
        let mode = if group.is_some() { mode | 0o440 } else { *mode };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode & 0o777))?;
        if group.is_some() || owner.is_some() {
            chown(&path, *owner, group)?;
        }
    }
    Ok(())
}

fn wanted_names(files: &Files) -> Vec<OsString> {
    let first =
        |name: &String| Path::new(name).components().next().map(|part| part.as_os_str().to_os_string());
    let mut names: Vec<_> = files.keys().filter_map(first).collect();
    names.sort();
    names.dedup();
    names
}

fn visible_names(directory: &Path) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !name.as_encoded_bytes().starts_with(b"..") {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn show_names(directory: &Path, files: &Files) -> io::Result<()> {
    let wanted = wanted_names(files);
    let present = visible_names(directory)?;
    for gone in present.iter().filter(|name| !wanted.contains(name)) {
        std::fs::remove_file(directory.join(gone))?;
    }
    for name in wanted.iter().filter(|name| !present.contains(name)) {
        symlink(Path::new(DATA).join(name), directory.join(name))?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File { bytes: text.as_bytes().to_vec(), mode: 0o644, owner: None };
        list.iter().map(|(name, text)| (name.to_string(), file(text))).collect()
    }

    #[test]
    fn contents_change_at_once_and_old_ones_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        replace_contents(path, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        let first = std::fs::read_link(path.join(DATA)).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("d/b")).unwrap(), "2");
        replace_contents(path, &files(&[("a", "1"), ("d/b", "2")]), None).unwrap();
        assert_eq!(std::fs::read_link(path.join(DATA)).unwrap(), first, "nothing has changed");
        replace_contents(path, &files(&[("a", "3")]), None).unwrap();
        assert_eq!(std::fs::read_to_string(path.join("a")).unwrap(), "3");
        assert!(!path.join("d").exists() && !path.join(first).exists());
    }

    #[test]
    fn names_cannot_leave_the_volume() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/x", "..data", "a/../../x", ""] {
            assert!(replace_contents(directory.path(), &files(&[(name, "")]), None).is_err(), "{name}");
        }
    }
}
