//! Standing before a process until it ends: its signals, its terminal, its exit status.
//!
//! Signals are blocked before anything is cloned and read from a descriptor, and the end of the process is read from its
//! pidfd: a process that ends at once cannot be missed.

use crate::error::{Context, Result};
use crate::notify_socket::NotifySocket;
use crate::{socket, terminal};
use knarr_sys::clone::Child;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::OFlags;
use rustix::net::SocketType;
use rustix::process::WaitOptions;
use rustix::termios::{OptionalActions, OutputModes, Termios};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Everything that must be ready before the clone.
pub(super) struct Foreground {
    signals: SignalFd,
    /// Our end of the pair through which the terminal's master comes.
    console: Option<OwnedFd>,
    /// The other end, for init.
    far_console: Option<OwnedFd>,
    /// Until the program has said that it is ready.
    notify: Option<NotifySocket>,
}

/// What woke us.
struct Woken {
    ended: bool,
    notified: bool,
    input: bool,
    output: bool,
}

/// The console that init gets: its end of the pair, or the socket of the caller.
pub(super) fn console(
    mut foreground: Option<Foreground>,
    socket: Option<OwnedFd>,
) -> (Option<Foreground>, Option<OwnedFd>) {
    let console = foreground.as_mut().and_then(|foreground| foreground.far_console.take()).or(socket);
    (foreground, console)
}

impl Foreground {
    /// Takes signals over.
    pub(super) fn prepare(terminal: bool, subreaper: bool) -> Result<Self> {
        let all = SigSet::all();
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None)
            .map_err(std::io::Error::from)
            .context(|| "rt_sigprocmask")?;
        let signals = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .map_err(std::io::Error::from)
            .context(|| "signalfd")?;
        if subreaper {
            // Processes that lose their parent become ours: nobody else would know when all have ended.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .context(|| "prctl(PR_SET_CHILD_SUBREAPER)")?;
        }
        let (console, far_console) = if terminal {
            let (near, far) = socket::pair(SocketType::STREAM)?;
            (Some(near), Some(far))
        } else {
            (None, None)
        };
        Ok(Foreground { signals, console, far_console, notify: None })
    }

    /// Passes its word that it is ready on, too. systemd watches us, who stay, and need not be told of another process.
    pub(super) fn with(self, notify: Option<NotifySocket>) -> Self {
        Foreground { notify, ..self }
    }

    /// Until the process ends; its status as a shell tells it.
    pub(super) fn wait(mut self, child: &Child) -> Result<u8> {
        let mut terminal = match &self.console {
            Some(console) => Some(Terminal::new(socket::receive_fd(console.as_fd())?)?),
            None => None,
        };
        let waited = self.until_end(child, &mut terminal);
        if let Some(terminal) = &mut terminal {
            terminal.drain();
            terminal.restore();
        }
        waited
    }

    fn until_end(&mut self, child: &Child, terminal: &mut Option<Terminal>) -> Result<u8> {
        loop {
            let woken = self.poll(child, terminal.as_ref())?;
            self.forward(child, terminal.as_ref())?;
            if let Some(terminal) = terminal {
                terminal.relay(woken.input, woken.output);
            }
            if woken.notified && self.notify.as_ref().map_or(Ok(true), |notify| notify.pass_on(None))? {
                self.notify = None;
            }
            if woken.ended {
                return status(child);
            }
        }
    }

    /// Waits for anything: the end, a signal, bytes for or from the terminal.
    fn poll(&self, child: &Child, terminal: Option<&Terminal>) -> Result<Woken> {
        let mut fds =
            vec![PollFd::new(&child.pidfd, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        let stdin = rustix::stdio::stdin();
        if let Some(terminal) = terminal {
            fds.push(PollFd::new(&terminal.master, PollFlags::IN));
            if terminal.input_open {
                fds.push(PollFd::new(&stdin, PollFlags::IN));
            }
        }
        let notify_at = fds.len();
        fds.extend(self.notify.as_ref().map(|notify| PollFd::from_borrowed_fd(notify.fd(), PollFlags::IN)));
        match rustix::event::poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno).context(|| "poll"),
        }
        let ready = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Ok(Woken {
            ended: ready(0),
            output: notify_at > 2 && ready(2),
            input: notify_at > 3 && ready(3),
            notified: ready(notify_at),
        })
    }

    /// Passes signals on; those about children mean reaping, a new window size is set on the terminal.
    fn forward(&self, child: &Child, terminal: Option<&Terminal>) -> Result<()> {
        while let Ok(Some(info)) = self.signals.read_signal() {
            match Signal::try_from(info.ssi_signo as i32) {
                Ok(Signal::SIGCHLD) => reap_others(child),
                Ok(Signal::SIGWINCH) if terminal.is_some() => {
                    terminal.map(Terminal::resize).unwrap_or_default()
                }
                // The Go runtime preempts itself with it; nobody means it for us.
                Ok(Signal::SIGURG | Signal::SIGPIPE) => {}
                Ok(signal) => send(child, signal as i32),
                Err(_) => send(child, info.ssi_signo as i32),
            }
        }
        Ok(())
    }
}

/// The process may just have ended: then there is nobody to tell.
fn send(child: &Child, number: i32) {
    if let Some(signal) = knarr_sys::process::signal(number) {
        let _ = rustix::process::pidfd_send_signal(&child.pidfd, signal);
    }
}

/// Reaps all children that have ended but the one whose status we want.
fn reap_others(child: &Child) {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) = waitid(Id::All, look) {
        if pid.as_raw() == child.pid.as_raw_nonzero().get() {
            return;
        }
        let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
    }
}

fn status(child: &Child) -> Result<u8> {
    let ended = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(child.pid), WaitOptions::empty()))
        .context(|| "wait4")?;
    let Some((_, status)) = ended else { return Ok(0) };
    let code = status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or(0));
    Ok(code as u8)
}

/// The terminal of the process, and ours.
struct Terminal {
    master: OwnedFd,
    saved: Option<Termios>,
    input_open: bool,
}

impl Terminal {
    fn new(master: OwnedFd) -> Result<Self> {
        let flags = rustix::fs::fcntl_getfl(&master).context(|| "fcntl(F_GETFL)")?;
        rustix::fs::fcntl_setfl(&master, flags | OFlags::NONBLOCK).context(|| "fcntl(F_SETFL)")?;
        let saved = rustix::termios::tcgetattr(rustix::stdio::stdin()).ok();
        if let Some(saved) = &saved {
            let mut raw = saved.clone();
            raw.make_raw();
            // What comes out of the container has bare newlines; ours makes lines of them.
            raw.output_modes |= OutputModes::OPOST;
            rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)
                .context(|| "tcsetattr")?;
        }
        terminal::keep_newlines(master.as_fd())?;
        let terminal = Terminal { master, saved, input_open: true };
        terminal.resize();
        Ok(terminal)
    }

    /// Where we have no terminal there is no size to take over.
    fn resize(&self) {
        if let Ok(size) = rustix::termios::tcgetwinsize(rustix::stdio::stdin()) {
            let _ = rustix::termios::tcsetwinsize(&self.master, size);
        }
    }

    fn relay(&mut self, input: bool, output: bool) {
        if input {
            self.input_open = copy(rustix::stdio::stdin(), self.master.as_fd());
            if !self.input_open {
                // End of file, as a terminal says it.
                let _ = rustix::io::write(&self.master, &[4]);
            }
        }
        if output {
            copy(self.master.as_fd(), rustix::stdio::stdout());
        }
    }

    /// What was written before the end.
    fn drain(&mut self) {
        while copy(self.master.as_fd(), rustix::stdio::stdout()) {}
    }

    fn restore(&mut self) {
        if let Some(saved) = self.saved.take() {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &saved);
        }
    }
}

/// One piece; whether there may be more.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut bytes = [0_u8; 16384];
    let Ok(length) = rustix::io::read(from, &mut bytes) else { return false };
    let mut rest = bytes.get(..length).unwrap_or_default();
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                let _ = rustix::event::poll(&mut [PollFd::new(&to, PollFlags::OUT)], None);
            }
            Err(_) => return false,
        }
    }
    length > 0
}
