//! From attached clients to a container's standard input and terminal.

use crate::container::Key;
use crate::monitor::Monitor;
use knarr_monitor::attach_frame::{Kind, decode_size};
use rustix::termios::Winsize;

impl Monitor {
    /// Takes the whole frames that a client has sent.
    pub(crate) fn take_frames(&mut self, client: Key) {
        loop {
            let Some(attached) = self.connections.get_mut(&client).and_then(|client| client.attached())
            else {
                return;
            };
            let container = attached.container;
            match attached.decoder.next_frame() {
                Ok(None) => return,
                Err(message) => {
                    self.errors.note(message);
                    return self.disconnect(client);
                }
                Ok(Some((Kind::Stdin, data))) if data.is_empty() => {
                    attached.input_ended = true;
                    self.end_input(container);
                }
                Ok(Some((Kind::Stdin, data))) => {
                    attached.has_input = true;
                    self.push_input(container, &data);
                }
                Ok(Some((Kind::Resize, data))) => self.resize(container, &data),
                Ok(Some((Kind::Stdout | Kind::Stderr, _))) => {}
            }
        }
    }

    fn push_input(&mut self, container: Key, data: &[u8]) {
        if let Some(input) =
            self.containers.get_mut(&container).and_then(|container| container.input.as_mut())
        {
            input.push(data);
        }
        self.flush_input(container);
    }

    /// One client's input is over; the container's is too where it was made for one client.
    pub(crate) fn end_input(&mut self, container: Key) {
        if let Some(container) = self.containers.get_mut(&container)
            && container.stdin_once
            && !container.terminal
            && let Some(input) = &mut container.input
        {
            input.ending = true;
        }
        self.flush_input(container);
    }

    /// Writes pending input; closes an input that is over.
    pub(crate) fn flush_input(&mut self, container: Key) {
        if let Some(container) = self.containers.get_mut(&container)
            && container.input.as_mut().is_some_and(|input| !input.flush())
        {
            container.input = None;
        }
    }

    /// A container without a terminal has no size, and one that is ending none that matters.
    fn resize(&self, container: Key, data: &[u8]) {
        let Some(container) = self.containers.get(&container).filter(|container| container.terminal) else {
            return;
        };
        if let (Some(master), Some((columns, rows))) = (&container.stdout, decode_size(data)) {
            let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// A client's frames are read only while the container takes its input.
    pub(crate) fn can_take_input(&self, container: Key) -> bool {
        let input = self.containers.get(&container).and_then(|container| container.input.as_ref());
        input.is_none_or(|input| input.has_room())
    }
}
