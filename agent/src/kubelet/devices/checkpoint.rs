//! The books on disk: one file beside the plugins' sockets, replaced as a whole.

use super::ledger::Ledger;
use std::io::{self, Write};
use std::path::Path;

const FILE: &str = "knarr_devices.json";

/// What was written last; nothing where nothing was.
pub(super) fn read(directory: &Path) -> io::Result<Ledger> {
    match std::fs::read(directory.join(FILE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ledger::default()),
        Err(error) => Err(error),
    }
}

/// Replaces it; on disk when this returns.
pub(super) fn write(directory: &Path, ledger: &Ledger) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
    temporary.write_all(&serde_json::to_vec(ledger)?)?;
    temporary.as_file().sync_all()?;
    temporary.persist(directory.join(FILE))?;
    Ok(())
}
