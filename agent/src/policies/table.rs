//! The nftables table of all policies, as a pure function of them and of the pods.
//!
//! ```text
//! forward -> from (-10) -> map egress-pods  -> isolated-egress/ID  -> egress/NAMESPACE/POLICY  (accept) ... drop
//! input   -> from-to-host, the same
//! forward -> to   (-5)  -> map ingress-pods -> isolated-ingress/ID -> ingress/NAMESPACE/POLICY (accept) ... drop
//! ```
//!
//! The two directions are base chains of their own, because `accept` ends one of them and not the other. Only the
//! first packet of a flow comes so far. What the host itself sends to its pods (probes) passes no `forward`.

use super::policy::{Direction, Peer, Policy, Ports, Rule};
use super::world::{Member, World};
use crate::nft::{Block, Chain, Family, Set, Table};
use ring::digest::{SHA256, digest};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

/// Names in nftables may have 255 bytes, and the longest of ours need about sixty besides a policy's.
const LONGEST_NAME: usize = 160;

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        }
    }

    /// Which of a packet's addresses is the pod's own.
    fn own(self) -> &'static str {
        match self {
            Direction::Ingress => "daddr",
            Direction::Egress => "saddr",
        }
    }

    /// Which is the other's.
    fn peer(self) -> &'static str {
        match self {
            Direction::Ingress => "saddr",
            Direction::Egress => "daddr",
        }
    }
}

/// A condition on a packet, which may hold for packets of one family only.
#[derive(Debug, Clone, Default)]
struct Condition {
    family: Option<Family>,
    text: String,
}

impl Condition {
    fn both(text: impl Into<String>) -> Self {
        Self { family: None, text: text.into() }
    }

    fn of(family: Family, text: impl Into<String>) -> Self {
        Self { family: Some(family), text: text.into() }
    }

    /// The rule that accepts what fulfils both; absent where no packet can.
    fn accept_with(&self, other: &Self) -> Option<String> {
        if matches!((self.family, other.family), (Some(one), Some(another)) if one != another) {
            return None;
        }
        let texts = [self.text.as_str(), &other.text, "accept"];
        let texts: Vec<&str> = texts.into_iter().filter(|text| !text.is_empty()).collect();
        Some(texts.join(" "))
    }
}

/// The whole table.
pub(crate) fn table(name: &str, world: &World, policies: &[Policy]) -> Table {
    let mut table = Table::new(name);
    let has_six = world.members.iter().flat_map(|member| &member.addresses).any(IpAddr::is_ipv6);
    let families = if has_six { &Family::ALL[..] } else { &[Family::Four] };
    add_base_chains(&mut table, families);
    for direction in [Direction::Ingress, Direction::Egress] {
        add_direction(&mut table, world, policies, direction);
    }
    table
}

fn add_base_chains(table: &mut Table, families: &[Family]) {
    let from = base_rules(families, Direction::Egress);
    let chains = [
        ("from", Chain::base("type filter hook forward priority filter - 10; policy accept;", from.clone())),
        ("from-to-host", Chain::base("type filter hook input priority filter - 10; policy accept;", from)),
        (
            "to",
            Chain::base(
                "type filter hook forward priority filter - 5; policy accept;",
                base_rules(families, Direction::Ingress),
            ),
        ),
    ];
    table.chains.extend(chains.map(|(name, chain)| (name.to_owned(), chain)));
    for family in families {
        let (address, mark) = (family.address(), family.mark());
        for (name, definition) in [
            ("egress-pods", format!("type {address} : verdict;")),
            ("ingress-pods", format!("type {address} : verdict;")),
            ("themselves", format!("type {address} . {address};")),
        ] {
            table.sets.insert(format!("{name}{mark}"), Set::new(definition));
        }
    }
}

/// Answers pass, a pod reaches itself by its services, and no neighbour is found without neighbour discovery.
fn base_rules(families: &[Family], direction: Direction) -> Vec<String> {
    let mut rules = vec!["ct state established,related accept".to_owned()];
    if families.contains(&Family::Six) {
        rules
            .push("icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept".into());
    }
    for family in families {
        let (header, mark) = (family.header(), family.mark());
        rules.push(format!("{header} saddr . {header} daddr @themselves{mark} accept"));
        rules.push(format!("{header} {} vmap @{}-pods{mark}", direction.own(), direction.word()));
    }
    rules
}

/// Each pod of this node that policies select gets to a chain of those policies, which pods with the same share.
fn add_direction(table: &mut Table, world: &World, policies: &[Policy], direction: Direction) {
    let mut isolated: BTreeMap<Vec<usize>, Vec<&Member>> = BTreeMap::new();
    for member in world.members.iter().filter(|member| member.is_here) {
        let selecting = policies.iter().enumerate().filter(|(_, policy)| isolates(policy, direction, member));
        let selecting: Vec<usize> = selecting.map(|(index, _)| index).collect();
        if !selecting.is_empty() {
            isolated.entry(selecting).or_default().push(member);
        }
    }
    let mut needed = BTreeSet::new();
    for (selecting, members) in isolated {
        let names: Vec<String> = selecting
            .iter()
            .filter_map(|&index| policies.get(index))
            .map(|policy| id(policy, direction))
            .collect();
        let chain = format!("isolated-{}/{}", direction.word(), short_hash(&names.join(" ")));
        for address in members.iter().flat_map(|member| &member.addresses) {
            isolate(table, *address, direction, &chain);
        }
        let rules = names.iter().map(|name| format!("jump {name}")).chain(["drop".to_owned()]).collect();
        table.chains.insert(chain, Chain::plain(rules));
        needed.extend(selecting);
    }
    for policy in needed.into_iter().filter_map(|index| policies.get(index)) {
        let lines = Ruling { world, policy, direction, table: &mut *table }.lines();
        table.chains.insert(id(policy, direction), Chain::plain(lines));
    }
}

fn isolates(policy: &Policy, direction: Direction, member: &Member) -> bool {
    policy.rules(direction).is_some() && policy.selects(&member.namespace, &member.labels)
}

fn isolate(table: &mut Table, address: IpAddr, direction: Direction, chain: &str) {
    let mark = Family::of(address).mark();
    let mut put = |set: String, key: String, value: String| {
        table.sets.entry(set).or_default().elements.insert(key, value);
    };
    put(format!("{}-pods{mark}", direction.word()), address.to_string(), format!("jump {chain}"));
    put(format!("themselves{mark}"), format!("{address} . {address}"), String::new());
}

/// Name of a policy's chain, and beginning of those of its sets.
fn id(policy: &Policy, direction: Direction) -> String {
    let name = format!("{}/{}", policy.namespace, policy.name);
    let fits = name.len() <= LONGEST_NAME && is_plain(&policy.namespace) && is_plain(&policy.name);
    let name = if fits { name } else { short_hash(&name) };
    format!("{}/{name}", direction.word())
}

/// An nftables identifier. What an API server lets through is one, but one bad name would fail the policies of all.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'))
}

fn short_hash(text: &str) -> String {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(8).fold(String::new(), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// One direction of one policy, whose rules are put into words.
struct Ruling<'a> {
    world: &'a World,
    policy: &'a Policy,
    direction: Direction,
    /// The table, for the sets that rules look into.
    table: &'a mut Table,
}

impl Ruling<'_> {
    fn lines(&mut self) -> Vec<String> {
        let policy = self.policy;
        let mut lines = Vec::new();
        for (index, rule) in policy.rules(self.direction).unwrap_or_default().iter().enumerate() {
            let set = format!("{}/{index}", id(policy, self.direction));
            let (peers, ports) = (self.peers(rule, &set), self.ports(rule, &set));
            lines
                .extend(peers.iter().flat_map(|peer| ports.iter().filter_map(|port| peer.accept_with(port))));
        }
        lines
    }

    fn peers(&mut self, rule: &Rule, set: &str) -> Vec<Condition> {
        let Some(peers) = &rule.peers else { return vec![Condition::default()] };
        let (world, own) = (self.world, &self.policy.namespace);
        let mut addresses = BTreeSet::new();
        let mut found = Vec::new();
        for peer in peers {
            match peer {
                Peer::Pods { namespaces: Some(namespaces), pods } => {
                    addresses
                        .extend(world.selected_in(namespaces, pods).flat_map(|member| &member.addresses));
                }
                Peer::Pods { namespaces: None, pods } => {
                    addresses.extend(world.selected(own, pods).flat_map(|member| &member.addresses));
                }
                Peer::Block { range, except } => found.extend(block(self.direction, range, except)),
            }
        }
        for family in Family::ALL {
            let of_family = addresses.iter().filter(|address| Family::of(**address) == family);
            let elements: Vec<String> = of_family.map(ToString::to_string).collect();
            if !elements.is_empty() {
                let name = fill(self.table, set, family, format!("type {};", family.address()), elements);
                let peer = self.direction.peer();
                found.push(Condition::of(family, format!("{} {peer} @{name}", family.header())));
            }
        }
        found
    }

    fn ports(&mut self, rule: &Rule, set: &str) -> Vec<Condition> {
        let Some(ports) = &rule.ports else { return vec![Condition::default()] };
        let mut found = Vec::new();
        for port in ports {
            match port {
                Ports::All(protocol) => found.push(Condition::both(format!("meta l4proto {protocol}"))),
                Ports::Range(protocol, first, last) if first == last => {
                    found.push(Condition::both(format!("{protocol} dport {first}")));
                }
                Ports::Range(protocol, first, last) => {
                    found.push(Condition::both(format!("{protocol} dport {first}-{last}")));
                }
                Ports::Named(protocol, name) if is_plain(name) => {
                    found.extend(self.named(protocol, name, set))
                }
                Ports::Named(..) => {}
            }
        }
        found
    }

    /// What a name stands for differs from pod to pod: those that are asked are looked up with their number.
    fn named(&mut self, protocol: &str, name: &str, set: &str) -> Vec<Condition> {
        let asked = |member: &&Member| {
            self.direction == Direction::Egress || isolates(self.policy, self.direction, member)
        };
        let mut elements: BTreeMap<Family, Vec<String>> = BTreeMap::new();
        for member in self.world.members.iter().filter(asked) {
            for port in member.ports.iter().filter(|port| port.protocol == protocol && port.name == name) {
                for address in &member.addresses {
                    let element = format!("{address} . {protocol} . {}", port.number);
                    elements.entry(Family::of(*address)).or_default().push(element);
                }
            }
        }
        let condition = |(family, elements): (Family, Vec<String>)| {
            let definition = format!("type {} . inet_proto . inet_service;", family.address());
            let name = fill(self.table, &format!("{set}/{protocol}-{name}"), family, definition, elements);
            Condition::of(family, format!("{} daddr . meta l4proto . th dport @{name}", family.header()))
        };
        elements.into_iter().map(condition).collect()
    }
}

/// Absent where nothing is left of the range.
fn block(direction: Direction, range: &Block, except: &[Block]) -> Option<Condition> {
    let family = Family::of(range.network);
    let except = || except.iter().filter(|except| Family::of(except.network) == family);
    if except().any(|except| except.prefix == 0) {
        return None;
    }
    let address = format!("{} {}", family.header(), direction.peer());
    // nftables has no word for all addresses of a family but the family.
    let mut text = match (range.prefix, family) {
        (0, Family::Four) => "meta nfproto ipv4".to_owned(),
        (0, Family::Six) => "meta nfproto ipv6".to_owned(),
        _ => format!("{address} {range}"),
    };
    for except in except() {
        // Writing to a String cannot fail.
        let _ = write!(text, " {address} != {except}");
    }
    Some(Condition::of(family, text))
}

/// Makes a set, and says its name.
fn fill(table: &mut Table, name: &str, family: Family, definition: String, elements: Vec<String>) -> String {
    let name = format!("{name}/v{}", if family == Family::Four { 4 } else { 6 });
    let mut set = Set::new(definition);
    set.elements = elements.into_iter().map(|element| (element, String::new())).collect();
    table.sets.insert(name.clone(), set);
    name
}
