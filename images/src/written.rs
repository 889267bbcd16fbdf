//! What a container wrote, as a layer archive: taken out of one snapshot, put into another.
//!
//! The archive says what is new, what is changed and, by whiteouts, what is gone, so that a snapshot of the same image to
//! which it is given shows the same files.

use crate::error::Result;
use crate::layer::compression::decompress_archive;
use crate::layer::directory::DirectorySink;
use crate::layer::inherit::inherit;
use crate::layer::limits::Limits;
use crate::layer::pack::{Packing, pack_as};
use crate::layer::unpack::unpack;
use crate::store::parts::Parts;
use std::io::{BufReader, Read, Write};
use std::path::PathBuf;

/// Writes it. `mount_points` were made by the runtime and count only if they have contents.
pub(crate) fn export(parts: &Parts, key: &str, mount_points: &[PathBuf], out: &mut dyn Write) -> Result<()> {
    let (upper, _) = parts.snapshots.writes(key)?;
    pack_as(&upper, out, Packing { overlay: true, mount_points, ..Packing::default() }).map(drop)
}

/// Reads it, plain or compressed, into a snapshot that nobody has written to and that is not mounted.
pub(crate) fn restore(parts: &Parts, key: &str, archive: &mut dyn Read) -> Result<()> {
    let (upper, parent) = parts.snapshots.writes(key)?;
    let mut sink = DirectorySink::new(&upper)?;
    let unpacked = unpack(BufReader::new(decompress_archive(archive)?), Limits::default(), &mut sink)?;
    inherit(&upper, &unpacked.implicit, &parts.layers.below(parent.as_ref())?)
}
