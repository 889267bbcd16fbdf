//! A place to execute one step: the layers so far under a directory for new files, mounted where nobody else sees it.
//!
//! Each workspace has a thread with a mount namespace of its own, so a build that is killed leaves no mount behind;
//! its directory carries a lock, by which the next start of the store knows that its owner is dead.

use crate::build::tree::Tree;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::import::{adopt, compress};
use crate::install::install_stored;
use crate::layer::directory::open_in_root;
use crate::layer::entry::TreePath;
use crate::layer::inherit::{Below, has_opaque, lookup};
use crate::layer::pack::{Packed, Packing, pack_as};
use crate::layer::removal::remove_path;
use crate::lock::FileLock;
use crate::manifest::LayerPlan;
use crate::mount::Mount;
use crate::options::LayerKind;
use crate::snapshot::overlay::{UPPER, fill, read_only, writable};
use crate::store::parts::Parts;
use knarr_sys::namespace::{Kind, unshare};
use rustix::fs::{Mode, OFlags};
use rustix::mount::MountPropagationFlags;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A mounted root file system and what was written to it.
#[derive(Debug)]
pub(crate) struct Workspace<'a> {
    parts: &'a Parts,
    pub(crate) id: String,
    directory: PathBuf,
    lower: Vec<PathBuf>,
    views: AtomicU64,
    lock: Option<FileLock>,
}

/// The place of the merged tree in a workspace.
const ROOT: &str = "root";
/// Overlay's own bookkeeping stays out of layers, and nothing here must survive a power cut.
const OPTIONS: [&str; 3] = ["redirect_dir=off", "metacopy=off", "volatile"];

/// Runs `act` with the layers up to `top` mounted, on a thread of its own.
pub(crate) fn with_workspace<T: Send>(
    parts: &Parts,
    top: Option<&Digest>,
    act: impl FnOnce(&Workspace<'_>) -> Result<T> + Send,
) -> Result<T> {
    if parts.options.layers == LayerKind::Copy {
        return Err(Error::unsupported("building without overlayfs"));
    }
    let work = || {
        unshare(Kind::Mount.clone_flag()).map_err(|e| Error::io("private mounts", e))?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|e| Error::io("private mounts", e))?;
        let workspace = Workspace::make(parts, top)?;
        let result = act(&workspace);
        workspace.unmount()?;
        result
    };
    std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, work) {
        Ok(thread) => thread.join().unwrap_or_else(|_| Err(Error::invalid("a build thread panicked"))),
        Err(error) => Err(Error::io("start a thread", error)),
    })
}

impl<'a> Workspace<'a> {
    fn make(parts: &'a Parts, top: Option<&Digest>) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("build-{}-{number}", std::process::id());
        let directory = parts.root.join("staging").join(&id);
        let lock = parts.without_collector(|| FileLock::exclusive(&directory.with_extension("lock")))?;
        remove_path(&directory)?;
        let views = AtomicU64::new(0);
        let mut workspace = Self { parts, id, directory, lower: Vec::new(), views, lock: Some(lock) };
        workspace.mkdir(ROOT)?;
        let lower = parts.layers.roots(top)?;
        fill(&workspace.directory, &lower)?;
        workspace.mount(&lower)?;
        workspace.lower = lower;
        Ok(workspace)
    }

    fn mount(&self, lower: &[PathBuf]) -> Result<()> {
        let invalid = |error: &Error| error.errno() == Some(rustix::io::Errno::INVAL.raw_os_error());
        match writable(lower, &self.directory, &OPTIONS).mount_at(&self.root()) {
            // A kernel that does not know one of them does not do it either.
            Err(error) if invalid(&error) => writable(lower, &self.directory, &[]).mount_at(&self.root()),
            result => result,
        }
    }

    /// The merged tree.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join(ROOT)
    }

    /// A new empty directory.
    pub(crate) fn mkdir(&self, name: &str) -> Result<PathBuf> {
        let path = self.directory.join(name);
        std::fs::create_dir_all(&path).map_err(|e| Error::path("mkdir", &path, e))?;
        Ok(path)
    }

    /// A new empty directory with a number for a name.
    pub(crate) fn place(&self) -> Result<PathBuf> {
        self.mkdir(&format!("view-{}", self.views.fetch_add(1, Ordering::Relaxed)))
    }

    /// A read-only look at other layers, seen in this workspace only.
    pub(crate) fn view(&self, top: Option<&Digest>) -> Result<PathBuf> {
        let place = self.place()?;
        let lower = self.parts.layers.roots(top)?;
        if !lower.is_empty() {
            read_only(&lower).mount_at(&place)?;
        }
        Ok(place)
    }

    /// A writable look at a tree whose changes are forgotten.
    pub(crate) fn scribble(&self, source: &Path) -> Result<PathBuf> {
        let (place, writes) = (self.place()?, self.place()?);
        let lower = [source.to_owned()];
        fill(&writes, &lower)?;
        writable(&lower, &writes, &[]).mount_at(&place)?;
        Ok(place)
    }

    /// A directory in memory.
    pub(crate) fn memory(&self) -> Result<PathBuf> {
        let place = self.place()?;
        let options = vec!["mode=0700".to_owned(), "size=16m".to_owned()];
        Mount { fs_type: "tmpfs".to_owned(), source: "tmpfs".to_owned(), options }.mount_at(&place)?;
        Ok(place)
    }

    /// A tree of the merged root, for those who look into it.
    pub(crate) fn tree(&self) -> Result<Tree> {
        Tree::open(&self.root(), Default::default())
    }

    /// What was written becomes a layer on top of `below`; none where nothing was. `keep` protects it from the
    /// collector, just before it is stored.
    pub(crate) fn commit(
        &self,
        below: Option<&LayerPlan>,
        clamp: Option<i64>,
        keep: &dyn Fn(&LayerPlan) -> Result<()>,
    ) -> Result<Option<(LayerPlan, i64)>> {
        let upper = self.directory.join(UPPER);
        Mount::unmount(&self.root())?;
        let below_dirs = self.lower.iter().map(|path| Below::directory(path)).collect::<Result<Vec<_>>>()?;
        forget_untouched(&upper, &below_dirs)?;
        let packing = Packing { overlay: true, clamp, ..Packing::default() };
        let mut packed = Packed::default();
        let (file, blob, diff_id) = compress(self.parts, |out| {
            packed = pack_as(&upper, out, packing)?;
            Ok(())
        })?;
        if packed.entries == 0 {
            return Ok(None);
        }
        let layer = crate::build::config::next_layer(below, blob, diff_id);
        keep(&layer)?;
        adopt(self.parts, file, &layer.blob)?;
        install_stored(self.parts, &layer)?;
        Ok(Some((layer, packed.newest)))
    }

    /// Takes the mounts off: they would go with the namespace too, but only when its last file is closed.
    fn unmount(&self) -> Result<()> {
        for number in 0..self.views.load(Ordering::Relaxed) {
            Mount::unmount(&self.directory.join(format!("view-{number}")))?;
        }
        Mount::unmount(&self.root())
    }
}

impl Drop for Workspace<'_> {
    fn drop(&mut self) {
        // An error here leaves files behind that the next start sweeps.
        let _ = self.unmount();
        let _ = remove_path(&self.directory);
        if let Some(lock) = self.lock.take() {
            let _ = lock.remove();
        }
    }
}

/// Directories that were copied up without being changed say nothing and go. Deepest first; a directory keeps its
/// time when one beneath it goes.
fn forget_untouched(upper: &Path, below: &[Below]) -> Result<()> {
    if below.is_empty() {
        return Ok(());
    }
    let root = open(upper)?;
    let mut directories = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let here = upper.join(&path);
        for entry in std::fs::read_dir(&here).map_err(|e| Error::path("readdir", &here, e))? {
            let entry = entry.map_err(|e| Error::path("readdir", &here, e))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pending.push(path.join(entry.file_name()));
                directories.push(path.join(entry.file_name()));
            }
        }
    }
    directories.sort();
    directories.iter().rev().try_for_each(|path| forget_if_untouched(&root, upper, path, below))
}

fn forget_if_untouched(root: &rustix::fd::OwnedFd, upper: &Path, path: &Path, below: &[Below]) -> Result<()> {
    let (full, tree_path) = (upper.join(path), TreePath::clean(path.as_os_str().as_bytes()));
    let failed = |e: std::io::Error| Error::path("look at", &full, e);
    if std::fs::read_dir(&full).map_err(failed)?.next().is_some() {
        return Ok(());
    }
    let dir =
        open_in_root(root, &tree_path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| failed(e.into()))?;
    let now = crate::layer::inherit::meta_of(&dir)?;
    let same = lookup(below, &tree_path)?.is_some_and(|old| {
        (old.mode, old.uid, old.gid, old.mtime.0) == (now.mode, now.uid, now.gid, now.mtime.0)
            && old.xattrs == now.xattrs
    });
    if !same || has_opaque(&dir) {
        return Ok(());
    }
    let parent = full.parent().unwrap_or(upper);
    let modified = std::fs::metadata(parent).and_then(|meta| meta.modified()).map_err(failed)?;
    std::fs::remove_dir(&full).map_err(failed)?;
    let handle = std::fs::File::open(parent).map_err(failed)?;
    handle.set_modified(modified).map_err(failed)
}

fn open(path: &Path) -> Result<rustix::fd::OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|e| Error::path("open", path, e))
}
