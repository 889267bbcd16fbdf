//! A container as the next command finds it: a directory `ROOT/ID` with what was decided and what runs.
//!
//! ```text
//! ROOT/ID/state.json    what `Record` holds, and the configuration the container was made from; never changes
//!         init.json     pid and start time of its init, once that is ready
//!         exec.fifo     there while the program waits for `start`
//! ```
//!
//! Both are written under another name and renamed, and nothing is ever renamed over them: a journaling file system
//! would write such a file out at once.
//!
//! Whoever changes a container holds a lock on its directory. What runs is never taken from the file alone: a pid
//! counts only together with the start time of its process.

use crate::bootstrap::runtime::Company;
use crate::cgroups::{Cgroups, control};
use crate::error::{Context, Error, Kind, Result};
use crate::intel_rdt::Group;
use crate::spec::{Hooks, Spec, parse};
use crate::state::{State, Status};
use crate::{kernel_file, processes};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const STATE: &str = "state.json";
const INIT: &str = "init.json";
const FIFO: &str = "exec.fifo";

/// What is kept of a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) oci_version: String,
    pub(crate) bundle: String,
    pub(crate) rootfs: String,
    pub(crate) created: String,
    #[serde(default)]
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) cgroups: Cgroups,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) resctrl: Option<Group>,
    /// Its processes are in a pid namespace of somebody else's: they do not die with init.
    #[serde(default)]
    pub(crate) shares_pids: bool,
    /// It has no mount namespace: how many mounts stood at its root before its own, which go with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mounts_below: Option<usize>,
    /// Hooks of its later life.
    #[serde(default)]
    pub(crate) hooks: Hooks,
    /// 0 until init is ready. Kept in a file of its own, as is the next.
    #[serde(skip)]
    pub(crate) init_process_pid: i32,
    /// In clock ticks since boot.
    #[serde(skip)]
    pub(crate) init_process_start: u64,
}

/// The file that never changes.
#[derive(Serialize, Deserialize)]
struct Stored {
    record: Record,
    config: Box<RawValue>,
}

/// The file that says who runs.
#[derive(Serialize, Deserialize)]
struct Init {
    pid: i32,
    start: u64,
}

/// An open container.
#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) directory: PathBuf,
    pub(crate) record: Record,
    config: Box<RawValue>,
    /// Held while this value lives.
    lock: Option<Lock>,
}

/// Names that stay one component of a path.
pub(crate) fn check_id(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+.-".contains(c);
    if id.is_empty() {
        return Err(Error::invalid("container id cannot be empty"));
    }
    if id == "." || id == ".." || id.len() > 1024 || !id.chars().all(allowed) {
        return Err(Error::invalid("invalid container ID format"));
    }
    Ok(())
}

/// That the name is free, before anything is asked about what comes with it. Only making the directory decides.
pub(crate) fn check_free(root: &Path, id: &str) -> Result<()> {
    if rustix::fs::stat(root.join(id)).is_ok() { Err(taken()) } else { Ok(()) }
}

fn taken() -> Error {
    Error::new(Kind::Exists, "container with given ID already exists")
}

fn not_found() -> Error {
    Error::new(Kind::NotFound, "container does not exist")
}

impl Container {
    /// A new directory with its configuration; the name must be free.
    pub(crate) fn create(root: &Path, record: Record, config: &[u8]) -> Result<Self> {
        check_id(&record.id)?;
        let directory = root.join(&record.id);
        let make = || rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o711));
        let made = match make() {
            Err(Errno::NOENT) => {
                std::fs::create_dir_all(root).context(|| format!("mkdir {}", root.display()))?;
                make()
            }
            made => made,
        };
        match made {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(taken()),
            Err(errno) => return Err(errno).context(|| format!("mkdir {}", directory.display())),
        }
        let stored = (|| -> Result<Container> {
            let lock = lock(&directory, FlockOperation::LockExclusive)?;
            let stored = Stored { record, config: raw(config)? };
            stage(&directory, STATE, &stored)?;
            commit(&directory, STATE)?;
            let Stored { record, config } = stored;
            Ok(Container { directory: directory.clone(), record, config, lock: Some(lock) })
        })();
        stored.map_err(|error| error.and(remove(&directory)))
    }

    /// One that exists, for changing it.
    pub(crate) fn open(root: &Path, id: &str) -> Result<Self> {
        let directory = existing(root, id)?;
        let lock = lock(&directory, FlockOperation::LockExclusive)?;
        Self::load(directory, Some(lock))
    }

    /// One that exists, for looking at it or for what does not change the record.
    pub(crate) fn peek(root: &Path, id: &str) -> Result<Self> {
        Self::load(existing(root, id)?, None)
    }

    fn load(directory: PathBuf, lock: Option<Lock>) -> Result<Self> {
        let path = directory.join(STATE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(not_found()),
            Err(error) => return Err(error).context(|| format!("read {}", path.display())),
        };
        let damaged = |error| Error::invalid(format!("{}: {error}", path.display()));
        let Stored { mut record, config } = parse(&bytes).map_err(damaged)?;
        let path = directory.join(INIT);
        match kernel_file::read(&path) {
            Ok(text) => {
                let damaged = |error| Error::invalid(format!("{}: {error}", path.display()));
                let init: Init = parse(text.as_bytes()).map_err(damaged)?;
                (record.init_process_pid, record.init_process_start) = (init.pid, init.start);
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(|| format!("read {}", path.display())),
        }
        Ok(Container { directory, record, config, lock })
    }

    /// Takes down who its init is, beside what counts.
    pub(crate) fn stage_init(&mut self, pid: Pid) -> Result<()> {
        let pid = pid.as_raw_nonzero().get();
        let start = processes::start_time(pid).unwrap_or(0);
        (self.record.init_process_pid, self.record.init_process_start) = (pid, start);
        stage(&self.directory, INIT, &Init { pid, start })
    }

    /// Lets what was taken down count.
    pub(crate) fn commit_init(&self) -> Result<()> {
        commit(&self.directory, INIT)
    }

    /// The configuration it was made from.
    pub(crate) fn spec(&self) -> Result<Spec> {
        let damaged =
            |error| Error::invalid(format!("{}: config: {error}", self.directory.join(STATE).display()));
        parse(self.config.get().as_bytes()).map_err(damaged)
    }

    /// What it is doing now.
    pub(crate) fn status(&self) -> Result<Status> {
        if self.record.init_process_pid == 0 {
            return Ok(Status::Creating);
        }
        if !self.is_alive() {
            return Ok(Status::Stopped);
        }
        if control::is_frozen(&self.record.cgroups)? {
            return Ok(Status::Paused);
        }
        let waits = rustix::fs::stat(self.directory.join(FIFO)).is_ok();
        Ok(if waits { Status::Created } else { Status::Running })
    }

    /// Its init is the process we started and has not ended.
    pub(crate) fn is_alive(&self) -> bool {
        processes::start_time(self.record.init_process_pid) == Some(self.record.init_process_start)
    }

    /// The public state.
    pub(crate) fn state(&self) -> Result<State> {
        let status = match self.status()? {
            // Whoever makes it holds it still; to others it is not there yet, or was left behind.
            Status::Creating if self.lock.is_none() && !is_locked(&self.directory) => Status::Stopped,
            status => status,
        };
        Ok(self.state_as(status))
    }

    /// The public state with a status that is known.
    pub(crate) fn state_as(&self, status: Status) -> State {
        let record = &self.record;
        State {
            oci_version: record.oci_version.clone(),
            id: record.id.clone(),
            pid: if status == Status::Stopped { 0 } else { record.init_process_pid },
            status,
            bundle: record.bundle.clone(),
            rootfs: record.rootfs.clone(),
            created: record.created.clone(),
            annotations: record.annotations.clone(),
            owner: String::new(),
        }
    }

    /// Makes the gate that the program waits at.
    pub(crate) fn make_fifo(&self) -> Result<OwnedFd> {
        let path = self.directory.join(FIFO);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600))
            .map_err(std::io::Error::from)
            .context(|| format!("mkfifo {}", path.display()))?;
        rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .context(|| format!("open {}", path.display()))
    }

    /// Opens the gate.
    pub(crate) fn open_gate(&self) -> Result<()> {
        let path = self.directory.join(FIFO);
        let fifo =
            match rustix::fs::open(&path, OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())
            {
                Ok(fifo) => fifo,
                // Nobody has it open for reading.
                Err(Errno::NXIO) => {
                    return Err(Error::new(Kind::State, "cannot start a container that has stopped"));
                }
                Err(errno) => return Err(errno).context(|| format!("open {}", path.display())),
            };
        rustix::io::write(&fifo, b"0").context(|| "write(<exec.fifo>)")?;
        std::fs::remove_file(&path).context(|| format!("unlink {}", path.display()))
    }

    /// Lets others change it.
    pub(crate) fn unlocked(self) -> Self {
        Container { lock: None, ..self }
    }

    /// Takes its mounts off where they are the host's.
    pub(crate) fn unmount(&self) -> Result<()> {
        let close = |before| crate::rootfs::close_hosted(Path::new(&self.record.rootfs), before);
        self.record.mounts_below.map_or(Ok(()), close).context(|| "unable to unmount the container's root")
    }

    /// Forgets it.
    pub(crate) fn remove_directory(&self) -> Result<()> {
        remove(&self.directory)
    }
}

/// The few files that are nearly always all there is, then whatever else there may be.
fn remove(directory: &Path) -> Result<()> {
    for name in [STATE, INIT] {
        // What fails here fails again below, and is reported there.
        let _ = rustix::fs::unlink(directory.join(name));
    }
    if rustix::fs::rmdir(directory).is_ok() {
        return Ok(());
    }
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn raw(config: &[u8]) -> Result<Box<RawValue>> {
    let text = String::from_utf8(config.to_vec())
        .map_err(|error| Error::invalid(format!("config.json: {error}")))?;
    RawValue::from_string(text).map_err(|error| Error::invalid(format!("config.json: {error}")))
}

fn staged(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!(".{name}"))
}

/// Configurations hold environments, and those hold secrets: nobody else may read it.
fn stage(directory: &Path, name: &str, value: &impl Serialize) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| Error::invalid(error.to_string()))?;
    let path = staged(directory, name);
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600))
        .context(|| format!("open {}", path.display()))?;
    std::io::Write::write_all(&mut std::fs::File::from(file), &bytes)
        .context(|| format!("write {}", path.display()))
}

fn commit(directory: &Path, name: &str) -> Result<()> {
    let path = directory.join(name);
    std::fs::rename(staged(directory, name), &path).context(|| format!("rename to {}", path.display()))
}

fn existing(root: &Path, id: &str) -> Result<PathBuf> {
    check_id(id)?;
    let directory = root.join(id);
    match rustix::fs::stat(&directory) {
        Ok(_) => Ok(directory),
        Err(Errno::NOENT) => Err(not_found()),
        Err(errno) => Err(errno).context(|| format!("stat {}", directory.display())),
    }
}

impl Company for Container {
    fn meanwhile(&mut self, pid: Pid) -> Result<()> {
        self.stage_init(pid)
    }

    /// Init waits for `start` however long: with the lock, nobody could delete what a killed `create` left.
    fn let_go(&mut self) {
        if let Some(lock) = self.lock.take() {
            lock.abandon();
        }
    }
}

/// The lock on a container's directory. It is given back by name: whoever was cloned meanwhile may hold the descriptor.
#[derive(Debug)]
struct Lock(Option<OwnedFd>);

impl Lock {
    /// Closes this process's descriptor; the lock stays with the process that took it.
    fn abandon(mut self) {
        self.0 = None;
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // It goes with the last descriptor in any case.
        let _ = self.0.as_ref().map(|fd| rustix::fs::flock(fd, FlockOperation::Unlock));
    }
}

fn lock(directory: &Path, operation: FlockOperation) -> Result<Lock> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(directory, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Err(not_found()),
        Err(errno) => return Err(errno).context(|| format!("open {}", directory.display())),
    };
    rustix::io::retry_on_intr(|| rustix::fs::flock(&fd, operation)).context(|| "flock")?;
    Ok(Lock(Some(fd)))
}

/// Somebody is changing it.
fn is_locked(directory: &Path) -> bool {
    lock(directory, FlockOperation::NonBlockingLockShared).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        Record {
            id: id.into(),
            oci_version: "1.3.0".into(),
            bundle: "/b".into(),
            rootfs: "/b/rootfs".into(),
            created: "2026-01-01T00:00:00Z".into(),
            annotations: BTreeMap::new(),
            init_process_pid: 0,
            init_process_start: 0,
            cgroups: Cgroups { directories: vec![], unified: false, scope: None },
            resctrl: None,
            shares_pids: false,
            mounts_below: None,
            hooks: Hooks::default(),
        }
    }

    #[test]
    fn ids() {
        for good in ["a", "A_b+c.d-1", "..a"] {
            assert!(check_id(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "é"] {
            assert!(check_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_taken_once_and_free_again_after_removal() {
        let root = tempfile::tempdir().unwrap();
        let container = Container::create(root.path(), record("a"), b"{}").unwrap();
        let again = Container::create(root.path(), record("a"), b"{}").unwrap_err();
        assert_eq!(
            (again.kind(), again.to_string().as_str()),
            (Kind::Exists, "container with given ID already exists")
        );
        container.remove_directory().unwrap();
        let gone = Container::peek(root.path(), "a").unwrap_err();
        assert_eq!((gone.kind(), gone.to_string().as_str()), (Kind::NotFound, "container does not exist"));
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let root = tempfile::tempdir().unwrap();
        let config = b"{\n  \"ociVersion\": \"1.0.2\", \"hostname\": \"h\"\n}\n";
        let mut container = Container::create(root.path(), record("a"), config).unwrap();
        assert_eq!(Container::peek(root.path(), "a").unwrap().status().unwrap(), Status::Creating);
        container.stage_init(rustix::process::getpid()).unwrap();
        assert_eq!(Container::peek(root.path(), "a").unwrap().record.init_process_pid, 0);
        container.commit_init().unwrap();
        let loaded = Container::peek(root.path(), "a").unwrap();
        assert_eq!(loaded.record, container.record);
        assert_eq!(loaded.status().unwrap(), Status::Running);
        assert_eq!(loaded.spec().unwrap().hostname, "h");
    }

    #[test]
    fn damaged_files_are_errors_that_name_them() {
        let root = tempfile::tempdir().unwrap();
        let mut container = Container::create(root.path(), record("a"), b"{}").unwrap();
        container.stage_init(rustix::process::getpid()).unwrap();
        container.commit_init().unwrap();
        for (file, text) in
            [("init.json", "{\"pid\": 1"), ("init.json", "[]"), ("state.json", ""), ("state.json", "{}")]
        {
            std::fs::write(root.path().join("a").join(file), text).unwrap();
            let error = Container::peek(root.path(), "a").unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
        container.remove_directory().unwrap();
    }
}
