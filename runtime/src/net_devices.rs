//! `linux.netDevices`: devices of the host that move into the container, with the addresses somebody gave them. And `lo`,
//! which every new network namespace has, down.
//!
//! The kernel moves and renames with one request and takes all addresses off. Those that are permanent and global are
//! given again inside; others belong to the network the device leaves. Routes are not kept: the specification leaves them to
//! whoever configures the network.

use crate::error::{Context, Error, Kind, Result};
use crate::netlink::{Answer, Netlink, Request, attribute, number};
use knarr_sys::namespace;
use rustix::net::AddressFamily;
use std::os::fd::AsRawFd;
use std::path::Path;

const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const CREATE: u16 = 0x400;
const LINK_NAME: u16 = 3;
const LINK_NAMESPACE_FD: u16 = 28;
const UP: u32 = 1;
const LOOPBACK: u32 = 1;
const ADDRESS_FIXED: usize = 8;
const ADDRESS_PERMANENT: u32 = 0x80;
const ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_BROADCAST: u16 = 4;
const ADDRESS_FLAGS: u16 = 8;
/// A name and its end.
const LONGEST_NAME: usize = 15;

/// An address that moves too.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    family: u8,
    prefix: u8,
    /// Attributes as they came.
    attributes: Vec<(u16, Vec<u8>)>,
}

/// What the kernel takes as a name.
pub(crate) fn is_name(name: &str) -> bool {
    let forbidden = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace() || c == '\0';
    !name.is_empty() && name.len() <= LONGEST_NAME && name != "." && name != ".." && !name.contains(forbidden)
}

/// Sets up `lo` of the network namespace that we are in. It is the first device that a namespace gets.
pub(crate) fn loopback_up() -> Result<()> {
    let up = Request::new(NEW_LINK, 0, &link(LOOPBACK, UP, UP));
    Netlink::open()?.ask(up).map(drop).context(|| "fail to set up interface lo")
}

/// Moves the device `from` of our network namespace into the one of this file, where it is called `to` and is up.
pub(crate) fn move_into(target: &Path, from: &str, to: &str) -> Result<()> {
    let here = Netlink::open()?;
    let device =
        find(&here, from).context(|| format!("link not found for interface {from} on runtime namespace"))?;
    let addresses = addresses(&here, device)?;
    let file = namespace::open(target)?;
    let there = open_in(&file)?;
    let moving = || format!("fail to move network device {from} to network namespace {}", target.display());
    // The kernel would move it, and only then find that it cannot give it the name.
    if find(&there, to).is_ok() {
        return Err(Error::new(Kind::Exists, format!("interface {to}: file exists"))).context(moving);
    }
    // Some attributes can only be changed while it is down.
    here.ask(Request::new(NEW_LINK, 0, &link(device, 0, UP))).context(|| "fail to set link down")?;
    let moved = Request::new(NEW_LINK, 0, &link(device, 0, 0))
        .attribute(LINK_NAME, &with_end(to))
        .attribute(LINK_NAMESPACE_FD, &(file.as_raw_fd() as u32).to_ne_bytes());
    here.ask(moved).context(moving)?;
    let device = find(&there, to)
        .context(|| format!("link not found for interface {to} on namespace {}", target.display()))?;
    for address in &addresses {
        give(&there, device, address).context(|| format!("fail to set an address of interface {to}"))?;
    }
    there
        .ask(Request::new(NEW_LINK, 0, &link(device, UP, UP)))
        .map(drop)
        .context(|| format!("fail to set up interface {to} on namespace {}", target.display()))
}

/// A socket belongs to the namespace in which it is made; this process has one thread and comes back.
fn open_in(target: &std::fs::File) -> Result<Netlink> {
    let kind = namespace::Kind::Network;
    let own = namespace::open(Path::new("/proc/self/ns/net"))?;
    namespace::join(target, kind)?;
    let opened = Netlink::open();
    namespace::join(&own, kind)?;
    opened
}

/// `struct ifinfomsg`
fn link(index: u32, flags: u32, change: u32) -> Vec<u8> {
    [0, index, flags, change].into_iter().flat_map(u32::to_ne_bytes).collect()
}

fn with_end(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn find(socket: &Netlink, name: &str) -> Result<u32> {
    let request = Request::new(GET_LINK, 0, &link(0, 0, 0)).attribute(LINK_NAME, &with_end(name));
    let answers = socket.ask(request)?;
    let found = answers.iter().find(|answer| answer.kind == NEW_LINK).and_then(|a| number(&a.body, 4));
    found.ok_or_else(|| Error::new(Kind::Os, "no such device"))
}

fn addresses(socket: &Netlink, device: u32) -> Result<Vec<Address>> {
    let answers = socket.ask(Request::dump(GET_ADDRESS, &[0; ADDRESS_FIXED])).context(|| "RTM_GETADDR")?;
    Ok(answers.iter().filter(|answer| answer.kind == NEW_ADDRESS).filter_map(|a| keep(a, device)).collect())
}

/// Whether somebody gave it for good, and for the whole network.
fn keep(answer: &Answer, device: u32) -> Option<Address> {
    let body = answer.body.as_slice();
    let (family, prefix, flags, scope) = (*body.first()?, *body.get(1)?, *body.get(2)?, *body.get(3)?);
    let flags =
        attribute(body, ADDRESS_FIXED, ADDRESS_FLAGS).and_then(|all| number(all, 0)).unwrap_or(flags.into());
    if number(body, 4)? != device || flags & ADDRESS_PERMANENT == 0 || scope != 0 {
        return None;
    }
    let copy = |kind| attribute(body, ADDRESS_FIXED, kind).map(|value| (kind, value.to_vec()));
    let attributes = [ADDRESS_LOCAL, ADDRESS, ADDRESS_BROADCAST].into_iter().filter_map(copy).collect();
    Some(Address { family, prefix, attributes })
}

fn give(socket: &Netlink, device: u32, address: &Address) -> Result<()> {
    let mut fixed = vec![address.family, address.prefix, 0, 0];
    fixed.extend(device.to_ne_bytes());
    let mut request = Request::new(NEW_ADDRESS, CREATE, &fixed);
    for (kind, value) in &address.attributes {
        request = request.attribute(*kind, value);
    }
    // It was in use a moment ago: nobody else has it.
    if i32::from(address.family) == i32::from(AddressFamily::INET6.as_raw()) {
        const NO_DETECTION: u32 = 0x02;
        request = request.attribute(ADDRESS_FLAGS, &NO_DETECTION.to_ne_bytes());
    }
    socket.ask(request).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["eth0", "a", "123456789012345", "a.b"] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "a:b", "1234567890123456", "a\n"] {
            assert!(!is_name(bad), "{bad:?}");
        }
    }

    fn answer(flags: u8, scope: u8, device: u32) -> Answer {
        let mut body = vec![2, 24, flags, scope];
        body.extend(device.to_ne_bytes());
        body.extend([8, 0, 2, 0, 10, 0, 0, 1]);
        Answer { kind: NEW_ADDRESS, body }
    }

    #[test]
    fn only_permanent_global_addresses_of_the_device_are_kept() {
        let kept = keep(&answer(0x80, 0, 7), 7).unwrap();
        assert_eq!((kept.family, kept.prefix), (2, 24));
        assert_eq!(kept.attributes, [(ADDRESS_LOCAL, vec![10, 0, 0, 1])]);
        for other in [answer(0, 0, 7), answer(0x80, 253, 7), answer(0x80, 0, 8)] {
            assert_eq!(keep(&other, 7), None);
        }
    }
}
