//! A lab for single containers: they go with it, also after a failed expectation.

use crate::bins::Said;
use crate::image_lab::ImageLab;

/// A name that no other process's container has: it names a cgroup too, which all runs of this machine share.
pub fn named(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

/// The images, and what was run of them.
#[derive(Debug)]
pub struct Lab(pub ImageLab);

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.0.knarr(&["ps", "-aq"]).out.lines() {
            let _ = self.0.knarr(&["rm", "-f", "-v", name]);
        }
    }
}

impl Lab {
    /// With the image `base:1`.
    pub fn new() -> Self {
        Self(ImageLab::new())
    }

    /// `knarr run` without a network.
    pub fn run(&self, more: &[&str]) -> Said {
        self.0.knarr(&[&["run", "--network", "none"], more].concat())
    }

    /// What a command prints, when it succeeds.
    pub fn knarr(&self, arguments: &[&str]) -> String {
        self.0.knarr(arguments).ok()
    }
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}
