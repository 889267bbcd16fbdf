//! Every process of the pod that loses its parent becomes ours; here they end.

use crate::adoption;
use crate::container::Key;
use crate::kill_tree::kill_tree;
use crate::monitor::{Monitor, Purpose, exit_now};
use crate::oom;
use knarr_monitor::exit_file;
use rustix::process::{Pid, WaitOptions, WaitStatus};
use std::process::{Command, Stdio};
use std::time::Instant;

impl Monitor {
    /// Reaps all that has ended.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            self.ended(pid, exit_code(status));
        }
        if self.calls.is_empty() {
            self.unclaimed.clear();
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        if self.logs.is_writer(pid) {
            return self.writer_ended(code);
        }
        if let Some(key) = self.calls.iter().find(|(_, (call, _))| call.child == pid).map(|(key, _)| *key) {
            return self.call_ended(key, code);
        }
        if let Some(key) = self.containers.iter().find(|(_, c)| c.pid == Some(pid)).map(|(key, _)| *key) {
            return self.container_ended(key, code);
        }
        if let Some(key) = self.execs.iter().find(|(_, exec)| exec.pid == pid).map(|(key, _)| *key) {
            return self.exec_ended(key, code);
        }
        // What exec starts may end before the runtime that started it. Anything else was an orphan of the pod.
        if !self.calls.is_empty() {
            self.unclaimed.insert(pid.as_raw_nonzero().get(), code);
        }
    }

    fn call_ended(&mut self, key: Key, code: i32) {
        let Some((mut call, purpose)) = self.calls.remove(&key) else { return };
        let result = if code == 0 { call.succeeded() } else { Err(call.failed(code)) };
        match purpose {
            Purpose::Create { connection, request, log } => self.created(connection, request, log, result),
            Purpose::Exec { connection, detached: true, .. } => {
                self.detached_exec_started(connection, result)
            }
            Purpose::Exec { connection, timeout, .. } => self.exec_started(connection, timeout, result),
        }
    }

    /// Records the exit, then lets the last output come in.
    pub(crate) fn container_ended(&mut self, key: Key, code: i32) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let mut exit = exit_now(code);
        exit.oom_killed = container.oom_counter.as_deref().is_some_and(oom::struck);
        if let Err(error) = exit_file::write(&self.directory, &container.id, &exit) {
            self.errors.note(&format!("record the exit of container {}: {error}", container.id));
        }
        if let Err(error) = adoption::forget(&container.id) {
            self.errors.note(&format!("remove the note about container {}: {error}", container.id));
        }
        container.end(exit);
        let on_exit = std::mem::take(&mut container.on_exit);
        self.settle(key);
        self.run_on_exit(&on_exit);
    }

    /// Starts what is to follow a container's end. Nobody waits for it: as a child of ours it is reaped like an orphan of
    /// the pod, and it may outlive us.
    fn run_on_exit(&mut self, words: &[String]) {
        let Some((program, arguments)) = words.split_first() else { return };
        let mut command = Command::new(program);
        command.args(arguments).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Err(error) = command.spawn() {
            self.errors.note(&format!("run {program} after an exit: {error}"));
        }
    }

    /// Whoever waited for the old writer is told; the logs go on in a new one.
    fn writer_ended(&mut self, code: i32) {
        self.errors.note(&format!("the log writer ended with exit status {code}"));
        for ticket in self.tickets.keys().copied().collect::<Vec<_>>() {
            self.log_answered(ticket, Err("the log writer ended unexpectedly".to_owned()));
        }
        if let Err(error) = self.logs.replace_writer() {
            self.errors.note(&format!("start the log writer: {error}"));
        }
    }

    /// Kills the execs whose time is up.
    pub(crate) fn kill_overdue(&mut self, now: Instant) {
        for exec in self.execs.values_mut() {
            if exec.deadline.is_some_and(|deadline| deadline <= now) {
                exec.deadline = None;
                exec.timed_out = true;
                kill_tree(exec.pid);
            }
        }
    }
}

/// A shell's convention: the status, or 128 + signal.
pub(crate) fn exit_code(status: WaitStatus) -> i32 {
    status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)).unwrap_or(255)
}
