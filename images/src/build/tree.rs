//! A directory that a build takes files from: the context (without what `.dockerignore` hides), or the root file
//! system of a stage or image.
//!
//! Every path is resolved by the kernel beneath the directory (`openat2`): a link that leads out of it ends at its
//! own root, as in a container. What is found is listed once, sorted, and both the cache key and the copy are made
//! from this list.

use crate::build::glob;
use crate::build::ignore::Ignore;
use crate::digest::{Digest, Hasher};
use crate::error::{Error, Result};
use crate::layer::entry::TreePath;
use crate::scoped_open::scoped_open;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

/// A tree and what is hidden in it.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    ignore: Ignore,
}

/// What a source names: the path by which it was found, and what lies there, links followed.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) path: TreePath,
    pub(crate) files: Vec<Found>,
}

impl Named {
    pub(crate) fn is_dir(&self) -> bool {
        self.files.first().is_some_and(Found::is_dir)
    }
}

/// One file of a tree.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) path: TreePath,
    pub(crate) stat: Stat,
}

impl Found {
    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind() == FileType::Directory
    }
}

impl Tree {
    pub(crate) fn open(root: &Path, ignore: Ignore) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|e| Error::path("open", root, e))?;
        Ok(Self { root, ignore })
    }

    pub(crate) fn hides_anything(&self) -> bool {
        !self.ignore.is_empty()
    }

    /// The files that a source names: one, or as many as a pattern matches; links followed. Each with everything in
    /// it. What is hidden does not exist.
    pub(crate) fn find(&self, source: &str, exclude: &Ignore) -> Result<Vec<Named>> {
        self.find_as(source, exclude, false)
    }

    /// The same, where `**` may stand for any number of directories (`COPY --parents`).
    pub(crate) fn find_as(&self, source: &str, exclude: &Ignore, deep: bool) -> Result<Vec<Named>> {
        let mut named = vec![TreePath::default()];
        for part in TreePath::clean(source.as_bytes()).parts() {
            named = if deep && part == b"**" { self.all_below(named)? } else { self.step(named, part)? };
        }
        let mut found = Vec::new();
        for path in named {
            let Some(real) = self.resolve(&path)? else { continue };
            if self.ignore.hides(&path) && !self.ignore.may_keep_inside() {
                continue;
            }
            let files = self.walk(&real, exclude)?;
            if !files.is_empty() {
                found.push(Named { path, files });
            }
        }
        // A pattern may match nothing, a name must be there.
        if found.is_empty() && !glob::is_pattern(source.as_bytes()) {
            return Err(Error::invalid(format!("\"/{}\": not found", source.trim_start_matches('/'))));
        }
        Ok(found)
    }

    /// What lies at a path, taken literally; a link that is its last part is followed only if asked to. With
    /// everything in it, or alone.
    pub(crate) fn exactly(&self, path: &TreePath, follow: bool, whole: bool) -> Result<Option<Named>> {
        let real = match path.split() {
            Some((above, name)) if !follow => self.resolve(&above)?.map(|above| above.join(name)),
            _ => self.resolve(path)?,
        };
        let Some(real) = real else { return Ok(None) };
        let files = match self.look(&real) {
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) if whole => self.walk(&real, &Ignore::default())?,
            Ok(file) => vec![file],
        };
        Ok(Some(Named { path: path.clone(), files }))
    }

    /// What lies at a path whose parents are all directories and no links.
    pub(crate) fn there(&self, path: &TreePath) -> Result<Option<Found>> {
        match self.look(path) {
            Err(error) if is_missing(&error) => Ok(None),
            result => result.map(Some),
        }
    }

    /// Every directory in these, themselves included; links are not followed.
    fn all_below(&self, above: Vec<TreePath>) -> Result<Vec<TreePath>> {
        let mut all = Vec::new();
        let mut pending: Vec<TreePath> = above.into_iter().rev().collect();
        while let Some(path) = pending.pop() {
            for name in self.names(&path)?.iter().rev() {
                let below = path.join(name);
                if self.there(&below)?.is_some_and(|found| found.is_dir()) {
                    pending.push(below);
                }
            }
            all.push(path);
        }
        Ok(all)
    }

    /// One part of a pattern further down.
    fn step(&self, above: Vec<TreePath>, part: &[u8]) -> Result<Vec<TreePath>> {
        if !glob::is_pattern(part) {
            return Ok(above.iter().map(|path| path.join(part)).collect());
        }
        let mut below = Vec::new();
        for path in above {
            for name in self.names(&path)? {
                if glob::matches_path(part, &name) {
                    below.push(path.join(&name));
                }
            }
        }
        Ok(below)
    }

    /// Names in a directory, sorted; none where it is no directory.
    fn names(&self, path: &TreePath) -> Result<Vec<Vec<u8>>> {
        let failed = |e| Error::io(format_args!("readdir {path}"), e);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = match self.open_at(path, flags, ResolveFlags::IN_ROOT) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut names = Vec::new();
        for entry in Dir::read_from(dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open_at(&self, path: &TreePath, flags: OFlags, resolve: ResolveFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = resolve | ResolveFlags::NO_MAGICLINKS;
        scoped_open(&self.root, path.as_bytes(), flags, resolve)
    }

    /// Where a path really is, links followed inside the tree.
    fn resolve(&self, path: &TreePath) -> Result<Option<TreePath>> {
        let failed = |e| Error::io(format_args!("open {path}"), e);
        let fd = match self.open_at(path, OFlags::PATH, ResolveFlags::IN_ROOT) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP) => {
                return Err(Error::invalid(format!("{path}: too many levels of symbolic links")));
            }
            other => other.map_err(failed)?,
        };
        let place = |fd: &OwnedFd| {
            rustix::fs::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()), Vec::new()).map_err(failed)
        };
        let (root, real) = (place(&self.root)?, place(&fd)?);
        let inside =
            real.as_bytes().strip_prefix(root.as_bytes().strip_suffix(b"/").unwrap_or(root.as_bytes()));
        Ok(inside.map(TreePath::clean))
    }

    /// A file and everything in it, without what is hidden or excluded. Paths of exclusions begin at the file.
    fn walk(&self, start: &TreePath, exclude: &Ignore) -> Result<Vec<Found>> {
        let mut found: Vec<(Found, bool)> = Vec::new();
        let mut pending = vec![start.clone()];
        while let Some(path) = pending.pop() {
            let file = self.look(&path)?;
            let within = relative(start, &path);
            let excluded = match path.split() {
                Some((_, name)) if within.is_root() && !file.is_dir() => {
                    exclude.hides(&TreePath::clean(name))
                }
                _ => exclude.hides(&within),
            };
            let hidden = self.ignore.hides(&path) || excluded;
            if file.is_dir() && (!hidden || self.ignore.may_keep_inside() || exclude.may_keep_inside()) {
                pending.extend(self.names(&path)?.iter().rev().map(|name| path.join(name)));
            }
            found.push((file, hidden));
        }
        Ok(without_hidden(found))
    }

    fn look(&self, path: &TreePath) -> Result<Found> {
        let failed = |e| Error::io(format_args!("open {path}"), e);
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        // A link itself can be opened only where its name is the last part: NO_SYMLINKS would refuse it.
        let fd = match path.split() {
            Some((above, name)) => {
                let dir = self.open_at(&above, OFlags::PATH | OFlags::DIRECTORY, resolve).map_err(failed)?;
                rustix::fs::openat(dir, name, flags | OFlags::CLOEXEC, Mode::empty())
            }
            None => self.open_at(path, flags, resolve),
        };
        let stat = rustix::fs::fstat(fd.map_err(failed)?).map_err(failed)?;
        Ok(Found { path: path.clone(), stat })
    }

    /// Opens a file for reading.
    pub(crate) fn file(&self, path: &TreePath) -> Result<File> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::RDONLY | OFlags::NOCTTY | OFlags::NONBLOCK;
        self.open_at(path, flags, resolve)
            .map(File::from)
            .map_err(|e| Error::io(format_args!("open {path}"), e))
    }

    pub(crate) fn link(&self, path: &TreePath) -> Result<Vec<u8>> {
        let failed = |e| Error::io(format_args!("readlink {path}"), e);
        let (above, name) = path.split().ok_or_else(|| Error::invalid("the root is no link"))?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let dir = self.open_at(&above, OFlags::PATH | OFlags::DIRECTORY, resolve).map_err(failed)?;
        Ok(rustix::fs::readlinkat(dir, name, Vec::new()).map_err(failed)?.into_bytes())
    }

    /// What a copy of these files would look like, times aside: two lists with one digest give the same copy.
    pub(crate) fn digest(&self, found: &Named, with_owner: bool) -> Result<Digest> {
        let mut hasher = Hasher::default();
        let Some(first) = found.files.first() else { return Ok(hasher.finish()) };
        let name = found.path.split().map(|(_, name)| name.to_vec()).unwrap_or_default();
        field(&mut hasher, if first.is_dir() { b"" } else { &name });
        for file in &found.files {
            let stat = &file.stat;
            field(&mut hasher, relative(&first.path, &file.path).as_bytes());
            let owner = if with_owner { (stat.st_uid, stat.st_gid) } else { (0, 0) };
            field(&mut hasher, format!("{} {owner:?} {}", stat.st_mode, stat.st_rdev).as_bytes());
            match file.kind() {
                FileType::RegularFile => self.hash_content(&mut hasher, file)?,
                FileType::Symlink => field(&mut hasher, &self.link(&file.path)?),
                _ => {}
            }
        }
        Ok(hasher.finish())
    }

    fn hash_content(&self, hasher: &mut Hasher, found: &Found) -> Result<()> {
        let mut file = self.file(&found.path)?;
        let mut content = Hasher::default();
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count =
                file.read(&mut buffer).map_err(|e| Error::io(format_args!("read {}", found.path), e))?;
            if count == 0 {
                break;
            }
            content.update(buffer.get(..count).unwrap_or_default());
        }
        field(hasher, content.finish().as_str().as_bytes());
        Ok(())
    }
}

fn is_missing(error: &Error) -> bool {
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|errno| error.errno() == Some(errno.raw_os_error()))
}

/// Hidden directories stay where something in them is seen.
fn without_hidden(found: Vec<(Found, bool)>) -> Vec<Found> {
    let mut kept: Vec<Found> = Vec::new();
    for (file, hidden) in found.into_iter().rev() {
        let needed = kept.last().is_some_and(|next| next.path.is_within(&file.path));
        if !hidden || (file.is_dir() && needed) {
            kept.push(file);
        }
    }
    kept.reverse();
    kept
}

/// The path of a file seen from a directory above it.
pub(crate) fn relative(start: &TreePath, path: &TreePath) -> TreePath {
    if start.is_root() {
        return path.clone();
    }
    TreePath::clean(path.as_bytes().strip_prefix(start.as_bytes()).unwrap_or(b"."))
}

/// A field whose length is hashed too, so that two fields never look like other two.
pub(crate) fn field(hasher: &mut Hasher, bytes: &[u8]) {
    hasher.update(&(bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn tree(ignore: &str) -> (tempfile::TempDir, Tree) {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/b", "c"] {
            std::fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        for path in ["a/one.txt", "a/b/two.txt", "c/three.md", "top.txt"] {
            std::fs::write(dir.path().join(path), path).unwrap();
        }
        symlink("/top.txt", dir.path().join("c/link")).unwrap();
        symlink("../../../../../etc/passwd", dir.path().join("out")).unwrap();
        let tree = Tree::open(dir.path(), Ignore::parse(ignore)).unwrap();
        (dir, tree)
    }

    fn paths(tree: &Tree, source: &str) -> Vec<String> {
        let found = tree.find(source, &Ignore::default()).unwrap();
        found.into_iter().flat_map(|named| named.files).map(|file| file.path.to_string()).collect()
    }

    #[test]
    fn finds_what_is_named() {
        let (_dir, tree) = tree("");
        assert_eq!(paths(&tree, "a"), ["/a", "/a/b", "/a/b/two.txt", "/a/one.txt"]);
        assert_eq!(paths(&tree, "*/*.txt"), ["/a/one.txt"]);
        assert_eq!(paths(&tree, "../c/l*"), ["/top.txt"], "a link leads to what it names, inside");
        let error = tree.find("out", &Ignore::default()).unwrap_err().to_string();
        assert_eq!(error, "\"/out\": not found");
    }

    #[test]
    fn what_is_hidden_is_not_there() {
        let (_dir, tree) = tree("a/*\n!a/b\nc");
        assert_eq!(paths(&tree, "."), ["/", "/a", "/a/b", "/a/b/two.txt", "/out", "/top.txt"]);
        assert!(tree.find("a/one.txt", &Ignore::default()).is_err());
        let exclude = Ignore::of(["b/*"].into_iter());
        let found = tree.find("a", &exclude).unwrap();
        assert_eq!(found[0].files.len(), 2, "{found:?}");
    }

    #[test]
    fn the_digest_knows_content_and_mode_but_no_time() {
        let (dir, tree) = tree("");
        let digest = |source: &str| {
            let found = tree.find(source, &Ignore::default()).unwrap();
            tree.digest(&found[0], false).unwrap()
        };
        let before = digest("a");
        std::fs::write(dir.path().join("a/one.txt"), "a/one.txt").unwrap();
        assert_eq!(digest("a"), before);
        std::fs::write(dir.path().join("a/one.txt"), "changed").unwrap();
        assert_ne!(digest("a"), before);
        assert_ne!(digest("a/one.txt"), digest("a/b/two.txt"));
        assert_ne!(digest("c/link"), digest("top.txt"), "a link is copied under its own name");
    }
}
