//! Feeds the entries of a layer to whatever holds it.

use crate::erofs::Tree;
use crate::error::{Error, Result};
use crate::layer::entry::{Entry, TreePath};
use crate::layer::limits::Limits;
use crate::layer::tar_reader::TarReader;
use std::io::BufRead;

/// Holds a layer. Entries come in the archive's order, and the last of several for one path wins.
pub(crate) trait LayerSink {
    /// Takes one entry. `content` is the file's bytes, at `position` in the archive.
    fn entry(&mut self, entry: Entry, content: &mut dyn BufRead, position: u64) -> Result<()>;

    /// Called once, after the last entry.
    fn finish(&mut self) -> Result<Unpacked>;
}

/// What came out of a layer.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// Directories that no entry described, but that entries lie in: they look as in the layer beneath.
    pub(crate) implicit: Vec<TreePath>,
    /// Some entries hide what lies beneath.
    pub(crate) whiteouts: bool,
    /// Bytes of the files.
    pub(crate) bytes: u64,
    /// Files of every kind.
    pub(crate) inodes: u64,
    /// The tree, where it is still to be written down: a one-file layer is completed once its parents are known.
    pub(crate) tree: Option<Box<Tree>>,
}

/// Unpacks a whole uncompressed stream and reads it to its end, so that its digest covers every byte.
pub(crate) fn unpack(stream: impl BufRead, limits: Limits, sink: &mut dyn LayerSink) -> Result<Unpacked> {
    let mut archive = TarReader::new(stream, limits);
    let mut held = 0u64;
    while let Some(raw) = archive.next()? {
        if let Some(entry) = Entry::judge(raw)? {
            held += entry.weight();
            if held > limits.tree {
                let message = format!("layer: names and attributes of more than {} bytes", limits.tree);
                return Err(Error::invalid(message));
            }
            let position = archive.position();
            let path = entry.path.clone();
            sink.entry(entry, &mut archive.data(), position).map_err(|error| named(error, &path))?;
        }
    }
    archive.drain()?;
    sink.finish()
}

fn named(error: Error, path: &TreePath) -> Error {
    error.context(format_args!("layer entry {path}"))
}
