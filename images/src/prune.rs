//! Which images to remove at once.

use crate::Image;
use std::time::Duration;

/// Which images go. Pinned images and images under a snapshot always stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Prune {
    /// Also images that still have a name; else only those without one.
    pub all: bool,
    /// Only images not pulled or used for this long.
    pub unused_for: Option<Duration>,
}

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Images that were removed.
    pub images: Vec<Image>,
    /// Bytes given back to the file system.
    pub bytes: u64,
}
