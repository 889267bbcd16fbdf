//! Ids for pods with a user namespace of their own (`hostUsers: false`): each gets a block of 65536 that no other pod
//! of this node has, as the kubelet hands them out. Which block is written into the pod's directory before it is used
//! and goes with that directory, so an agent that starts again gives nobody a block that is in use.

use crate::kubelet::paths::Paths;
use knarr_cri::v1::{IdMapping, NamespaceMode, UserNamespace};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Ids of one pod.
const LENGTH: u32 = 65_536;
/// The first block is the host's own.
const FIRST: u32 = 1;

/// The blocks of all pods of a node.
#[derive(Debug)]
pub struct UserNamespaces {
    paths: Paths,
    most: u32,
    /// Number of the block by the pod's uid.
    taken: Mutex<BTreeMap<String, u32>>,
}

impl UserNamespaces {
    /// Reads which blocks are in use; hands out at most `most` at once. Blocks.
    pub fn load(paths: Paths, most: u32) -> Self {
        let pods = std::fs::read_dir(paths.all()).into_iter().flatten().flatten();
        let uids = pods.filter_map(|entry| entry.file_name().into_string().ok());
        let taken = uids.filter_map(|uid| Some((uid.clone(), read(&record(&paths, &uid))?))).collect();
        Self { paths, most: most.min(u32::MAX / LENGTH - FIRST), taken: Mutex::new(taken) }
    }

    /// Gives the pod a block, unless it has one. Blocks.
    pub fn reserve(&self, uid: &str) -> Result<(), String> {
        // Nothing panics while it holds the lock.
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.contains_key(uid) {
            return Ok(());
        }
        let free = (FIRST..FIRST + self.most).find(|block| !taken.values().any(|other| other == block));
        let block = free.ok_or("no user namespace is left: all ranges of ids are in use")?;
        let file = record(&self.paths, uid);
        let written = std::fs::write(&file, (block * LENGTH).to_string());
        written.map_err(|error| format!("{}: {error}", file.display()))?;
        taken.insert(uid.to_string(), block);
        Ok(())
    }

    /// The first id of the pod's block, as the host sees it.
    pub fn first_id(&self, uid: &str) -> Option<u32> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.get(uid).map(|block| block * LENGTH)
    }

    /// The pod's directory is gone: its block is free.
    pub fn release(&self, uid: &str) {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

fn record(paths: &Paths, uid: &str) -> PathBuf {
    paths.pod(uid).join("userns")
}

fn read(file: &Path) -> Option<u32> {
    let first: u32 = std::fs::read_to_string(file).ok()?.trim().parse().ok()?;
    Some(first / LENGTH)
}

/// The ids of a block in CRI's terms.
pub fn mappings(first_id: u32) -> Vec<IdMapping> {
    vec![IdMapping { host_id: first_id, container_id: 0, length: LENGTH }]
}

/// The user namespace of a pod with this block.
pub fn options(first_id: u32) -> UserNamespace {
    UserNamespace { mode: NamespaceMode::Pod as i32, uids: mappings(first_id), gids: mappings(first_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_apart_and_outlive_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let paths = Paths::new(directory.path(), directory.path());
        for uid in ["a", "b", "c"] {
            std::fs::create_dir_all(paths.pod(uid)).unwrap();
        }
        let all = UserNamespaces::load(paths.clone(), 2);
        all.reserve("a").unwrap();
        all.reserve("a").unwrap();
        all.reserve("b").unwrap();
        assert_eq!((all.first_id("a"), all.first_id("b")), (Some(65_536), Some(131_072)));
        assert!(all.reserve("c").unwrap_err().contains("no user namespace is left"));
        all.release("a");
        std::fs::remove_dir_all(paths.pod("a")).unwrap();
        let again = UserNamespaces::load(paths, 2);
        assert_eq!((again.first_id("a"), again.first_id("b")), (None, Some(131_072)));
        again.reserve("c").unwrap();
        assert_eq!(again.first_id("c"), Some(65_536));
    }
}
