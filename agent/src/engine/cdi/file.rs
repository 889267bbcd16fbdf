//! One CDI file: a vendor's devices of one class.

use super::edits::ContainerEdits;
use serde::Deserialize;
use std::path::Path;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 4 << 20;

/// The whole file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CdiFile {
    /// `vendor.com/class`
    pub(super) kind: String,
    pub(super) devices: Vec<Device>,
    /// For every container that gets any device of the file.
    pub(super) container_edits: ContainerEdits,
}

/// One device.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) container_edits: ContainerEdits,
}

/// Every file of a directory, in the order of their names. A broken one is logged and left out: it must not keep other
/// vendors' devices away.
pub(super) fn read_all(directory: &Path) -> Vec<CdiFile> {
    let mut paths: Vec<_> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read_one = |path: &std::path::PathBuf| match read(path) {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("CDI file {}: {error:#}", path.display());
            None
        }
    };
    paths.iter().filter_map(read_one).collect()
}

/// `None` for a file of another type.
fn read(path: &Path) -> anyhow::Result<Option<CdiFile>> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    if !matches!(extension, Some("json" | "yaml" | "yml")) {
        return Ok(None);
    }
    let size = std::fs::metadata(path)?.len();
    anyhow::ensure!(size <= LARGEST, "larger than {LARGEST} bytes");
    // JSON is YAML; modes are written `0640`.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    Ok(Some(serde_saphyr::from_str_with_options(&std::fs::read_to_string(path)?, options)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_yaml_are_read_and_broken_files_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("a.json", r#"{"kind": "v/a", "devices": [{"name": "0", "containerEdits": {}}]}"#);
        let nodes = "deviceNodes: [{path: /dev/x, fileMode: 0640}]";
        write(
            "b.yaml",
            &format!("kind: v/b\ndevices:\n- name: x\n  containerEdits:\n    env: [A=B]\n    {nodes}\n"),
        );
        write("broken.json", "{");
        write("notes.txt", "kind: v/c");
        let kinds: Vec<_> = read_all(directory.path()).into_iter().map(|file| file.kind).collect();
        assert_eq!(kinds, ["v/a", "v/b"]);
        assert!(read_all(Path::new("/no/such/place")).is_empty());
    }
}
