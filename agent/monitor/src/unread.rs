//! Terminals of processes that nobody stays with (`exec -d -t`): what they say is taken and dropped, for a full terminal would
//! stop them, and a closed one would end them.

use crate::container::Key;
use crate::monitor::Monitor;
use rustix::io::Errno;
use std::os::fd::OwnedFd;

impl Monitor {
    /// Keeps a terminal's master until its last process has closed it.
    pub(crate) fn keep_unread(&mut self, master: OwnedFd) {
        match rustix::io::ioctl_fionbio(&master, true) {
            Ok(()) => {
                let key = self.next_key();
                self.unread.insert(key, master);
            }
            Err(error) => self.errors.note(&format!("keep the terminal of an exec: {error}")),
        }
    }

    /// One read, for nobody.
    pub(crate) fn drop_unread(&mut self, key: Key) {
        let Some(master) = self.unread.get(&key) else { return };
        match rustix::io::read(master, self.buffer.as_mut_slice()) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A pty says EIO when its last other end has closed.
            Ok(0) | Err(_) => drop(self.unread.remove(&key)),
            Ok(_) => {}
        }
    }
}
