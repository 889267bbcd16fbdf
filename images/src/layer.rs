//! A layer: a tar stream, perhaps compressed, that says how one directory tree differs from the one beneath it.
//!
//! `compression` undoes the compression, `tar_reader` finds the entries, `entry` makes sense of them, and a sink
//! (`directory`, or the EROFS writer) holds the result. Everything that reads is a pull parser over `Read`:
//! nothing is buffered whole, every size is bounded by `Limits`, and the archive decides about no path outside
//! its own root.

pub(crate) mod ahead;
#[cfg(test)]
pub(crate) mod archive_builder;
pub(crate) mod checked;
pub(crate) mod compression;
pub(crate) mod directory;
pub(crate) mod entry;
pub(crate) mod expansion;
pub(crate) mod idle_whiteouts;
pub(crate) mod inherit;
pub(crate) mod limits;
pub(crate) mod pack;
pub(crate) mod pax;
pub(crate) mod removal;
pub(crate) mod tar_reader;
pub(crate) mod unpack;
pub(crate) mod whiteout;
pub(crate) mod writeback;
