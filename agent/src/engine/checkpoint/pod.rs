//! Checkpoints of pods: a directory with an archive for each container, in the layout that containers' own checkpoints have,
//! and a document that says which they are. It is written last: a directory without it is no checkpoint.
//!
//! ```text
//! pod.dump        which containers there are
//! NAME.tar        the checkpoint of the container of that name
//! ```

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

const DOCUMENT: &str = "pod.dump";
/// Of the layout.
const VERSION: u32 = 1;

/// The document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PodDump {
    version: u32,
    /// Names, in the order in which the pod started them.
    pub(crate) containers: Vec<String>,
}

impl PodDump {
    pub(crate) fn of(containers: Vec<String>) -> Self {
        Self { version: VERSION, containers }
    }

    /// Whole or not at all.
    pub(crate) fn write(&self, directory: &Path) -> anyhow::Result<()> {
        let place = || format!("writing {}", directory.join(DOCUMENT).display());
        let mut file = tempfile::NamedTempFile::new_in(directory).with_context(place)?;
        file.write_all(&serde_json::to_vec_pretty(self)?).with_context(place)?;
        file.as_file().sync_all().with_context(place)?;
        file.persist(directory.join(DOCUMENT)).map(drop).with_context(place)
    }

    pub(crate) fn read(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join(DOCUMENT);
        let text = std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let dump: Self =
            serde_json::from_slice(&text).with_context(|| format!("failed to read {}", path.display()))?;
        ensure!(dump.version == VERSION, "{}: version {} is not known", path.display(), dump.version);
        for name in &dump.containers {
            ensure!(is_file_name(name), "{}: {name:?} is no name of a container", path.display());
        }
        Ok(dump)
    }
}

/// Where a container's archive is.
pub(crate) fn archive(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.tar"))
}

/// Names of containers become names of files.
pub(crate) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_leads_outside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert!(PodDump::read(path).unwrap_err().to_string().starts_with("failed to read"));
        let dump = PodDump::of(vec!["a".into(), "b".into()]);
        dump.write(path).unwrap();
        assert_eq!(PodDump::read(path).unwrap(), dump);
        for bad in ["../a", "", ".a"] {
            PodDump::of(vec![bad.into()]).write(path).unwrap();
            assert!(
                PodDump::read(path).unwrap_err().to_string().contains("no name of a container"),
                "{bad:?}"
            );
        }
        std::fs::write(path.join(DOCUMENT), r#"{"version": 2, "containers": []}"#).unwrap();
        assert!(PodDump::read(path).unwrap_err().to_string().contains("version 2"));
    }
}
