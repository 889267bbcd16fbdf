//! `openat2` beneath a directory, as often as it takes.
//!
//! On a way with `..` in it the kernel answers EAGAIN when anything was renamed or mounted meanwhile, anywhere on the
//! machine: it could not make sure that the way stayed inside. On a busy machine that is often.

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::path::Arg;

/// More than any machine is busy.
const TRIES: usize = 1000;

/// Opens `path` beneath `root`; how it is resolved is said by `resolve`.
///
/// # Errors
/// The kernel's.
pub fn scoped_open(
    root: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    resolve: ResolveFlags,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    for _ in 1..TRIES {
        match openat2(&root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => std::thread::yield_now(),
            other => return other,
        }
    }
    openat2(&root, path, flags, Mode::empty(), resolve)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn others_may_rename_meanwhile() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (directory.path().join("one"), directory.path().join("two"));
        std::fs::create_dir_all(directory.path().join("root/below")).unwrap();
        std::fs::write(&one, "").unwrap();
        let root = std::fs::File::open(directory.path().join("root")).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &two).unwrap();
                    std::fs::rename(&two, &one).unwrap();
                }
            });
            let opened = (0..20_000).map(|_| {
                let resolve = ResolveFlags::IN_ROOT;
                scoped_open(&root, "../below/../below/../../below", OFlags::PATH, resolve).map(drop)
            });
            let all = opened.collect::<Result<Vec<()>, _>>().map(|all| all.len());
            over.store(true, Ordering::Relaxed);
            assert_eq!(all, Ok(20_000));
        });
    }
}
