//! The user's terminal while a container has it: raw mode that is always taken back, its size, and its keys.

use anyhow::bail;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{IsTerminal, Read};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;

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

/// Fails, in Docker's words, where a terminal has to be shared and stdin is none.
pub(super) fn check(shared: bool) -> anyhow::Result<()> {
    if shared && !std::io::stdin().is_terminal() {
        bail!("the input device is not a TTY");
    }
    Ok(())
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

/// Sends what is typed or piped in, from a thread that a blocked read may keep (it ends with the process). The
/// detach keys, typed one after the other, end it and tell so; other keys between them are sent.
pub(super) fn forward_stdin(typed: Sender<Vec<u8>>, keys: Vec<u8>, detach: oneshot::Sender<()>) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = [0; 8192];
        let mut sequence = Sequence { keys, seen: 0 };
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            let (bytes, complete) = sequence.pass(&buffer[..read]);
            if !bytes.is_empty() && typed.blocking_send(bytes).is_err() {
                return;
            }
            if complete {
                // Without the keys nobody waits for this.
                let _gone = detach.send(());
                return;
            }
        }
    });
}

/// Ends when that is told; never, where nobody is left to tell it.
pub(super) async fn told(detached: oneshot::Receiver<()>) {
    if detached.await.is_err() {
        std::future::pending().await
    }
}

/// Looks for keys in what is typed.
#[derive(Debug)]
struct Sequence {
    keys: Vec<u8>,
    seen: usize,
}

impl Sequence {
    /// What to pass on, and whether the keys are complete.
    fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut bytes = Vec::with_capacity(typed.len());
        for &byte in typed {
            if self.keys.get(self.seen) == Some(&byte) {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    return (bytes, true);
                }
                continue;
            }
            bytes.extend(self.keys.iter().take(self.seen));
            self.seen = 0;
            if self.keys.first() == Some(&byte) {
                self.seen = 1;
            } else {
                bytes.push(byte);
            }
        }
        (bytes, false)
    }
}

/// `ctrl-p,ctrl-q`, `a,b`: the bytes of the keys.
pub(super) fn keys(text: &str) -> anyhow::Result<Vec<u8>> {
    let key = |word: &str| match word.as_bytes() {
        [byte] => Ok(*byte),
        [b'c', b't', b'r', b'l', b'-', byte @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => Ok(byte & 0x1f),
        _ => anyhow::bail!(
            "Unknown character: '{word}': keys are a letter or ctrl-LETTER, with commas between"
        ),
    };
    text.split(',').filter(|word| !word.is_empty()).map(key).collect()
}

/// Signals that are passed on, by name, until nobody listens.
pub(super) fn signals() -> anyhow::Result<Receiver<&'static str>> {
    let (sender, receiver) = channel(4);
    for (kind, name) in [
        (SignalKind::interrupt(), "INT"),
        (SignalKind::terminate(), "TERM"),
        (SignalKind::hangup(), "HUP"),
        (SignalKind::quit(), "QUIT"),
        (SignalKind::user_defined1(), "USR1"),
        (SignalKind::user_defined2(), "USR2"),
    ] {
        let (mut signal, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                if sender.send(name).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_kept_back() {
        let mut sequence = Sequence { keys: keys("ctrl-p,ctrl-q").unwrap(), seen: 0 };
        assert_eq!(sequence.pass(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(sequence.pass(b"c"), (b"\x10c".to_vec(), false), "it was another key's turn");
        assert_eq!(sequence.pass(b"d\x10\x10\x11e"), (b"d\x10".to_vec(), true));
        let mut none = Sequence { keys: Vec::new(), seen: 0 };
        assert_eq!(none.pass(b"\x10\x11"), (b"\x10\x11".to_vec(), false));
        assert!(keys("ctrl-").is_err() && keys("shift-a").is_err());
    }
}
