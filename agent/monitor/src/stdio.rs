//! The pipes and ptys between a process and the monitor.
//!
//! Near ends are ours and never block; far ends go to the process through the runtime and are ordinary blocking
//! pipes, because a program does not expect `EAGAIN` from its standard output.

use crate::adoption::both_ways;
use rustix::io::Errno;
use rustix::pipe::PipeFlags;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;

/// Most bytes kept for a process that does not read its standard input.
pub(crate) const MAX_PENDING_INPUT: usize = 64 << 10;

/// What the process gets.
#[derive(Debug)]
pub(crate) struct FarEnds {
    pub(crate) stdin: Stdio,
    pub(crate) stdout: Stdio,
    pub(crate) stderr: Stdio,
}

/// What we keep. With a terminal, `stdout` is the pty master and serves input as well.
#[derive(Debug, Default)]
pub(crate) struct NearEnds {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
    pub(crate) terminal: bool,
}

/// Makes the pipes of one process; without `stdin` it reads from `/dev/null`. Where they are `lasting`, the process can
/// write on when we are gone.
pub(crate) fn pipes(stdin: bool, lasting: bool) -> io::Result<(NearEnds, FarEnds)> {
    let (out, far_out) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let (err, far_err) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let mut near = NearEnds { stdin: None, stdout: Some(out), stderr: Some(err), terminal: false };
    let (far_out, far_err) =
        if lasting { (both_ways(far_out)?, both_ways(far_err)?) } else { (far_out, far_err) };
    let mut far = FarEnds { stdin: Stdio::null(), stdout: far_out.into(), stderr: far_err.into() };
    if stdin {
        let (far_in, input) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        near.stdin = Some(input);
        far.stdin = far_in.into();
    }
    for fd in [&near.stdin, &near.stdout, &near.stderr].into_iter().flatten() {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    Ok((near, far))
}

impl NearEnds {
    /// A pty master, which is all three.
    pub(crate) fn terminal(master: OwnedFd) -> Self {
        Self { stdin: None, stdout: Some(master), stderr: None, terminal: true }
    }

    /// What a failed runtime wrote to standard error.
    pub(crate) fn read_error_text(&self, limit: usize) -> Option<String> {
        let mut text = vec![0; limit];
        let length = rustix::io::read(self.stderr.as_ref()?, text.as_mut_slice()).ok()?;
        let text = String::from_utf8_lossy(text.get(..length)?).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }
}

/// A container's standard input, fed by attached clients.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) fd: OwnedFd,
    pending: VecDeque<u8>,
    /// To be closed when nothing is pending any more.
    pub(crate) ending: bool,
}

impl Input {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self { fd, pending: VecDeque::new(), ending: false }
    }

    pub(crate) fn push(&mut self, data: &[u8]) {
        self.pending.extend(data);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < MAX_PENDING_INPUT
    }

    pub(crate) fn is_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Writes what can be written; false when this input is over.
    pub(crate) fn flush(&mut self) -> bool {
        match drain(&mut self.pending, |data| rustix::io::write(&self.fd, data)) {
            Ok(()) => !(self.ending && self.pending.is_empty()),
            Err(_) => false,
        }
    }
}

/// Hands bytes from the front of a queue to `write` until it would block.
pub(crate) fn drain(
    queue: &mut VecDeque<u8>,
    mut write: impl FnMut(&[u8]) -> Result<usize, Errno>,
) -> Result<(), Errno> {
    while !queue.is_empty() {
        match write(queue.as_slices().0) {
            Ok(count) => drop(queue.drain(..count)),
            Err(Errno::AGAIN) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    if queue.capacity() > 4096 {
        *queue = VecDeque::new();
    }
    Ok(())
}
