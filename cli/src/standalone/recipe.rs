//! What the engine's records do not hold of a container and is needed to make it again after a reboot: what Docker's options
//! add to CRI's words.
//!
//! ```text
//! DATA_DIR/containers/PLACE/additions     written before they are applied, so no container is without
//! ```

use anyhow::{Context, bail};
use knarr_agent::engine::additions::Additions;
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

const FILE: &str = "additions";

/// Writes them down for the container in this directory.
pub(super) fn keep(directory: &Path, additions: &Additions) -> anyhow::Result<()> {
    let (file, new) = (directory.join(FILE), directory.join("additions.new"));
    let written =
        std::fs::write(&new, serde_json::to_vec(additions)?).and_then(|()| std::fs::rename(&new, &file));
    written.with_context(|| format!("write {}", file.display()))
}

/// Those of the container in this directory; an earlier knarr kept none.
pub(super) fn read(directory: &Path) -> anyhow::Result<Additions> {
    let file = directory.join(FILE);
    match std::fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{}", file.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => bail!(
            "it was made by an earlier knarr and belongs to an earlier boot of this machine: it cannot be started \
             again; `knarr commit` makes an image of what it wrote"
        ),
        Err(error) => Err(error).with_context(|| format!("read {}", file.display())),
    }
}

/// The parts of volumes that it has, by their places; an earlier knarr knew none.
pub(super) fn sub_paths(directory: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    if !directory.join(FILE).exists() {
        return Ok(BTreeMap::new());
    }
    Ok(read(directory)?.sub_paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_read() {
        let directory = tempfile::tempdir().unwrap();
        assert!(format!("{:#}", read(directory.path()).unwrap_err()).contains("an earlier knarr"));
        let additions = Additions {
            tmpfs: vec![("/t".into(), vec!["size=1m".into()])],
            limits: vec![("nofile".into(), 1, 2)],
            pids: Some(-1),
            init: true,
            ..Additions::default()
        };
        keep(directory.path(), &additions).unwrap();
        assert_eq!(read(directory.path()).unwrap(), additions);
    }
}
