//! Ports for servers that must be told theirs: nobody listens there, and the kernel gives them to nobody by itself.
//!
//! They are not bound to find out: a child that another test starts at that moment has a copy of the socket until it begins
//! its own program, and the server would find the port taken.

use crate::eventually::eventually;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// For a start on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Below all that Linux gives to sockets without a port of their own, above the well-known ones.
const FIRST: u32 = 12_000;
const COUNT: u32 = 16_000;
/// For each process; those of two processes differ unless there are hundreds between them.
const EACH: u32 = 64;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// One that this process has not asked for yet.
///
/// # Panics
/// When everything is taken.
pub fn free_port() -> u16 {
    let next = || (std::process::id() * EACH + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST;
    let mut ports = std::iter::repeat_with(next).take(1000).filter_map(|port| u16::try_from(port).ok());
    let free = |port: &u16| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err();
    ports.find(free).expect("a free port")
}

/// Starts a server at a free port of loopback, and waits until it listens. A port that was free a moment ago may be taken
/// by now: then the server ends, and is started at another one.
///
/// # Panics
/// When it does not start.
pub fn serve(what: &str, mut command: impl FnMut(u16) -> Command) -> (Child, u16) {
    eventually(what, PATIENCE, || {
        let port = free_port();
        let mut process = command(port).spawn().expect(what);
        eventually(&format!("{what} listens or ends"), PATIENCE, || {
            let ended = process.try_wait().expect("wait").is_some();
            let listens = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            if ended || listens { Ok(()) } else { Err("neither".to_owned()) }
        });
        let ended = process.try_wait().expect("wait");
        ended.map_or(Ok((process, port)), |status| Err(format!("it ended: {status}")))
    })
}
