//! How much a layer may ask of the machine.

use crate::error::{Error, Result};

/// Bounds on one layer. Each is far above any real image and far below what hurts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of all PAX and GNU extension headers before one entry, and of all global ones; they are held in memory.
    pub(crate) metadata: u64,
    /// Bytes of the names and attributes of all entries: a tree is held in memory until it is written down.
    pub(crate) tree: u64,
    /// Entries of the archive.
    pub(crate) entries: u64,
    /// Bytes of the uncompressed archive.
    pub(crate) bytes: u64,
    /// Uncompressed bytes per compressed byte, counted once a layer is larger than `ratio_from`: an archive of
    /// zeros shrinks 1000 times, and a few megabytes of it must not fill the disk.
    pub(crate) ratio: u64,
    pub(crate) ratio_from: u64,
    /// Parts of one sparse file.
    pub(crate) sparse_parts: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            metadata: 1 << 20,
            tree: 256 << 20,
            entries: 4_000_000,
            bytes: 256 << 30,
            ratio: 200,
            ratio_from: 1 << 30,
            sparse_parts: 65_536,
        }
    }
}

impl Limits {
    /// Fails as soon as a layer has become too large for what was downloaded of it.
    pub(crate) fn check_expansion(&self, compressed: u64, uncompressed: u64) -> Result<()> {
        if uncompressed > self.bytes {
            return Err(Error::invalid(format!("layer: larger than {} bytes uncompressed", self.bytes)));
        }
        if uncompressed > self.ratio_from && uncompressed / compressed.max(1) > self.ratio {
            let message = format!(
                "layer: {compressed} bytes expand to more than {uncompressed} (limit: {} times)",
                self.ratio
            );
            return Err(Error::invalid(message));
        }
        Ok(())
    }
}

/// Fails when what is left of the file system drops below a small reserve: the rest of the node must go on working
/// when an image does not fit.
pub(crate) fn check_free_space(on: impl std::os::fd::AsFd) -> Result<()> {
    let fs = rustix::fs::fstatvfs(on).map_err(|e| Error::io("fstatvfs of the image store", e))?;
    let reserve = (fs.f_blocks / 100).min((64 << 20) / fs.f_frsize.max(1));
    if fs.f_bavail < reserve {
        let kept = "the last percent of the file system is kept free";
        return Err(Error::io(kept, rustix::io::Errno::NOSPC));
    }
    Ok(())
}
