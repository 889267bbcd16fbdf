//! Ports for servers that must be told theirs: nobody listens there, and the kernel gives them to nobody by itself.
//!
//! They are not bound to find out: a child that another test starts at that moment has a copy of the socket until it begins
//! its own program, and the server would find the port taken.

use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

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
