//! One node or control plane per state directory: a lock file that also tells `knarr down` whom to stop.
//!
//! The kernel drops the lock when the holder dies, however it dies, so a stale file never blocks a start.

use anyhow::{Context, bail};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the child of a dead holder may take to begin its program, on the slowest machine.
const LEFT_BEHIND: Duration = Duration::from_secs(10);

/// Held for as long as the process serves. It is given back by name: a child that was cloned meanwhile has the
/// descriptor until it begins its own program.
#[derive(Debug)]
pub(crate) struct Instance {
    locked: File,
}

impl Drop for Instance {
    fn drop(&mut self) {
        // It goes with the last descriptor in any case.
        let _ = self.locked.unlock();
    }
}

impl Instance {
    /// Takes the lock of `state_dir`, or says who has it.
    pub(crate) fn acquire(state_dir: &Path) -> anyhow::Result<Self> {
        let file = lock_file(state_dir);
        std::fs::create_dir_all(state_dir).with_context(|| format!("mkdir {}", state_dir.display()))?;
        let mut locked = open(&file)?;
        match lock_unless_served(&mut locked) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder_of(&mut locked)
                    .map_or_else(|| "another process".into(), |pid| format!("pid {pid}"));
                bail!(
                    "{} is in use by knarr, {holder}; another --state-dir makes a second instance",
                    state_dir.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("lock {}", file.display()));
            }
        }
        locked.set_len(0)?;
        locked.rewind()?;
        writeln!(locked, "{}", std::process::id())?;
        Ok(Self { locked })
    }
}

/// A holder that was killed may have left the lock to a child that has not begun its own program yet; it will at once,
/// and the lock goes with that. Only a holder that lives keeps it.
fn lock_unless_served(file: &mut File) -> Result<(), TryLockError> {
    let end = Instant::now() + LEFT_BEHIND;
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < end && !holder_of(file).is_some_and(lives) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn lives(pid: i32) -> bool {
    let pid = rustix::process::Pid::from_raw(pid);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The process that serves from `state_dir`, if one does.
pub(crate) fn running(state_dir: &Path) -> anyhow::Result<Option<i32>> {
    let file = lock_file(state_dir);
    if !file.exists() {
        return Ok(None);
    }
    let mut opened = open(&file)?;
    match opened.try_lock_shared() {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(holder_of(&mut opened)),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", file.display())),
    }
}

fn lock_file(state_dir: &Path) -> PathBuf {
    state_dir.join("knarr.lock")
}

fn open(file: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)
        .with_context(|| format!("open {}", file.display()))
}

fn holder_of(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_learns_who_has_the_first() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(running(directory.path()).unwrap(), None);
        let first = Instance::acquire(directory.path()).unwrap();
        let error = Instance::acquire(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        assert_eq!(running(directory.path()).unwrap(), Some(std::process::id() as i32));
        let _descriptor_of_a_child = first.locked.try_clone().unwrap();
        drop(first);
        assert_eq!(running(directory.path()).unwrap(), None);
    }

    #[test]
    fn the_lock_of_a_dead_holder_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut dead = std::process::Command::new("/bin/true").spawn().unwrap();
        dead.wait().unwrap();
        let left = Instance::acquire(directory.path()).unwrap();
        std::fs::write(lock_file(directory.path()), dead.id().to_string()).unwrap();
        let path = directory.path().to_owned();
        let next = std::thread::spawn(move || Instance::acquire(&path).map(drop));
        assert_eq!(running(directory.path()).unwrap(), Some(dead.id() as i32), "it is still locked");
        drop(left);
        next.join().unwrap().unwrap();
    }
}
