//! Finding the binaries under test and running them with a deadline.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// No command of the runtime may take longer, on the slowest machine; the slowest of all is an emulated one on a busy host.
fn deadline() -> Duration {
    Duration::from_secs(if std::env::var_os("KNARR_VM").is_some() { 300 } else { 120 })
}

/// A binary of ours: in `KNARR_BIN_DIR`, else beside the test executable's own target directory.
///
/// # Panics
/// When it has not been built.
pub fn find(name: &str) -> PathBuf {
    if let Some(directory) = std::env::var_os("KNARR_BIN_DIR") {
        return Path::new(&directory).join(name);
    }
    let test = std::env::current_exe().expect("the test's own path");
    // target/TRIPLE/PROFILE/deps/test
    let profile = test.ancestors().nth(2).expect("a profile directory");
    let triple = profile.parent().expect("a target directory");
    let candidates = [profile.join(name), triple.join("release").join(name), triple.join("debug").join(name)];
    let found = candidates.iter().find(|path| path.exists());
    found.unwrap_or_else(|| panic!("{name} is not built: none of {candidates:?}")).clone()
}

/// Copies a program that is going to be executed; `cp` does it. What this process has open for writing, the children that
/// other tests start meanwhile have too until they begin their own programs, and so long nobody can execute the file.
///
/// # Panics
/// When it cannot be copied.
pub fn copy_program(from: &Path, to: &Path) {
    run(Command::new("cp").arg(from).arg(to)).ok();
}

/// Writes a script that is going to be executed, in the same way.
///
/// # Panics
/// When it cannot be written.
pub fn write_program(to: &Path, text: &str) {
    let script = "printf %s \"$1\" >\"$2\" && chmod 755 \"$2\"";
    run(Command::new("sh").args(["-c", script, "sh", text]).arg(to)).ok();
}

/// How a command ended and what it said.
#[derive(Debug)]
pub struct Said {
    /// Exit status, or 128 + signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Its output, when it succeeded.
    ///
    /// # Panics
    /// When it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its complaint, when it failed.
    ///
    /// # Panics
    /// When it succeeded.
    pub fn failed(self) -> String {
        assert_ne!(self.code, 0, "{self:?}");
        self.err
    }
}

/// Runs a command to its end. Outputs go to files: a container that lives on holds a pipe open.
///
/// # Panics
/// When it cannot be started, or takes too long.
pub fn run(command: &mut Command) -> Said {
    run_within(command, deadline())
}

/// The same with another deadline, for whole scripts.
///
/// # Panics
/// As above.
pub fn run_within(command: &mut Command, deadline: Duration) -> Said {
    let (out, err) = (tempfile::NamedTempFile::new(), tempfile::NamedTempFile::new());
    let (out, err) = (out.expect("a file"), err.expect("a file"));
    let open = |file: &tempfile::NamedTempFile| Stdio::from(file.reopen().expect("the file"));
    command.stdin(Stdio::null()).stdout(open(&out)).stderr(open(&err));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if !ends_within(&child, deadline) {
        child.kill().expect("killing");
        panic!("{command:?} did not end within {deadline:?}");
    }
    let status = child.wait().expect("waiting");
    let read = |file: &tempfile::NamedTempFile| {
        String::from_utf8_lossy(&std::fs::read(file).expect("output")).into_owned()
    };
    Said { code: code(status), out: read(&out), err: read(&err) }
}

/// Waits for the end of a child without taking its status.
fn ends_within(child: &Child, deadline: Duration) -> bool {
    let pidfd = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).expect("pidfd_open");
    let end = Instant::now() + deadline;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).expect("a deadline");
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(Errno::INTR) => {}
            Err(error) => panic!("poll(<pidfd>): {error}"),
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
