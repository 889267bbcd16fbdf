//! The user's terminal while a container has it: raw mode that is always taken back, its size, and its keys.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::Read;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::Sender;

/// Raw mode of stdin; the old mode comes back on drop.
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    /// Switches, if stdin is a terminal.
    pub(super) fn enter() -> anyhow::Result<Option<Self>> {
        let stdin = std::io::stdin();
        let Ok(before) = tcgetattr(&stdin) else { return Ok(None) };
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // The terminal may be gone; there is nobody left to tell.
        let _gone = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Columns and rows of the terminal, if stdin is one.
fn size() -> Option<(u16, u16)> {
    tcgetwinsize(std::io::stdin()).ok().map(|size| (size.ws_col, size.ws_row))
}

/// Sends the size now and after every change, until nobody listens.
pub(super) async fn follow_size(sizes: Sender<(u16, u16)>) -> anyhow::Result<()> {
    let mut changed = signal(SignalKind::window_change())?;
    loop {
        if let Some(size) = size()
            && sizes.send(size).await.is_err()
        {
            return Ok(());
        }
        changed.recv().await;
    }
}

/// Sends what is typed or piped in, from a thread that a blocked read may keep (it ends with the process).
pub(super) fn forward_stdin(keys: Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            if keys.blocking_send(buffer[..read].to_vec()).is_err() {
                return;
            }
        }
    });
}
