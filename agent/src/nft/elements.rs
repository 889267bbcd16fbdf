//! Changes of set elements without a process: the hot path of every pod that comes or goes.
//!
//! `nft` costs a process, a listing of the table and, after a deletion, a wait for the kernel when its socket is
//! closed. Adding or deleting elements of sets that exist needs none of this: one batch on a socket that stays open.
//! Everything else (chains, rules, verdicts) goes through `nft`.
//!
//! ```text
//! BATCH_BEGIN | NEWSETELEM or DELSETELEM {table, set, elements {element {key {value}, data {value}}}} ... | BATCH_END
//! ```

use super::{Layer, Table};
use crate::nfnetlink::{
    self, Head, NLA_F_NESTED, NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST, answers, attribute,
};
use anyhow::{Context, bail};
use rtnetlink::sys::Socket;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;
const NFT_MSG_NEWSETELEM: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 12;
const NFT_MSG_DELSETELEM: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 14;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;
const NFPROTO_BRIDGE: u8 = 7;
const NFTA_SET_ELEM_LIST_TABLE: u16 = 1;
const NFTA_SET_ELEM_LIST_SET: u16 = 2;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;
const NFTA_DATA_VALUE: u16 = 1;
/// The kernel's room for the name of a link.
const LINK_NAME: usize = 16;
/// Acknowledgements are small; a datagram of the kernel carries several.
const DATAGRAM: usize = 16 * 1024;

/// One element that comes or goes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Change<'a> {
    set: &'a str,
    key: &'a str,
    /// Present where the element comes; empty in a set.
    value: Option<&'a str>,
}

/// An open socket; it speaks for the network namespace in which it was opened.
pub(crate) struct Elements {
    socket: Socket,
    sequence: u32,
}

impl Elements {
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self { socket: nfnetlink::open()?, sequence: 0 })
    }

    /// Commits the difference between two states of a table that differ in elements only; blocks. Any error leaves
    /// the kernel's table as it was.
    pub(crate) fn commit(&mut self, new: &Table, old: &Table) -> anyhow::Result<()> {
        let changes = changes(new, old).context("more than elements changed")?;
        if changes.is_empty() {
            return Ok(());
        }
        let first = self.sequence.wrapping_add(1);
        let batch = batch(new, &changes, first).context("an element that only nft understands")?;
        let count = u32::try_from(changes.len()).context("too many elements")?;
        // The marks around the batch have numbers of their own.
        self.sequence = self.sequence.wrapping_add(count).wrapping_add(2);
        self.socket.send(&batch, 0).context("send to nfnetlink")?;
        self.acknowledged(first, changes.len())
    }

    /// Reads one acknowledgement per change; the first error fails the batch.
    fn acknowledged(&mut self, first: u32, mut expected: usize) -> anyhow::Result<()> {
        while expected > 0 {
            let mut datagram = Vec::with_capacity(DATAGRAM);
            self.socket.recv(&mut datagram, 0).context("receive from nfnetlink")?;
            for answer in answers(&datagram) {
                let (sequence, Some(code)) = (answer.sequence, answer.code()) else { continue };
                if sequence.wrapping_sub(first) > self.sequence.wrapping_sub(first) {
                    continue;
                }
                if code != 0 {
                    bail!("nfnetlink: {}", io::Error::from_raw_os_error(code.wrapping_neg()));
                }
                expected = expected.saturating_sub(1);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Elements {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elements").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// The elements in which two states differ; absent when they differ in more.
fn changes<'a>(new: &'a Table, old: &'a Table) -> Option<Vec<Change<'a>>> {
    if new.chains != old.chains || !new.sets.keys().eq(old.sets.keys()) {
        return None;
    }
    let mut changes = Vec::new();
    for (name, now) in &new.sets {
        let before = old.sets.get(name).filter(|before| before.definition == now.definition)?;
        let gone = before.elements.iter().filter(|(key, value)| now.elements.get(*key) != Some(*value));
        changes.extend(gone.map(|(key, _)| Change { set: name, key, value: None }));
        let came = now.elements.iter().filter(|(key, value)| before.elements.get(*key) != Some(*value));
        changes.extend(came.map(|(key, value)| Change { set: name, key, value: Some(value) }));
    }
    Some(changes)
}

fn batch(table: &Table, changes: &[Change<'_>], first: u32) -> Option<Vec<u8>> {
    let family = match table.layer {
        Layer::Inet => NFPROTO_INET,
        Layer::Bridge => NFPROTO_BRIDGE,
    };
    let mut bytes = Vec::new();
    // The marks name the subsystem; they carry the numbers before and after the changes, so that a complaint about
    // one of them is recognised too.
    message(&mut bytes, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, first.wrapping_sub(1), NFPROTO_UNSPEC, &[]);
    let mut sequence = first;
    for change in changes {
        let (kind, flags) = match change.value {
            Some(_) => (NFT_MSG_NEWSETELEM, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE),
            None => (NFT_MSG_DELSETELEM, NLM_F_REQUEST | NLM_F_ACK),
        };
        message(&mut bytes, kind, flags, sequence, family, &attributes(&table.name, change)?);
        sequence = sequence.wrapping_add(1);
    }
    message(&mut bytes, NFNL_MSG_BATCH_END, NLM_F_REQUEST, sequence, NFPROTO_UNSPEC, &[]);
    Some(bytes)
}

fn attributes(table: &str, change: &Change<'_>) -> Option<Vec<u8>> {
    let value = |text: &str| Some(attribute(NFTA_DATA_VALUE, &encode(text)?));
    let mut element = attribute(NFTA_SET_ELEM_KEY | NLA_F_NESTED, &value(change.key)?);
    if let Some(data) = change.value.filter(|data| !data.is_empty()) {
        element.extend(attribute(NFTA_SET_ELEM_DATA | NLA_F_NESTED, &value(data)?));
    }
    let element = attribute(NFTA_LIST_ELEM | NLA_F_NESTED, &element);
    let name = |text: &str| [text.as_bytes(), &[0]].concat();
    Some(
        [
            attribute(NFTA_SET_ELEM_LIST_TABLE, &name(table)),
            attribute(NFTA_SET_ELEM_LIST_SET, &name(change.set)),
            attribute(NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED, &element),
        ]
        .concat(),
    )
}

/// `10.42.0.5 . tcp . 80` as the kernel stores it: each part of a concatenation fills whole 32-bit registers.
fn encode(text: &str) -> Option<Vec<u8>> {
    let parts: Option<Vec<Vec<u8>>> = text.split(" . ").map(part).collect();
    let mut parts = parts?;
    if parts.len() > 1 {
        parts.iter_mut().for_each(|part| part.resize(part.len().next_multiple_of(4), 0));
    }
    Some(parts.concat())
}

fn part(text: &str) -> Option<Vec<u8>> {
    match text {
        "tcp" => Some(vec![6]),
        "udp" => Some(vec![17]),
        "sctp" => Some(vec![132]),
        _ if text.contains('.') => Some(text.parse::<Ipv4Addr>().ok()?.octets().to_vec()),
        _ if text.starts_with('"') => link(text.trim_matches('"')),
        _ if text.starts_with("0x") => {
            u128::from_str_radix(text.get(2..)?, 16).ok().map(|bits| bits.to_be_bytes().to_vec())
        }
        _ if text.contains(':') => address_or_hardware(text),
        _ => Some(text.parse::<u16>().ok()?.to_be_bytes().to_vec()),
    }
}

fn link(name: &str) -> Option<Vec<u8>> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(LINK_NAME, 0);
    (name.len() < LINK_NAME).then_some(bytes)
}

fn address_or_hardware(text: &str) -> Option<Vec<u8>> {
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some(address.octets().to_vec());
    }
    let bytes: Option<Vec<u8>> = text.split(':').map(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    bytes.filter(|bytes| bytes.len() == 6)
}

/// Appends a message of nf_tables.
fn message(bytes: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, family: u8, attributes: &[u8]) {
    let head = Head { kind, flags, sequence, family, resource: NFNL_SUBSYS_NFTABLES };
    nfnetlink::message(bytes, head, attributes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network_lab::Lab;
    use crate::nft::{Set, apply};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn table(elements: &[&[(String, String)]; 3]) -> Table {
        let mut table = Table::new("t");
        let definitions = [
            ("addresses", "type ipv4_addr;"),
            ("pairs", "type ipv4_addr . ipv4_addr;"),
            ("ports", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;"),
        ];
        for ((name, definition), elements) in definitions.iter().zip(elements) {
            let mut set = Set::new(*definition);
            set.elements = elements.iter().cloned().collect::<BTreeMap<_, _>>();
            table.sets.insert((*name).to_owned(), set);
        }
        table
    }

    fn any_table() -> impl Strategy<Value = Table> {
        let numbers = || proptest::collection::btree_set(0u8..6, 0..5);
        (numbers(), numbers(), proptest::collection::vec((0u8..4, 0u8..3, 1u16..4), 0..5)).prop_map(
            |(a, b, c)| {
                let a: Vec<_> = a.iter().map(|n| (format!("10.0.0.{n}"), String::new())).collect();
                let b: Vec<_> =
                    b.iter().map(|n| (format!("10.0.0.{n} . 10.0.0.{n}"), String::new())).collect();
                let protocol = |n: u8| ["tcp", "udp", "sctp"][usize::from(n)];
                let c: Vec<_> = c
                    .iter()
                    .map(|&(n, p, port)| {
                        (format!("10.0.0.{n} . {} . {port}", protocol(p)), format!("10.1.0.{n} . {port}"))
                    })
                    .collect();
                table(&[&a, &b, &c])
            },
        )
    }

    /// `nft` is the oracle: what we write is what it would have written.
    #[test]
    fn the_kernel_holds_what_nft_would_have_written() {
        Lab::run(|lab| async move {
            let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(12));
            let outcome = runner.run(&proptest::collection::vec(any_table(), 2..5), |steps| {
                let mut kernel = steps[0].clone();
                apply(&kernel.replacement()).unwrap();
                let mut elements = Elements::open().unwrap();
                for step in steps {
                    elements.commit(&step, &kernel).unwrap();
                    kernel = step;
                }
                let ours = lab.shell("nft list ruleset");
                apply(&kernel.replacement()).unwrap();
                prop_assert_eq!(ours, lab.shell("nft list ruleset"));
                Ok(())
            });
            outcome.unwrap();
        });
    }

    /// Names of links, hardware addresses, addresses of version 6 and numbers, of a table that sees frames.
    #[test]
    fn what_a_bridge_sees_is_written_as_nft_writes_it() {
        Lab::run(|lab| async move {
            let with = |pods: &[u8]| {
                let mut table = Table::of_bridge("t");
                for (name, definition, element) in [
                    ("links", "type ifname;", "\"vethN\""),
                    ("hardware", "type ifname . ether_addr;", "\"vethN\" . 0a:58:0a:2a:00:0N"),
                    ("addresses", "type ifname . ipv6_addr;", "\"vethN\" . fd00::N"),
                    ("alone", "type ipv6_addr;", "fd00:1:2::N"),
                    (
                        "claims",
                        "typeof iifname . @th,64,128;",
                        "\"vethN\" . 0xfd00000000000000000000000000000N",
                    ),
                ] {
                    let mut set = Set::new(definition);
                    let elements = pods.iter().map(|n| (element.replace('N', &n.to_string()), String::new()));
                    set.elements = elements.collect();
                    table.sets.insert(name.to_owned(), set);
                }
                table
            };
            let mut elements = Elements::open().unwrap();
            let (mut kernel, steps) = (with(&[]), [with(&[1, 2, 3]), with(&[3, 4]), with(&[4, 5])]);
            apply(&kernel.replacement()).unwrap();
            for step in steps {
                elements.commit(&step, &kernel).unwrap();
                kernel = step;
                let ours = lab.shell("nft list ruleset");
                apply(&kernel.replacement()).unwrap();
                assert_eq!(ours, lab.shell("nft list ruleset"));
            }
        });
    }

    /// A batch that cannot be committed says why and changes nothing; the socket goes on.
    #[test]
    fn a_refused_batch_changes_nothing() {
        Lab::run(|lab| async move {
            let element = |n: u8| (format!("10.0.0.{n}"), String::new());
            let (empty, one, two) = (
                table(&[&[], &[], &[]]),
                table(&[&[element(1)], &[], &[]]),
                table(&[&[element(2)], &[], &[]]),
            );
            let mut elements = Elements::open().unwrap();
            let missing = elements.commit(&one, &empty).unwrap_err().to_string();
            assert!(missing.contains("No such file or directory"), "{missing}");
            apply(&empty.replacement()).unwrap();
            let before = lab.shell("nft list ruleset");
            elements.commit(&two, &one).unwrap_err();
            assert_eq!(lab.shell("nft list ruleset"), before);
            elements.commit(&two, &empty).unwrap();
            assert!(lab.shell("nft list ruleset").contains("10.0.0.2"));
        });
    }

    #[test]
    fn verdicts_and_rules_are_left_to_nft() {
        let empty = table(&[&[], &[], &[]]);
        let odd = table(&[&[("10.0.0.1".to_owned(), "goto a".to_owned())], &[], &[]]);
        assert!(batch(&odd, &changes(&odd, &empty).unwrap(), 1).is_none());
        let mut other = empty.clone();
        other.chains.insert("c".to_owned(), crate::nft::Chain::plain(vec![]));
        assert!(changes(&other, &empty).is_none());
    }
}
