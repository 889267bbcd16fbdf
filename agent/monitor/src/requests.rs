//! What the monitor does for each request.

use crate::adoption;
use crate::connection::Phase;
use crate::container::{Container, Key};
use crate::kill_tree::kill_tree;
use crate::monitor::{Awaited, Exec, Monitor, Purpose, exit_now};
use crate::oom;
use crate::runtime_call::{Invocation, RuntimeCall, no_stdio, process_file};
use crate::stdio::{self, FarEnds, NearEnds};
use knarr_monitor::protocol::{self, Answer, Create, Envelope, Request, Restore};
use knarr_monitor::{exit_file, protocol::VERSION};
use rustix::process::Pid;
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

impl Monitor {
    /// One whole request line has come.
    pub(crate) fn handle(&mut self, connection: Key, line: &[u8]) {
        let request = match serde_json::from_slice::<Envelope>(line) {
            Ok(Envelope { version: VERSION, request }) => request,
            Ok(Envelope { version, .. }) => {
                let message =
                    format!("protocol version {version} is not supported, this monitor speaks {VERSION}");
                return self.refuse(connection, message);
            }
            Err(error) => return self.refuse(connection, format!("invalid request: {error}")),
        };
        if let Some(client) = self.connections.get_mut(&connection) {
            client.phase = Phase::Waiting;
        }
        match request {
            Request::Create(request) => self.create(connection, creation(&request), request),
            Request::Restore(request) => self.create(connection, restoration(&request), request.container),
            Request::Exec(request) => self.exec(connection, request),
            Request::Wait(container) => self.wait(connection, &container.id),
            Request::Forget(container) => self.forget(connection, &container.id),
            Request::ReopenLog(container) => self.reopen_log(connection, &container.id),
            Request::Attach(container) => self.attach(connection, &container.id),
            Request::Shutdown {} => self.shut_down(connection),
        }
    }

    /// Opens the log first: a container whose output cannot be kept is not created. `command` is the runtime's.
    fn create(&mut self, connection: Key, command: Vec<String>, request: Create) {
        let creating = self.calls.values().any(
            |(_, purpose)| matches!(purpose, Purpose::Create { request: other, .. } if other.id == request.id),
        );
        if creating || self.find(&request.id).is_some() {
            return self.refuse(connection, format!("container with id exists: {}", request.id));
        }
        let Some(path) = request.log_path.clone() else {
            return self.run_create(connection, command, request, None);
        };
        match self.logs.open(path) {
            Ok((log, ticket)) => {
                self.tickets.insert(ticket, Awaited::Create { connection, command, request, log });
            }
            Err(error) => self.refuse(connection, format!("start the log writer: {error}")),
        }
    }

    /// Runs `runtime create`, or `runtime restore`.
    pub(crate) fn run_create(
        &mut self,
        connection: Key,
        command: Vec<String>,
        request: Create,
        log: Option<crate::logs::LogId>,
    ) {
        let invocation = Invocation { runtime: &request.runtime, command, id: &request.id, tty: request.tty };
        let number = self.next_key();
        let stdio = if request.tty { Ok(no_pipes()) } else { stdio::pipes(request.stdin, true) };
        match self.spawn(number, invocation, stdio) {
            Ok(call) => {
                self.calls.insert(number, (call, Purpose::Create { connection, request, log }));
            }
            Err(error) => {
                self.close_log(log);
                self.refuse(connection, error.to_string());
            }
        }
    }

    fn spawn(
        &self,
        number: u64,
        invocation: Invocation<'_>,
        stdio: io::Result<(NearEnds, FarEnds)>,
    ) -> io::Result<RuntimeCall> {
        let (near, far) = stdio?;
        RuntimeCall::spawn(&self.directory, number, invocation, near, far)
    }

    /// `runtime create` has ended.
    pub(crate) fn created(
        &mut self,
        connection: Key,
        request: Create,
        log: Option<crate::logs::LogId>,
        result: Result<(Pid, NearEnds), String>,
    ) {
        let request_id = request.id.clone();
        let container = result.and_then(|(pid, near)| {
            if let Err(error) = adoption::keep(&request, pid, &near) {
                self.errors.note(&format!("leave a note about container {request_id}: {error}"));
            }
            Container::new(request, pid, near, log).map(|c| (pid, c)).map_err(|error| error.to_string())
        });
        match container {
            Ok((pid, mut container)) => {
                let number = pid.as_raw_nonzero().get();
                container.oom_counter = oom::counter_of(number, &self.cgroup_mounts);
                let key = self.next_key();
                self.containers.insert(key, container);
                self.attach_early_clients(key);
                self.answer(connection, &Answer::Created { pid: number });
                if let Some(code) = self.unclaimed.remove(&pid.as_raw_nonzero().get()) {
                    self.container_ended(key, code);
                }
            }
            Err(message) => {
                self.drop_early_clients(&request_id);
                self.close_log(log);
                self.refuse(connection, message);
            }
        }
    }

    fn exec(&mut self, connection: Key, request: protocol::Exec) {
        let number = self.next_key();
        let process = process_file(&self.directory, number);
        if let Err(error) = std::fs::write(&process, &request.process) {
            return self.refuse(connection, format!("write {}: {error}", process.display()));
        }
        let command =
            vec!["exec".into(), "--detach".into(), "--process".into(), process.display().to_string()];
        let invocation =
            Invocation { runtime: &request.runtime, command, id: &request.container_id, tty: request.tty };
        let bare = request.tty || request.detached;
        let stdio = if bare { Ok(no_pipes()) } else { stdio::pipes(request.stdin, false) };
        match self.spawn(number, invocation, stdio) {
            Ok(call) => {
                let purpose = Purpose::Exec {
                    connection,
                    container_id: request.container_id,
                    timeout: request.timeout,
                    detached: request.detached,
                };
                self.calls.insert(number, (call, purpose));
            }
            Err(error) => self.refuse(connection, error.to_string()),
        }
    }

    /// `runtime exec` has ended: hand the stdio over, or kill what nobody waits for any more.
    pub(crate) fn exec_started(
        &mut self,
        connection: Key,
        timeout: Option<std::time::Duration>,
        result: Result<(Pid, NearEnds), String>,
    ) {
        let (pid, near) = match result {
            Ok(started) => started,
            Err(message) => return self.refuse(connection, message),
        };
        let descriptors: Vec<_> = [&near.stdin, &near.stdout, &near.stderr]
            .into_iter()
            .flatten()
            .map(|descriptor| descriptor.as_fd())
            .collect();
        let answer = Answer::Started { pid: pid.as_raw_nonzero().get() };
        let alive = self.answer_and_keep(connection, &answer, &descriptors, Phase::Waiting);
        let exec = Exec {
            pid,
            connection: alive.then_some(connection),
            deadline: timeout.map(|timeout| Instant::now() + timeout),
            timed_out: false,
        };
        let key = self.next_key();
        self.execs.insert(key, exec);
        match self.unclaimed.remove(&pid.as_raw_nonzero().get()) {
            Some(code) => self.exec_ended(key, code),
            None if !alive => kill_tree(pid),
            None => {}
        }
    }

    /// `runtime exec` has ended, and nobody stays with what it started: that is reaped like an orphan of the pod.
    pub(crate) fn detached_exec_started(&mut self, connection: Key, result: Result<(Pid, NearEnds), String>) {
        match result {
            Ok((pid, near)) => {
                if let Some(master) = near.stdout {
                    self.keep_unread(master);
                }
                self.answer(connection, &Answer::Started { pid: pid.as_raw_nonzero().get() });
            }
            Err(message) => self.refuse(connection, message),
        }
    }

    fn wait(&mut self, connection: Key, id: &str) {
        let Some(key) = self.find(id) else { return self.answer_recorded_exit(connection, id) };
        if let Some(container) = self.containers.get_mut(&key) {
            container.waiters.insert(connection);
            if container.ended.is_some() && container.report_deadline().is_none() {
                self.report_exit(key);
            }
        }
    }

    /// For a container of an earlier monitor of this pod.
    fn answer_recorded_exit(&mut self, connection: Key, id: &str) {
        match exit_file::read(&self.directory, id) {
            Ok(Some(exit)) => self.answer(connection, &Answer::Exited(exit)),
            Ok(None) => self.refuse(connection, format!("container {id} is not known to its monitor")),
            Err(error) => self.refuse(connection, format!("read the exit of container {id}: {error}")),
        }
    }

    fn reopen_log(&mut self, connection: Key, id: &str) {
        let Some(container) = self.find(id).and_then(|key| self.containers.get(&key)) else {
            return self.refuse(connection, format!("container {id} is not known to its monitor"));
        };
        match container.log {
            Some(log) => {
                let ticket = self.logs.reopen(log);
                self.tickets.insert(ticket, Awaited::Reopen { connection });
            }
            None => self.answer(connection, &Answer::Done {}),
        }
    }

    fn shut_down(&mut self, connection: Key) {
        let living = self.containers.values().find(|container| container.pid.is_some());
        match living.map(|container| container.id.clone()) {
            Some(id) => self.refuse(connection, format!("container {id} is still running")),
            None => {
                self.stopping = true;
                self.answer(connection, &Answer::Done {});
            }
        }
    }

    /// The log writer has answered.
    pub(crate) fn log_answered(&mut self, ticket: u32, result: Result<(), String>) {
        match (self.tickets.remove(&ticket), result) {
            (Some(Awaited::Create { connection, command, request, log }), Ok(())) => {
                self.run_create(connection, command, request, Some(log));
            }
            (Some(Awaited::Create { connection, log, .. }), Err(message)) => {
                self.close_log(Some(log));
                self.refuse(connection, message);
            }
            (Some(Awaited::Reopen { connection }), Ok(())) => self.answer(connection, &Answer::Done {}),
            (Some(Awaited::Reopen { connection }), Err(message)) => self.refuse(connection, message),
            (Some(Awaited::Drain { container }), _) => self.report_exit(container),
            (None, Err(message)) => self.errors.note(&message),
            (None, Ok(())) => {}
        }
    }

    pub(crate) fn close_log(&mut self, log: Option<crate::logs::LogId>) {
        if let Some(log) = log {
            self.logs.close(log, crate::monitor::now());
        }
    }

    /// A process started by exec has ended.
    pub(crate) fn exec_ended(&mut self, key: Key, code: i32) {
        let Some(exec) = self.execs.remove(&key) else { return };
        if let Some(connection) = exec.connection {
            let mut exit = exit_now(code);
            exit.timed_out = exec.timed_out;
            self.answer(connection, &Answer::Exited(exit));
        }
    }
}

fn creation(request: &Create) -> Vec<String> {
    let command: &[&str] = if request.started { &["run", "--detach"] } else { &["create"] };
    let words = command.iter().copied().chain(["--bundle"]).map(str::to_owned);
    words.chain([request.bundle.display().to_string()]).collect()
}

fn restoration(request: &Restore) -> Vec<String> {
    let bundle = request.container.bundle.display().to_string();
    let (images, work) = (request.images.display().to_string(), request.work.display().to_string());
    let words = ["restore", "--detach", "--file-locks", "--bundle", &bundle, "--image-path", &images];
    words.into_iter().chain(["--work-path", &work]).map(str::to_owned).collect()
}

/// With a terminal, the runtime sends what takes the place of pipes.
fn no_pipes() -> (NearEnds, FarEnds) {
    (NearEnds::default(), no_stdio())
}
