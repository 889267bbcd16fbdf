//! The kernel's table of UDP flows (ctnetlink): listing them, and forgetting one.
//!
//! ```text
//! CT_GET, dump, by family and protocol -> {orig tuple {ip, proto}, reply tuple {ip, proto}, zone, id} ...
//! CT_DELETE {orig tuple, zone, id}     -> acknowledgement; another flow that took the tuple meanwhile stays
//! ```

use crate::nfnetlink::{
    self, Answer, Head, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, answers, attribute, find,
};
use anyhow::Context;
use rtnetlink::sys::Socket;
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = (NFNL_SUBSYS_CTNETLINK << 8) | 1;
const IPCTNL_MSG_CT_DELETE: u16 = (NFNL_SUBSYS_CTNETLINK << 8) | 2;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const IPPROTO_UDP: u8 = 17;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;
const CTA_FILTER_ORIG_FLAGS: u16 = 1;
/// The filter compares the protocol and nothing else.
const CTA_FILTER_F_CTA_PROTO_NUM: u32 = 1 << 3;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
/// The kernel sends at most 32 KiB at once.
const DATAGRAM: usize = 64 * 1024;

/// A UDP flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Flow {
    /// To whom its client sends.
    pub(super) destination: SocketAddr,
    /// Who answers, so whom its packets reach.
    pub(super) answers_from: SocketAddr,
    /// What the kernel tells it by, as it said it.
    identity: Vec<u8>,
}

#[cfg(test)]
impl Flow {
    pub(super) fn of(destination: SocketAddr, answers_from: SocketAddr) -> Self {
        Self { destination, answers_from, identity: Vec::new() }
    }
}

/// An open socket; it speaks for the network namespace in which it was opened.
pub(super) struct Flows {
    socket: Socket,
    sequence: u32,
}

impl Flows {
    pub(super) fn open() -> anyhow::Result<Self> {
        Ok(Self { socket: nfnetlink::open().context("open a netfilter socket")?, sequence: 0 })
    }

    /// All UDP flows of a family.
    pub(super) fn list(&mut self, is_six: bool) -> anyhow::Result<Vec<Flow>> {
        let family = if is_six { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
        let mut found = Vec::new();
        let asked = self.exchange(IPCTNL_MSG_CT_GET, NLM_F_DUMP, family, &only_udp(), |answer| {
            found.extend(flow(answer));
        });
        asked.context("list flows")?;
        Ok(found)
    }

    /// Forgets a flow; one that ended by itself is no error.
    pub(super) fn delete(&mut self, flow: &Flow) -> anyhow::Result<()> {
        let family = if flow.destination.is_ipv6() { NFPROTO_IPV6 } else { NFPROTO_IPV4 };
        match self.exchange(IPCTNL_MSG_CT_DELETE, NLM_F_ACK, family, &flow.identity, |_| {}) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => Ok(()),
            result => result.with_context(|| format!("forget a flow to {}", flow.destination)),
        }
    }

    /// Sends a question and reads until the acknowledgement, the end of the dump or an error.
    fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        family: u8,
        attributes: &[u8],
        mut each: impl FnMut(&Answer<'_>),
    ) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let head = Head { kind, flags: NLM_F_REQUEST | flags, sequence: self.sequence, family, resource: 0 };
        let mut question = Vec::new();
        nfnetlink::message(&mut question, head, attributes);
        self.socket.send(&question, 0)?;
        loop {
            let mut datagram = Vec::with_capacity(DATAGRAM);
            self.socket.recv(&mut datagram, 0)?;
            for answer in answers(&datagram).filter(|answer| answer.sequence == self.sequence) {
                match answer.code() {
                    Some(0) => return Ok(()),
                    Some(code) => return Err(io::Error::from_raw_os_error(code.wrapping_neg())),
                    None => each(&answer),
                }
            }
        }
    }
}

/// Spares the kernel, and us, the flows of other protocols. A kernel that does not know it (before 5.8) sends all.
fn only_udp() -> Vec<u8> {
    let protocol = attribute(CTA_TUPLE_PROTO | NLA_F_NESTED, &attribute(CTA_PROTO_NUM, &[IPPROTO_UDP]));
    let flags = attribute(CTA_FILTER_ORIG_FLAGS, &CTA_FILTER_F_CTA_PROTO_NUM.to_ne_bytes());
    [attribute(CTA_TUPLE_ORIG | NLA_F_NESTED, &protocol), attribute(CTA_FILTER | NLA_F_NESTED, &flags)]
        .concat()
}

/// Absent where it is no UDP flow.
fn flow(answer: &Answer<'_>) -> Option<Flow> {
    let (mut forth, mut back, mut identity) = (None, None, Vec::new());
    for (kind, value) in answer.attributes() {
        match kind {
            CTA_TUPLE_ORIG => {
                forth = Some(value);
                identity.extend(attribute(kind | NLA_F_NESTED, value));
            }
            CTA_TUPLE_REPLY => back = Some(value),
            CTA_ZONE | CTA_ID => identity.extend(attribute(kind, value)),
            _ => {}
        }
    }
    let destination = end(forth?, [CTA_IP_V4_DST, CTA_IP_V6_DST], CTA_PROTO_DST_PORT)?;
    let answers_from = end(back?, [CTA_IP_V4_SRC, CTA_IP_V6_SRC], CTA_PROTO_SRC_PORT)?;
    Some(Flow { destination, answers_from, identity })
}

/// One end of a tuple.
fn end(tuple: &[u8], addresses: [u16; 2], port: u16) -> Option<SocketAddr> {
    let (ip, protocol) = (find(tuple, CTA_TUPLE_IP)?, find(tuple, CTA_TUPLE_PROTO)?);
    if find(protocol, CTA_PROTO_NUM)? != [IPPROTO_UDP] {
        return None;
    }
    let four = || Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(find(ip, addresses[0])?).ok()?)));
    let six = || Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(find(ip, addresses[1])?).ok()?)));
    let port = u16::from_be_bytes(find(protocol, port)?.try_into().ok()?);
    Some(SocketAddr::new(four().or_else(six)?, port))
}
