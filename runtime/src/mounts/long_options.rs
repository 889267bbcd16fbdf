//! A new file system whose options are too long for fsconfig(2): it takes values of 255 bytes, and the layers of an overlay
//! are long paths. mount(2) takes a page of options, but mounts at a place.
//!
//! That place is in a tmpfs that covers the mount's own for a moment: what is made there leaves it as a detached copy, as if
//! it had been made detached. No path is walked that the image could have changed.

use super::source;
use knarr_sys::error::Call;
use knarr_sys::mount::{self, attr};
use rustix::fs::{CWD, Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// Most bytes of a value that fsconfig(2) takes as a string.
const LONGEST: usize = 255;
/// The only directory there.
const PLACE: &str = "made";

/// Whether options are for mount(2): a value is too long, or has commas of its own.
pub(crate) fn are_in(data: &str) -> bool {
    let too_long = |option: &str| option.split_once('=').is_some_and(|(_, value)| value.len() > LONGEST);
    data.contains("\\,") || data.split(',').any(too_long)
}

/// Makes it, detached. `target` is the directory that is covered meanwhile.
pub(crate) fn new(
    (fs_type, from, data): (&str, &str, &str),
    attributes: u64,
    target: &OwnedFd,
) -> knarr_sys::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let before = rustix::fs::openat(CWD, ".", flags, Mode::empty()).call(|| "open(\".\")")?;
    let cover = source::new("tmpfs", "tmpfs", "mode=700", 0)?;
    mount::move_to_fd(&cover, target)?;
    let tree = enter(&cover).and_then(|()| make((fs_type, from, data), attributes));
    // With all that is mounted in it.
    let uncovered = enter(&cover).and_then(|()| mount::unmount(Path::new("."), true));
    let back = enter(&before);
    let tree = tree?;
    uncovered?;
    back?;
    Ok(tree)
}

fn enter(directory: &OwnedFd) -> knarr_sys::Result<()> {
    rustix::process::fchdir(directory).call(|| "fchdir")
}

fn make((fs_type, from, data): (&str, &str, &str), attributes: u64) -> knarr_sys::Result<OwnedFd> {
    let shown = || format!("mount({from:?}, {PLACE:?}, {fs_type:?}, {data:?})");
    let options = CString::new(data).map_err(|_| rustix::io::Errno::INVAL).call(shown)?;
    rustix::fs::mkdirat(CWD, PLACE, Mode::RWXU).call(|| format!("mkdir({PLACE:?})"))?;
    let source = if from.is_empty() { fs_type } else { from };
    mount::mount(Path::new(source), Path::new(PLACE), fs_type, 0, Some(&options))?;
    let tree = mount::clone_tree(CWD, PLACE, false)?;
    // The modes of access times exclude each other.
    let clear = if attributes & attr::ATIME_MASK == 0 { 0 } else { attr::ATIME_MASK };
    let attributes = mount::Attributes { set: attributes, clear, propagation: 0 };
    mount::set_attributes(tree.as_fd(), attributes, false)?;
    Ok(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_and_commas_within_them() {
        let long = "x".repeat(LONGEST + 1);
        let fits = "x".repeat(LONGEST);
        for (data, expected) in [
            ("mode=755,size=64k", false),
            ("ro", false),
            (&format!("lowerdir={fits},upperdir={fits}"), false),
            (&format!("lowerdir={fits},upperdir={long}"), true),
            (&format!("lowerdir={}", ["/a"; 200].join(":")), true),
            (r"lowerdir=/a\,b", true),
            ("", false),
        ] {
            assert_eq!(are_in(data), expected, "{data}");
        }
    }
}
