//! What a monitor leaves for its successor, should it be killed: a note per container, from which the next monitor of
//! the pod finds the processes and their output again.
//!
//! A container's output pipes stay open without a monitor, because the container holds both directions of them (see
//! `stdio`): it can go on writing until a pipe is full. The successor opens the same pipes through `/proc/PID/fd`. It is
//! not the parent of what it adopts, so the kernel tells it of an end, but not of the exit status.
//!
//! A terminal cannot be adopted: its other end closed with the dead monitor, and the kernel has hung up on the
//! container. So has the standard input of a container that had one.

use crate::container::{Container, Key};
use crate::monitor::{Monitor, exit_now};
use crate::oom;
use crate::stdio::NearEnds;
use knarr_monitor::exit_file;
use knarr_monitor::protocol::{Create, KEPT};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags};
use serde::{Deserialize, Serialize};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

/// The exit code of a container whose end nobody saw.
pub(crate) const UNSEEN: i32 = 137;

/// One note.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    id: String,
    pid: i32,
    /// Of the process, in clock ticks since boot: with it, a number that was used again is told apart.
    started: u64,
    log_path: Option<PathBuf>,
    /// Inode numbers of the pipes.
    stdout: Option<u64>,
    stderr: Option<u64>,
    #[serde(default)]
    on_exit: Vec<String>,
}

/// Leaves a note about a container that has just been created.
pub(crate) fn keep(request: &Create, pid: Pid, near: &NearEnds) -> io::Result<()> {
    let pipe = |fd: &Option<OwnedFd>| {
        let stat = fd.as_ref().filter(|_| !near.terminal).map(rustix::fs::fstat).transpose();
        stat.map(|stat| stat.map(|stat| stat.st_ino))
    };
    let number = pid.as_raw_nonzero().get();
    let note = Note {
        id: request.id.clone(),
        pid: number,
        // Gone already: then its exit is in our hands, not in a successor's.
        started: start_time(number).unwrap_or(0),
        log_path: request.log_path.clone(),
        stdout: pipe(&near.stdout)?,
        stderr: pipe(&near.stderr)?,
        on_exit: request.on_exit.clone(),
    };
    let path = path(&request.id);
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, serde_json::to_vec(&note).map_err(io::Error::other)?)?;
    std::fs::rename(unfinished, path)
}

/// Nothing is left to adopt.
pub(crate) fn forget(id: &str) -> io::Result<()> {
    match std::fs::remove_file(path(id)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Ids that are no plain names have been refused with their exit file.
fn path(id: &str) -> PathBuf {
    PathBuf::from(KEPT).join(format!("{}.json", id.replace('/', "_")))
}

/// Field 22 of `/proc/PID/stat`; the name before may hold anything, so counting begins after it.
fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

impl Monitor {
    /// Takes over what a predecessor left.
    pub(crate) fn adopt(&mut self) {
        for entry in std::fs::read_dir(KEPT).into_iter().flatten().flatten() {
            let note: Option<Note> =
                std::fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
            let Some(note) = note else {
                // Half a note: its writer died before anybody was told of the container.
                drop(std::fs::remove_file(entry.path()));
                continue;
            };
            let id = note.id.clone();
            if let Err(error) = self.adopt_one(note) {
                self.errors.note(&format!("adopt container {id}: {error}"));
            }
        }
    }

    fn adopt_one(&mut self, note: Note) -> io::Result<()> {
        if exit_file::read(&self.directory, &note.id)?.is_some() {
            return forget(&note.id);
        }
        let Some(process) = note.process()? else {
            exit_file::write(&self.directory, &note.id, &exit_now(UNSEEN))?;
            return forget(&note.id);
        };
        let near = NearEnds {
            stdout: note.open_pipe(note.stdout),
            stderr: note.open_pipe(note.stderr),
            ..NearEnds::default()
        };
        let log = match &note.log_path {
            Some(path) => Some(self.logs.open(path.clone())?.0),
            None => None,
        };
        let pid = Pid::from_raw(note.pid).ok_or(ErrorKind::InvalidData)?;
        let mut container = Container::new(note.request(), pid, near, log)?;
        container.adopted = Some(process);
        container.oom_counter = oom::counter_of(note.pid, &self.cgroup_mounts);
        let key = self.next_key();
        self.containers.insert(key, container);
        Ok(())
    }

    /// An adopted process has ended.
    pub(crate) fn adopted_ended(&mut self, key: Key) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.adopted = None;
        }
        self.container_ended(key, UNSEEN);
    }
}

impl Note {
    /// The process while it lives; opened before its start time is compared, so that it cannot be another one's.
    fn process(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(process) => Ok(Some(process).filter(|_| start_time(self.pid) == Some(self.started))),
            Err(rustix::io::Errno::SRCH) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// One of its pipes again; none where the process has closed it.
    fn open_pipe(&self, inode: Option<u64>) -> Option<OwnedFd> {
        let inode = inode?;
        let directory = format!("/proc/{}/fd", self.pid);
        for entry in std::fs::read_dir(directory).ok()?.flatten() {
            let target = std::fs::read_link(entry.path()).unwrap_or_default();
            if target.as_os_str() == format!("pipe:[{inode}]").as_str() {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                return rustix::fs::openat(CWD, entry.path(), flags, Mode::empty()).ok();
            }
        }
        None
    }

    fn request(&self) -> Create {
        Create {
            id: self.id.clone(),
            runtime: Vec::new(),
            bundle: PathBuf::new(),
            log_path: self.log_path.clone(),
            tty: false,
            stdin: false,
            stdin_once: false,
            on_exit: self.on_exit.clone(),
            started: false,
        }
    }
}

/// A far end that keeps its pipe alive by itself: open for reading, too, so that writing never fails for want of a
/// reader.
pub(crate) fn both_ways(far: impl AsFd) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", far.as_fd().as_raw_fd());
    Ok(rustix::fs::openat(CWD, path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_this_process_is_known_and_stays() {
        let pid = i32::try_from(std::process::id()).unwrap();
        let started = start_time(pid).unwrap();
        assert!(started > 0);
        assert_eq!(start_time(pid), Some(started));
        assert_eq!(start_time(0), None);
    }

    #[test]
    fn a_pipe_open_both_ways_takes_output_without_a_reader_and_gives_it_to_the_next() {
        let (near, far) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let inode = rustix::fs::fstat(&near).unwrap().st_ino;
        let far = both_ways(far).unwrap();
        drop(near);
        rustix::io::write(&far, b"kept").unwrap();
        let pid = i32::try_from(std::process::id()).unwrap();
        let note = Note {
            id: "c".into(),
            pid,
            started: 0,
            log_path: None,
            stdout: None,
            stderr: None,
            on_exit: Vec::new(),
        };
        let again = note.open_pipe(Some(inode)).unwrap();
        let mut text = [0; 8];
        assert_eq!(rustix::io::read(&again, &mut text).unwrap(), 4);
        drop(far);
        assert_eq!(rustix::io::read(&again, &mut text).unwrap(), 0, "the end of output is seen");
    }
}
