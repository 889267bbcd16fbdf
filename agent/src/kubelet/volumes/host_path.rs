//! hostPath: a path of the node itself, checked (or made) as its type says.

use std::fs::{DirBuilder, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

pub(super) fn check(given: &str, kind: &str) -> Result<(), String> {
    let path = Path::new(given);
    if !path.is_absolute() || path.components().any(|part| part.as_os_str() == "..") {
        return Err(format!("hostPath \"{}\" must be absolute and must not contain '..'", given));
    }
    let expect = |holds: fn(&Metadata) -> bool, what: &str| match std::fs::metadata(path) {
        Ok(metadata) if holds(&metadata) => Ok(()),
        _ => Err(format!("hostPath type check failed: {} is not {what}", given)),
    };
    match kind {
        // Nothing is asked of it. What is not there becomes a directory, as other engines make it for their kubelets; ours
        // refuses such a mount, as CRI has it.
        "" => match std::fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => made(path, make_directory(path)),
            _ => Ok(()),
        },
        "Directory" => expect(Metadata::is_dir, "a directory"),
        "File" => expect(Metadata::is_file, "a file"),
        "Socket" => expect(|metadata| metadata.file_type().is_socket(), "a socket file"),
        "CharDevice" => expect(|metadata| metadata.file_type().is_char_device(), "a character device"),
        "BlockDevice" => expect(|metadata| metadata.file_type().is_block_device(), "a block device"),
        "DirectoryOrCreate" => {
            made(path, make_directory(path)).and_then(|()| expect(Metadata::is_dir, "a directory"))
        }
        "FileOrCreate" => made(path, make_file(path)).and_then(|()| expect(Metadata::is_file, "a file")),
        other => Err(format!("hostPath type \"{other}\" is unknown")),
    }
}

fn made(path: &Path, result: io::Result<()>) -> Result<(), String> {
    result.map_err(|error| format!("{}: {error}", path.display()))
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

fn make_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_a_type_is_there_afterwards() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name).display().to_string();
        check(&place("a/b"), "").unwrap();
        assert!(Path::new(&place("a/b")).is_dir());
        std::fs::write(place("file"), "kept").unwrap();
        check(&place("file"), "").unwrap();
        assert_eq!(std::fs::read_to_string(place("file")).unwrap(), "kept");
        assert!(check(&place("none"), "Directory").unwrap_err().contains("is not a directory"));
        assert!(!Path::new(&place("none")).exists());
    }
}
