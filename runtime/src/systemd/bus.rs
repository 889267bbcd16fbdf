//! A connection to systemd's manager: its private socket, else the bus it is on.

use crate::dbus::{self, Body, DAEMON, Incoming, Sort, Target};
use crate::error::{Context, Error, Kind, Result};
use crate::socket;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long systemd may stay silent. It is the longest a command waits for a unit.
const PATIENCE: Duration = Duration::from_secs(30);

const MANAGER: Target = Target {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// An open connection.
pub(super) struct Bus {
    socket: OwnedFd,
    serial: u32,
    /// Jobs that ended before anybody asked.
    removed: Vec<(String, String)>,
    /// Through a bus daemon, where signals must be asked for.
    through_daemon: bool,
}

impl Bus {
    /// To the system's manager, or to that of this user.
    pub(super) fn connect(user: bool) -> Result<Self> {
        let (private, bus) = places(user);
        let (socket, through_daemon) = match socket::connect(&private) {
            Ok(socket) => (socket, false),
            Err(first) => match socket::connect(&bus) {
                Ok(socket) => (socket, true),
                Err(second) => {
                    return Err(first.and(Err(second))).context(|| "unable to reach systemd");
                }
            },
        };
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE)).context(|| "setsockopt(SO_RCVTIMEO)")?;
        let mut connection = Bus { socket, serial: 0, removed: vec![], through_daemon };
        connection.authenticate()?;
        if through_daemon {
            connection.call_to(&DAEMON, "Hello", &Body::new(""))?;
        }
        Ok(connection)
    }

    /// By our user id, which the kernel vouches for. All at once: a first call that arrives together with a BEGIN of its
    /// own lies unread in systemd until more comes.
    fn authenticate(&mut self) -> Result<()> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let hex: String = uid.bytes().map(|byte| format!("{byte:02x}")).collect();
        self.send(format!("\0AUTH EXTERNAL {hex}\r\nBEGIN\r\n").as_bytes())?;
        let mut answer = Vec::new();
        // Byte by byte: what follows the line is not ours to read yet.
        while !answer.ends_with(b"\r\n") && answer.len() < 512 {
            let mut byte = [0_u8];
            self.receive(&mut byte)?;
            answer.extend_from_slice(&byte);
        }
        if answer.starts_with(b"OK ") {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&answer).trim_end().to_string();
        Err(Error::new(Kind::Os, format!("systemd refuses to talk to us: {said}")))
    }

    /// Asks for signals about jobs. On the private socket they come anyway.
    pub(super) fn subscribe(&mut self) -> Result<()> {
        if !self.through_daemon {
            return Ok(());
        }
        let mut rule = Body::new("s");
        rule.string("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        self.call_to(&DAEMON, "AddMatch", &rule)?;
        self.call("Subscribe", &Body::new("")).map(drop)
    }

    /// Calls a method of the manager.
    pub(super) fn call(&mut self, member: &str, body: &Body) -> Result<Incoming> {
        self.call_to(&MANAGER, member, body)
    }

    fn call_to(&mut self, target: &Target, member: &str, body: &Body) -> Result<Incoming> {
        self.serial += 1;
        self.send(&dbus::call(target, member, self.serial, body))?;
        loop {
            let incoming = self.next()?;
            match incoming.sort {
                Sort::Return if incoming.reply_to == self.serial => return Ok(incoming),
                Sort::Error if incoming.reply_to == self.serial => return Err(refusal(&incoming)),
                _ => self.remember(&incoming)?,
            }
        }
    }

    /// How a job ended.
    pub(super) fn job_result(&mut self, job: &str) -> Result<String> {
        loop {
            if let Some((_, result)) = self.removed.iter().find(|(removed, _)| removed == job) {
                return Ok(result.clone());
            }
            let incoming = self.next()?;
            self.remember(&incoming)?;
        }
    }

    fn remember(&mut self, incoming: &Incoming) -> Result<()> {
        if incoming.sort == Sort::Signal && incoming.member == "JobRemoved" {
            self.removed.push(removed_job(incoming)?);
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Incoming> {
        let mut head = [0_u8; 16];
        self.receive(&mut head)?;
        let mut whole = head.to_vec();
        whole.resize(dbus::length(&head)?, 0);
        self.receive(whole.get_mut(16..).unwrap_or_default())?;
        Ok(dbus::parse(&whole)?)
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let sent = rustix::io::retry_on_intr(|| rustix::io::write(&self.socket, bytes))
                .context(|| "write to systemd")?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    fn receive(&self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            match rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut *into)) {
                Ok(0) => return Err(Error::new(Kind::Os, "systemd closed the connection")),
                Ok(length) => into = into.get_mut(length..).unwrap_or_default(),
                Err(rustix::io::Errno::AGAIN) => {
                    return Err(Error::new(
                        Kind::Os,
                        format!("systemd did not answer within {} s", PATIENCE.as_secs()),
                    ));
                }
                Err(errno) => return Err(errno).context(|| "read from systemd"),
            }
        }
        Ok(())
    }
}

/// The private socket, and that of the bus.
fn places(user: bool) -> (PathBuf, PathBuf) {
    let unix = |variable: &str| {
        let address = std::env::var(variable).ok()?;
        let path = address.split(';').find_map(|one| one.strip_prefix("unix:path="))?;
        Some(PathBuf::from(path.split(',').next().unwrap_or_default()))
    };
    if !user {
        let bus = unix("DBUS_SYSTEM_BUS_ADDRESS");
        let usual = || PathBuf::from("/run/dbus/system_bus_socket");
        return ("/run/systemd/private".into(), bus.unwrap_or_else(usual));
    }
    let own = format!("/run/user/{}", rustix::process::geteuid().as_raw());
    let runtime = std::env::var("XDG_RUNTIME_DIR").unwrap_or(own);
    let runtime = Path::new(&runtime);
    (runtime.join("systemd/private"), unix("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| runtime.join("bus")))
}

/// Job and result of `JobRemoved(u id, o job, s unit, s result)`.
fn removed_job(signal: &Incoming) -> Result<(String, String)> {
    let mut arguments = signal.arguments();
    arguments.word()?;
    let job = arguments.string()?;
    arguments.string()?;
    Ok((job, arguments.string()?))
}

fn refusal(incoming: &Incoming) -> Error {
    let gone = incoming.error == "org.freedesktop.systemd1.NoSuchUnit";
    let kind = if gone { Kind::NotFound } else { Kind::Os };
    Error::new(kind, format!("{}: {}", incoming.error, incoming.first_string().unwrap_or_default()))
}
