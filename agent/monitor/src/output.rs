//! From a container's pipes to its log and to everyone attached, and the end of it.

use crate::attach_kind;
use crate::container::Key;
use crate::cri_log::Stream;
use crate::monitor::{Awaited, Monitor, now};
use rustix::io::Errno;
use std::time::Instant;

impl Monitor {
    /// The log and every attached client can take one more read of output.
    pub(crate) fn can_take_output(&self, container: Key) -> bool {
        let Some(container) = self.containers.get(&container) else { return false };
        let log_ready = container.log.is_none() || self.logs.is_ready();
        let clients_ready = container.attached.iter().all(|key| match self.connections.get(key) {
            Some(client) => match &client.phase {
                crate::connection::Phase::Attached(attached) => attached.has_room(),
                _ => true,
            },
            None => true,
        });
        log_ready && clients_ready
    }

    /// One read of one output.
    pub(crate) fn read_output(&mut self, key: Key, stream: Stream) {
        if !self.can_take_output(key) {
            return;
        }
        let Some(container) = self.containers.get_mut(&key) else { return };
        let Some(fd) = container.output(stream) else { return };
        let length = match rustix::io::read(&*fd, self.buffer.as_mut_slice()) {
            Err(Errno::AGAIN | Errno::INTR) => return,
            // A pty says EIO when its last other end has closed.
            Ok(0) | Err(_) => return self.close_output(key, stream),
            Ok(length) => length,
        };
        let data = self.buffer.get(..length).unwrap_or_default();
        if let Some(log) = container.log {
            self.logs.write(log, stream, now(), data);
        }
        if let Some(early) = &mut container.early {
            early.push(attach_kind(stream), data);
        }
        let attached: Vec<_> = container.attached.iter().copied().collect();
        for client in &attached {
            if let Some(attached) = self.connections.get_mut(client).and_then(|client| client.attached()) {
                attached.push(attach_kind(stream), self.buffer.get(..length).unwrap_or_default());
            }
        }
        attached.into_iter().for_each(|client| self.flush_attached(client));
    }

    /// Sends unread output to one client.
    pub(crate) fn flush_attached(&mut self, client: Key) {
        let done = self.connections.get_mut(&client).is_some_and(|client| !client.flush());
        if done {
            self.disconnect(client);
        }
    }

    /// Takes whatever step follows from where a container stands: the end of its output closes its log and lets its
    /// clients go, its exit is reported when the log is written.
    pub(crate) fn settle(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if !container.output_ended() {
            return;
        }
        if container.ended.is_some() {
            match container.log.take() {
                Some(log) => {
                    let ticket = self.logs.close(log, now());
                    self.tickets.insert(ticket, Awaited::Drain { container: key });
                }
                None if !self.is_draining(key) => self.report_exit(key),
                None => {}
            }
        }
        self.release_attached(key);
    }

    fn is_draining(&self, key: Key) -> bool {
        self.tickets
            .values()
            .any(|awaited| matches!(awaited, Awaited::Drain { container } if *container == key))
    }

    fn release_attached(&mut self, key: Key) {
        let Some(container) = self.containers.get(&key) else { return };
        for client in container.attached.clone() {
            if let Some(attached) = self.connections.get_mut(&client).and_then(|client| client.attached()) {
                attached.finishing = true;
            }
            self.flush_attached(client);
        }
    }

    /// Reports the exits whose output has not come to its end in time.
    pub(crate) fn report_overdue(&mut self, now: Instant) {
        let overdue: Vec<_> = self
            .containers
            .iter()
            .filter(|(_, container)| container.report_deadline().is_some_and(|deadline| deadline <= now))
            .map(|(key, _)| *key)
            .collect();
        overdue.into_iter().for_each(|key| self.report_exit(key));
    }

    /// This output has ended.
    fn close_output(&mut self, container: Key, stream: Stream) {
        if let Some(container) = self.containers.get_mut(&container) {
            *container.output(stream) = None;
        }
        self.settle(container);
    }
}
