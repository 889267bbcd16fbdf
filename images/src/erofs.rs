//! A layer as one file: an EROFS image that we write while the layer streams in, mounted straight from that file.
//!
//! Creating a file costs the kernel about 25 microseconds, and a layer may have fifty thousand. Here none is
//! created: contents are appended to one file in the order in which they arrive, the tree is kept in memory, and the
//! inodes and directories follow the contents once the last entry is known.
//!
//! ```text
//! 0      nothing, then the superblock at 1024
//! 4096   contents of files, each at the start of a block of 512 bytes; holes stay holes
//! META   inodes of 64 bytes, each followed by its extended attributes
//!        blocks of directory entries, and targets of symbolic links
//! ```
//!
//! Only images written here are ever mounted: the kernel trusts the structure of what it mounts, so a foreign EROFS
//! layer is refused by its media type. Blocks are as small as in tar, since most files are small too; contiguous
//! blocks are read in one piece whatever their size.

mod image;
mod probe;
mod reader;
mod sink;
mod tree;
mod xattr;

pub(crate) use image::write;
pub(crate) use probe::mounts_from;
pub(crate) use reader::Reader;
pub(crate) use sink::ErofsSink;
pub(crate) use tree::Tree;
