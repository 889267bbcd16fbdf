//! Dropping what is kept about a container, however far it has come: not created yet, being created, running, ended.
//!
//! Whoever asks relies on the answer: from then on nothing of this monitor brings the container back. So a runtime that
//! is just creating it (or executing something in it) is killed, and the answer waits until it is gone.

use crate::container::Key;
use crate::kill_tree::kill_tree;
use crate::monitor::{Awaited, Monitor, Purpose};
use knarr_monitor::exit_file;
use knarr_monitor::protocol::Answer;
use std::time::{Duration, Instant};

/// A killed process ends at once, unless the kernel holds it in some IO.
const PATIENCE: Duration = Duration::from_secs(2);

/// Somebody waits until killed runtimes are gone.
#[derive(Debug)]
pub(crate) struct Forgetting {
    connection: Key,
    id: String,
    give_up: Instant,
}

impl Monitor {
    /// The processes of a living container are not touched: ending them is the runtime's business.
    pub(crate) fn forget(&mut self, connection: Key, id: &str) {
        self.forget_before_creation(id);
        for (call, purpose) in self.calls.values() {
            if purpose.container() == id {
                kill_tree(call.child);
            }
        }
        let give_up = Instant::now() + PATIENCE;
        self.forgetting.push(Forgetting { connection, id: id.to_owned(), give_up });
        self.forget_what_is_gone();
    }

    /// Done in every round of the loop.
    pub(crate) fn forget_what_is_gone(&mut self) {
        let now = Instant::now();
        let all = std::mem::take(&mut self.forgetting);
        let in_flight = |id: &str| self.calls.values().any(|(_, purpose)| purpose.container() == id);
        let (waiting, gone) = all.into_iter().partition(|one| now < one.give_up && in_flight(&one.id));
        self.forgetting = waiting;
        for one in gone {
            self.forget_now(one.connection, &one.id);
        }
    }

    /// When the next one is given up.
    pub(crate) fn forget_deadline(&self) -> Option<Instant> {
        self.forgetting.iter().map(|one| one.give_up).min()
    }

    /// Creations that still wait for their log.
    fn forget_before_creation(&mut self, id: &str) {
        let waits =
            |awaited: &Awaited| matches!(awaited, Awaited::Create { request, .. } if request.id == id);
        let waiting: Vec<_> = self.tickets.extract_if(.., |_, awaited| waits(awaited)).collect();
        for (_, awaited) in waiting {
            if let Awaited::Create { connection, log, .. } = awaited {
                self.close_log(Some(log));
                self.refuse(connection, format!("container {id} was forgotten"));
            }
        }
    }

    /// Drops stdio, log, exit and note.
    fn forget_now(&mut self, connection: Key, id: &str) {
        if let Some(container) = self.find(id).and_then(|key| self.containers.remove(&key)) {
            self.close_log(container.log);
            container.attached.iter().for_each(|client| drop(self.connections.remove(client)));
            for waiter in container.waiters {
                self.refuse(waiter, format!("container {id} was forgotten"));
            }
        }
        self.drop_early_clients(id);
        match exit_file::forget(&self.directory, id) {
            Ok(()) => self.answer(connection, &Answer::Done {}),
            Err(error) => self.refuse(connection, format!("remove the exit of container {id}: {error}")),
        }
    }
}

impl Purpose {
    fn container(&self) -> &str {
        match self {
            Purpose::Create { request, .. } => &request.id,
            Purpose::Exec { container_id, .. } => container_id,
        }
    }
}
