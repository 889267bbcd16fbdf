//! Files of a root file system for those who copy them in and out (`knarr cp`, `export`, new volumes).
//!
//! The root may be a running container's, whose processes can change any part of it meanwhile: every path is resolved
//! beneath the root by the kernel, and what was found is used by descriptor.

use crate::build::copy::{Copier, Look};
use crate::build::ignore::Ignore;
use crate::build::tree::{Named, Tree};
use crate::build::workspace::with_workspace;
use crate::error::{Error, Result};
use crate::layer::compression::decompress_archive;
use crate::layer::directory::DirectorySink;
use crate::layer::entry::TreePath;
use crate::layer::inherit::inherit;
use crate::layer::limits::Limits;
use crate::layer::pack::{Packing, pack_as};
use crate::layer::unpack::unpack;
use crate::store::parts::Parts;
use std::io::{BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What lies at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A directory.
    Directory,
    /// Anything else: a file, a device, a link that was not followed.
    Other,
}

/// One root.
#[derive(Debug)]
pub struct Files {
    root: PathBuf,
    tree: Tree,
}

impl Files {
    /// Opens a root file system (or any directory, as if it were one).
    pub fn open(root: &Path) -> Result<Self> {
        Ok(Self { root: root.to_owned(), tree: Tree::open(root, Ignore::default())? })
    }

    /// What lies at a path, links followed or, where it is a link itself, not.
    pub fn kind(&self, path: &Path, follow: bool) -> Result<Option<FileKind>> {
        let found = self.tree.exactly(&clean(path), follow, false)?;
        Ok(found.map(|named| if named.is_dir() { FileKind::Directory } else { FileKind::Other }))
    }

    /// Copies a file, or the contents of a directory, to a path of another root. With an owner, everything is his.
    pub fn copy(
        &self,
        source: &Path,
        follow: bool,
        target: &Files,
        path: &Path,
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        let look = Look { owner, top: true, refuse_dangling: true, ..Look::default() };
        self.copy_as(source, follow, target, path, look)
    }

    fn copy_as(&self, source: &Path, follow: bool, target: &Files, path: &Path, look: Look) -> Result<()> {
        let named = self.expect(source, follow)?;
        let mut copier = Copier::new(&target.root, look)?;
        copier.copy(&self.tree, &named.files, &clean(path))?;
        copier.finish()
    }

    /// Where a path leads once every link on it is followed, also where nothing lies yet.
    pub fn destination(&self, path: &Path) -> Result<PathBuf> {
        let found = Copier::new(&self.root, Look::default())?.destination(&clean(path))?;
        Ok(Path::new("/").join(std::ffi::OsStr::from_bytes(found.as_bytes())))
    }

    /// Writes a file, or a directory with everything in it, as a tar archive in which it has this name.
    pub fn write_tar(&self, source: &Path, follow: bool, name: &str, out: &mut dyn Write) -> Result<()> {
        let named = self.expect(source, follow)?;
        let aside = tempfile::tempdir().map_err(|e| Error::io("temporary directory", e))?;
        let mut copier =
            Copier::new(aside.path(), Look { top: true, refuse_dangling: true, ..Look::default() })?;
        copier.copy(&self.tree, &named.files, &TreePath::clean(name.as_bytes()))?;
        copier.finish()?;
        pack_as(aside.path(), out, Packing { rootless: true, ..Packing::default() }).map(drop)
    }

    /// Unpacks a tar archive, plain or compressed, into a directory.
    pub fn read_tar(&self, path: &Path, archive: &mut dyn Read, owner: Option<(u32, u32)>) -> Result<()> {
        let aside = tempfile::tempdir().map_err(|e| Error::io("temporary directory", e))?;
        let mut sink = DirectorySink::new(aside.path())?;
        let unpacked = unpack(BufReader::new(decompress_archive(archive)?), Limits::default(), &mut sink)?;
        inherit(aside.path(), &unpacked.implicit, &[])?;
        let through = unpacked.implicit.into_iter().collect();
        let look = Look { owner, top: true, refuse_dangling: true, through, ..Look::default() };
        Files::open(aside.path())?.copy_as(Path::new("/"), false, self, path, look)
    }

    /// Unpacks a tar archive, plain or compressed, to the root, which must be an empty directory.
    pub fn import(&self, archive: &mut dyn Read) -> Result<()> {
        let mut sink = DirectorySink::new(&self.root)?;
        let unpacked = unpack(BufReader::new(decompress_archive(archive)?), Limits::default(), &mut sink)?;
        inherit(&self.root, &unpacked.implicit, &[])
    }

    /// Writes the whole root as a tar archive; the mounts in it are left out.
    pub fn export(&self, out: &mut dyn Write) -> Result<()> {
        pack_as(&self.root, out, Packing { rootless: true, one_file_system: true, ..Packing::default() })
            .map(drop)
    }

    /// Writes everything to a directory of this machine.
    pub fn export_to(&self, directory: &Path) -> Result<()> {
        self.copy(Path::new("/"), false, &Files::open(directory)?, Path::new("/"), None)
    }

    fn expect(&self, source: &Path, follow: bool) -> Result<Named> {
        let missing = || Error::invalid(format!("{}: no such file or directory", source.display()));
        self.tree.exactly(&clean(source), follow, true)?.ok_or_else(missing)
    }
}

/// Shows the files of an image, mounted where nobody else sees them.
pub(crate) fn with_image<T: Send>(
    parts: &Parts,
    image: &str,
    look: impl FnOnce(&Files) -> Result<T> + Send,
) -> Result<T> {
    let catalog = parts.catalog.read()?;
    let (id, record) = catalog.expect(image)?;
    let _kept = parts.leases.take(record.content().chain(&record.chain).chain([id]))?;
    with_workspace(parts, record.top(), |workspace| look(&Files::open(&workspace.root())?))
}

fn clean(path: &Path) -> TreePath {
    TreePath::clean(path.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn files_go_in_and_out_and_never_elsewhere() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(inside.path().join("d/sub")).unwrap();
        std::fs::write(inside.path().join("d/sub/f"), "x").unwrap();
        symlink("/d/sub/f", inside.path().join("link")).unwrap();
        symlink(outside.path(), inside.path().join("escape")).unwrap();
        let (files, host) = (Files::open(inside.path()).unwrap(), Files::open(outside.path()).unwrap());
        let path = Path::new;
        assert_eq!(files.kind(path("/d"), false).unwrap(), Some(FileKind::Directory));
        assert_eq!(files.kind(path("/link"), false).unwrap(), Some(FileKind::Other));
        assert_eq!(files.kind(path("/none"), false).unwrap(), None);
        files.copy(path("/d"), false, &host, path("copy"), None).unwrap();
        assert_eq!(std::fs::read(outside.path().join("copy/sub/f")).unwrap(), b"x");
        files.copy(path("/link"), true, &host, path("followed"), None).unwrap();
        assert!(std::fs::symlink_metadata(outside.path().join("followed")).unwrap().is_file());
        files.copy(path("/link"), false, &host, path("kept"), None).unwrap();
        assert!(std::fs::symlink_metadata(outside.path().join("kept")).unwrap().is_symlink());
        let before = std::fs::read_dir(outside.path()).unwrap().count();
        assert!(host.copy(path("followed"), false, &files, path("/escape/f"), None).is_err());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), before);
    }

    #[test]
    fn a_stream_is_a_tar_archive() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(from.path().join("d")).unwrap();
        std::fs::write(from.path().join("d/f"), "x").unwrap();
        let mut archive = Vec::new();
        let files = Files::open(from.path()).unwrap();
        files.write_tar(Path::new("/d"), false, "renamed", &mut archive).unwrap();
        let target = Files::open(to.path()).unwrap();
        target.read_tar(Path::new("/"), &mut &archive[..], None).unwrap();
        assert_eq!(std::fs::read(to.path().join("renamed/f")).unwrap(), b"x");
        // What the archive describes lands on no link; what only lies on the way goes through it.
        std::fs::rename(to.path().join("renamed"), to.path().join("real")).unwrap();
        symlink("real", to.path().join("renamed")).unwrap();
        let refused = target.read_tar(Path::new("/"), &mut &archive[..], None).unwrap_err().to_string();
        assert!(refused.contains("cannot overwrite non-directory \"/renamed\" with directory"), "{refused}");
        let mut archive = Vec::new();
        files.write_tar(Path::new("/d/f"), false, "renamed/g", &mut archive).unwrap();
        let (mut described, mut bare) = (tar::Archive::new(&archive[..]), tar::Builder::new(Vec::new()));
        for entry in described.entries().unwrap().map(std::result::Result::unwrap) {
            if entry.header().entry_type().is_file() {
                bare.append(&entry.header().clone(), entry).unwrap();
            }
        }
        target.read_tar(Path::new("/"), &mut &bare.into_inner().unwrap()[..], None).unwrap();
        assert_eq!(std::fs::read(to.path().join("real/g")).unwrap(), b"x");
        assert!(to.path().join("renamed").is_symlink());
        assert_eq!(target.destination(Path::new("/renamed/new")).unwrap(), Path::new("/real/new"));
    }
}
