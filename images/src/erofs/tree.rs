//! The tree of a layer, in memory: what a directory of files would hold, without the files.
//!
//! Follows the same rules as the directory sink, and the same suite holds both to them.

use crate::error::{Error, Result};
use crate::layer::entry::{Meta, TreePath};
use std::collections::{BTreeMap, HashSet, VecDeque};

/// A chain of links longer than the kernel follows.
const MAX_LINKS: usize = 40;

/// What a directory holds, by name. A layer has as many of these as it has files, so they are small.
pub(crate) type Children = BTreeMap<Box<[u8]>, u32>;

/// One inode.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    pub(crate) body: Body,
}

/// What kind of inode.
#[derive(Debug)]
pub(crate) enum Body {
    Directory {
        children: Children,
        /// Hides what the layers beneath have here.
        opaque: bool,
        /// An entry described it; else it looks as beneath.
        described: bool,
    },
    /// Contents start at this block of the image.
    File {
        block: u32,
        size: u64,
    },
    Symlink(Vec<u8>),
    CharDevice(u32, u32),
    BlockDevice(u32, u32),
    Fifo,
}

impl Body {
    fn directory(opaque: bool) -> Self {
        Self::Directory { children: Children::new(), opaque, described: false }
    }

    fn is_whiteout(&self) -> bool {
        matches!(self, Self::CharDevice(0, 0))
    }
}

/// All inodes of a layer; the first is the root.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) nodes: Vec<Node>,
    /// Where the contents end in the image.
    pub(crate) end: u64,
}

impl Tree {
    pub(crate) const ROOT: u32 = 0;

    pub(crate) fn new() -> Self {
        Self { nodes: vec![Node { meta: Meta::default(), body: Body::directory(false) }], end: 0 }
    }

    pub(crate) fn node(&self, id: u32) -> Result<&Node> {
        self.nodes.get(id as usize).ok_or_else(|| Error::invalid("layer tree is broken"))
    }

    fn children(&mut self, id: u32) -> Result<&mut Children> {
        match self.nodes.get_mut(id as usize).map(|node| &mut node.body) {
            Some(Body::Directory { children, .. }) => Ok(children),
            _ => Err(Error::invalid("layer tree is broken")),
        }
    }

    fn child(&self, parent: u32, name: &[u8]) -> Option<u32> {
        match &self.nodes.get(parent as usize)?.body {
            Body::Directory { children, .. } => children.get(name).copied(),
            _ => None,
        }
    }

    fn add(&mut self, parent: u32, name: &[u8], node: Node) -> Result<u32> {
        let full = |_| Error::invalid("layer has too many files");
        let id = u32::try_from(self.nodes.len()).map_err(full)?;
        self.nodes.push(node);
        self.children(parent)?.insert(name.into(), id);
        Ok(id)
    }

    /// The directory at this path, links followed inside the root, made where it is missing.
    fn dir(&mut self, path: &TreePath) -> Result<u32> {
        let mut pending: VecDeque<Vec<u8>> = path.parts().map(<[u8]>::to_vec).collect();
        let mut stack = vec![Self::ROOT];
        let mut links = 0;
        while let Some(part) = pending.pop_front() {
            let here = stack.last().copied().unwrap_or(Self::ROOT);
            match &part[..] {
                b"" | b"." => {}
                b".." if stack.len() > 1 => drop(stack.pop()),
                b".." => {}
                name => match self.step(here, name)? {
                    Step::Into(id) => stack.push(id),
                    Step::Link(target) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Error::invalid(format!("{path}: too many levels of symbolic links")));
                        }
                        if target.starts_with(b"/") {
                            stack.truncate(1);
                        }
                        let parts = target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec);
                        parts.for_each(|part| pending.push_front(part));
                    }
                    Step::Blocked => {
                        return Err(Error::invalid(format!(
                            "{path} is no directory, but other entries lie in it"
                        )));
                    }
                },
            }
        }
        Ok(stack.last().copied().unwrap_or(Self::ROOT))
    }

    fn step(&mut self, here: u32, name: &[u8]) -> Result<Step> {
        let implicit = |opaque| Node { meta: Meta::default(), body: Body::directory(opaque) };
        let Some(id) = self.child(here, name) else {
            return Ok(Step::Into(self.add(here, name, implicit(false))?));
        };
        match &self.node(id)?.body {
            Body::Directory { .. } => Ok(Step::Into(id)),
            Body::Symlink(target) => Ok(Step::Link(target.clone())),
            body if body.is_whiteout() => Ok(Step::Into(self.add(here, name, implicit(true))?)),
            _ => Ok(Step::Blocked),
        }
    }

    fn parent<'a>(&mut self, path: &'a TreePath) -> Result<(u32, &'a [u8])> {
        let (Some((above, _)), Some(name)) = (path.split(), path.parts().last()) else {
            return Err(Error::invalid("the root is a directory"));
        };
        Ok((self.dir(&above)?, name))
    }

    /// A directory that an entry describes. One that is there keeps what it holds.
    pub(crate) fn directory(&mut self, path: &TreePath, meta: Meta) -> Result<()> {
        let id = if path.is_root() {
            Self::ROOT
        } else {
            let (parent, name) = self.parent(path)?;
            let there = self.child(parent, name);
            match there.and_then(|id| self.nodes.get(id as usize)).map(|node| &node.body) {
                Some(Body::Directory { .. }) => there.unwrap_or(Self::ROOT),
                other => {
                    let opaque = other.is_some_and(Body::is_whiteout);
                    self.add(parent, name, Node { meta: Meta::default(), body: Body::directory(opaque) })?
                }
            }
        };
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.meta = meta;
            if let Body::Directory { described, .. } = &mut node.body {
                *described = true;
            }
        }
        Ok(())
    }

    /// Anything else; what had the name before is forgotten.
    pub(crate) fn leaf(&mut self, path: &TreePath, meta: Meta, body: Body) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        self.add(parent, name, Node { meta, body }).map(drop)
    }

    /// Another name for a file of this layer, found without following links.
    pub(crate) fn hardlink(&mut self, path: &TreePath, target: &TreePath) -> Result<()> {
        let missing = || Error::invalid(format!("hard link to {target}, which is no file of this layer"));
        let found =
            target.parts().try_fold(Self::ROOT, |here, name| self.child(here, name)).ok_or_else(missing)?;
        match &self.node(found)?.body {
            Body::Directory { .. } => return Err(missing()),
            body if body.is_whiteout() => return Err(missing()),
            _ => {}
        }
        let (parent, name) = self.parent(path)?;
        self.children(parent)?.insert(name.into(), found);
        Ok(())
    }

    /// A whiteout hides the layers beneath, never what this layer itself holds.
    pub(crate) fn whiteout(&mut self, path: &TreePath) -> Result<()> {
        if path.is_root() {
            return Ok(());
        }
        let (parent, name) = self.parent(path)?;
        match self.child(parent, name) {
            None => {
                self.add(parent, name, Node { meta: Meta::default(), body: Body::CharDevice(0, 0) }).map(drop)
            }
            Some(id) => {
                self.set_opaque(id);
                Ok(())
            }
        }
    }

    pub(crate) fn opaque(&mut self, path: &TreePath) -> Result<()> {
        let id = self.dir(path)?;
        self.set_opaque(id);
        Ok(())
    }

    fn set_opaque(&mut self, id: u32) {
        if let Some(Body::Directory { opaque, .. }) =
            self.nodes.get_mut(id as usize).map(|node| &mut node.body)
        {
            *opaque = true;
        }
    }

    /// Directories that no entry described.
    pub(crate) fn implicit(&self) -> Vec<(TreePath, u32)> {
        let mut found = Vec::new();
        let mut pending = vec![(TreePath::default(), Self::ROOT)];
        while let Some((path, id)) = pending.pop() {
            let Some(Node { body: Body::Directory { children, described, .. }, .. }) =
                self.nodes.get(id as usize)
            else {
                continue;
            };
            pending.extend(children.iter().map(|(name, child)| (path.join(name), *child)));
            if !described {
                found.push((path, id));
            }
        }
        found
    }

    pub(crate) fn is_opaque(&self, id: u32) -> bool {
        matches!(
            self.nodes.get(id as usize).map(|node| &node.body),
            Some(Body::Directory { opaque: true, .. })
        )
    }

    /// The directories in a directory.
    pub(crate) fn directories(&self, id: u32) -> Vec<(Vec<u8>, u32)> {
        let Some(Body::Directory { children, .. }) = self.nodes.get(id as usize).map(|node| &node.body)
        else {
            return Vec::new();
        };
        let is_directory = |id: &u32| {
            matches!(self.nodes.get(*id as usize).map(|node| &node.body), Some(Body::Directory { .. }))
        };
        children.iter().filter(|(_, id)| is_directory(id)).map(|(name, id)| (name.to_vec(), *id)).collect()
    }

    /// Forgets the whiteouts in a directory.
    pub(crate) fn drop_whiteouts(&mut self, id: u32) {
        let idle: HashSet<Box<[u8]>> = match self.nodes.get(id as usize).map(|node| &node.body) {
            Some(Body::Directory { children, .. }) => {
                let hides =
                    |id: &u32| self.nodes.get(*id as usize).is_some_and(|node| node.body.is_whiteout());
                children.iter().filter(|(_, id)| hides(id)).map(|(name, _)| name.clone()).collect()
            }
            _ => HashSet::new(),
        };
        if let Ok(children) = self.children(id) {
            children.retain(|name, _| !idle.contains(name));
        }
    }

    pub(crate) fn set_meta(&mut self, id: u32, meta: Meta) {
        if let Some(node) = self.nodes.get_mut(id as usize) {
            node.meta = meta;
        }
    }
}

enum Step {
    Into(u32),
    Link(Vec<u8>),
    Blocked,
}
