//! Clients that come to stay and clients that go.

use crate::connection::{Attached, Phase};
use crate::container::Key;
use crate::kill_tree::kill_tree;
use crate::monitor::{Monitor, Purpose};
use knarr_monitor::protocol::Answer;

impl Monitor {
    /// Joins a container's stdio, or waits for the container to be created.
    pub(crate) fn attach(&mut self, connection: Key, id: &str) {
        let found = self.find(id);
        let phase = match found {
            Some(key) => Phase::Attached(Attached::new(key)),
            None => Phase::AwaitsContainer(id.to_owned()),
        };
        if !self.answer_and_keep(connection, &Answer::Done {}, &[], phase) {
            return self.disconnect(connection);
        }
        if let Some(key) = found {
            self.join(key, connection);
            self.settle(key);
        }
    }

    /// The first client of an interactive container gets what it has missed.
    fn join(&mut self, container: Key, client: Key) {
        let Some(container) = self.containers.get_mut(&container) else { return };
        container.attached.insert(client);
        let Some(early) = container.early.take() else { return };
        if let Some(attached) = self.connections.get_mut(&client).and_then(|client| client.attached()) {
            early.pieces().for_each(|(kind, data)| attached.push(kind, data));
        }
        self.flush_attached(client);
    }

    /// The container has just been created, and nothing of its output has been read yet.
    pub(crate) fn attach_early_clients(&mut self, key: Key) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        for (client, connection) in &mut self.connections {
            if matches!(&connection.phase, Phase::AwaitsContainer(id) if *id == container.id) {
                connection.phase = Phase::Attached(Attached::new(key));
                container.attached.insert(*client);
                container.early = None;
            }
        }
    }

    /// The container will not come.
    pub(crate) fn drop_early_clients(&mut self, id: &str) {
        self.connections
            .retain(|_, client| !matches!(&client.phase, Phase::AwaitsContainer(awaited) if awaited == id));
    }

    /// A client has gone. An exec ends with its client; a container does not.
    pub(crate) fn disconnect(&mut self, connection: Key) {
        let client = self.connections.remove(&connection);
        for container in self.containers.values_mut() {
            container.waiters.remove(&connection);
            container.attached.remove(&connection);
        }
        for (call, purpose) in self.calls.values() {
            if matches!(purpose, Purpose::Exec { connection: of, .. } if *of == connection) {
                kill_tree(call.child);
            }
        }
        for exec in self.execs.values_mut().filter(|exec| exec.connection == Some(connection)) {
            exec.connection = None;
            kill_tree(exec.pid);
        }
        if let Some(Phase::Attached(attached)) = client.map(|client| client.phase) {
            if attached.has_input && !attached.input_ended {
                self.end_input(attached.container);
            }
            self.settle(attached.container);
        }
    }
}
