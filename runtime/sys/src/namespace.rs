//! Namespaces without a process to hold them: made or entered on a throw-away thread, so the caller (often a thread of
//! a pool that serves others) never changes its own.

use crate::error::{Call, Error, Result};
use crate::mount;
use nix::sched::CloneFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::path::Path;

/// A kind of namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Network,
    Ipc,
    Uts,
    Mount,
    Pid,
    User,
    Cgroup,
    Time,
}

impl Kind {
    /// The name of its file in `/proc/PID/ns`.
    pub fn proc_name(self) -> &'static str {
        match self {
            Kind::Network => "net",
            Kind::Ipc => "ipc",
            Kind::Uts => "uts",
            Kind::Mount => "mnt",
            Kind::Pid => "pid",
            Kind::User => "user",
            Kind::Cgroup => "cgroup",
            Kind::Time => "time",
        }
    }

    /// Its `CLONE_NEW*` flag.
    pub fn clone_flag(self) -> u64 {
        (match self {
            Kind::Network => libc::CLONE_NEWNET,
            Kind::Ipc => libc::CLONE_NEWIPC,
            Kind::Uts => libc::CLONE_NEWUTS,
            Kind::Mount => libc::CLONE_NEWNS,
            Kind::Pid => libc::CLONE_NEWPID,
            Kind::User => libc::CLONE_NEWUSER,
            Kind::Cgroup => libc::CLONE_NEWCGROUP,
            Kind::Time => libc::CLONE_NEWTIME,
        }) as u32 as u64
    }
}

/// Makes new namespaces and binds each onto its file (created where absent), so they live until the file is unmounted
/// (`mount::unmount`) and unlinked. `setup` runs inside all of them (set the host name, bring up `lo`, ...) before the
/// files appear; if anything fails, nothing stays mounted.
///
/// Network, IPC and UTS namespaces only: the others need a process or cannot be entered by a thread.
pub fn pin<T: Send>(
    targets: &[(Kind, &Path)],
    setup: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    let flags = targets.iter().fold(0, |flags, (kind, _)| flags | kind.clone_flag());
    on_a_thread(|| {
        unshare(flags)?;
        let value = setup()?;
        let mut done: Vec<&Path> = Vec::new();
        for (kind, target) in targets {
            if let Err(error) = pin_one(*kind, target) {
                done.iter().for_each(|target| drop(mount::unmount(target, true)));
                return Err(error.into());
            }
            done.push(target);
        }
        Ok(value)
    })
}

fn pin_one(kind: Kind, target: &Path) -> Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(target)
        .call(|| format!("open({target:?}, O_CREAT|O_WRONLY|O_APPEND)"))?;
    // A mount of a namespace file cannot be cloned by open_tree on kernels before 6.15; mount(2) binds it everywhere.
    let source = format!("/proc/thread-self/ns/{}", kind.proc_name());
    mount::mount(Path::new(&source), target, "", libc::MS_BIND, None)
}

/// Runs `work` inside the namespaces that the given files refer to.
pub fn within<T: Send>(
    files: &[(Kind, &Path)],
    work: impl FnOnce() -> std::io::Result<T> + Send,
) -> std::io::Result<T> {
    on_a_thread(|| {
        let opened: Vec<_> =
            files.iter().map(|(kind, path)| Ok((*kind, open(path)?))).collect::<Result<_>>()?;
        for (kind, file) in &opened {
            join(file, *kind)?;
        }
        work()
    })
}

/// A namespace by the path of its file.
pub fn open(path: &Path) -> Result<File> {
    File::open(path).call(|| format!("open({path:?}, O_RDONLY|O_CLOEXEC)"))
}

/// Moves the calling thread into a namespace.
pub fn join(file: &File, kind: Kind) -> Result<()> {
    let flag = CloneFlags::from_bits_retain(kind.clone_flag() as i32);
    nix::sched::setns(file, flag).call(|| format!("setns(<{}>)", kind.proc_name()))
}

/// Moves the calling thread into new namespaces.
pub fn unshare(flags: u64) -> Result<()> {
    nix::sched::unshare(CloneFlags::from_bits_retain(flags as i32)).call(|| format!("unshare({flags:#x})"))
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(Error::new(Errno::FAULT, "namespace thread panicked").into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mounts made by a test live in a mount namespace of its own thread and vanish with it.
    fn privately<T: Send>(work: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
        on_a_thread(|| {
            unshare(Kind::Mount.clone_flag())?;
            mount::set_propagation(Path::new("/"), libc::MS_REC | libc::MS_PRIVATE)?;
            work()
        })
    }

    #[test]
    fn a_pinned_namespace_outlives_its_thread_and_can_be_entered() {
        let dir = tempfile::tempdir().unwrap();
        let (uts, net) = (dir.path().join("uts"), dir.path().join("net"));
        let before = std::fs::read_link("/proc/self/ns/uts").unwrap();
        let name = privately(|| {
            let targets = [(Kind::Uts, uts.as_path()), (Kind::Network, net.as_path())];
            // `pin` starts a thread of its own, which inherits this private mount namespace.
            pin(&targets, || nix::unistd::sethostname("pinned").map_err(Into::into))?;
            within(&targets, || nix::unistd::gethostname().map_err(Into::into))
        });
        assert_eq!(name.unwrap(), "pinned");
        assert_eq!(std::fs::read_link("/proc/self/ns/uts").unwrap(), before);
    }

    #[test]
    fn a_failed_setup_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let uts = dir.path().join("uts");
        let failed: std::io::Result<()> =
            pin(&[(Kind::Uts, uts.as_path())], || Err(std::io::Error::other("no")));
        assert!(failed.is_err());
        assert!(!uts.exists());
    }

    #[test]
    fn a_detached_tmpfs_is_configured_before_it_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        privately(|| {
            let context = mount::FsContext::open("tmpfs")?;
            context.set_options("mode=700,size=64k")?;
            let detached = context.create(mount::attr::RDONLY | mount::attr::NOEXEC)?;
            mount::move_to_path(&detached, dir.path())?;
            let refused = std::fs::write(dir.path().join("x"), "").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::EROFS));
            mount::unmount_all(dir.path())?;
            std::fs::write(dir.path().join("x"), "")
        })
        .unwrap();
    }

    #[test]
    fn a_bad_option_is_explained_by_the_kernel() {
        let context = mount::FsContext::open("tmpfs").unwrap();
        let error = context.set("size", "lots").unwrap_err();
        assert_eq!(error.errno, Errno::INVAL);
        assert!(error.to_string().contains("tmpfs"), "{error}");
    }
}
