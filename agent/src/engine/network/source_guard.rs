//! What leaves a pod's link bears the pod's own addresses, and goes to the bridge: nobody sends as a neighbour, or takes a
//! neighbour's packets by telling everybody that its address is here.
//!
//! Without this a pod with `CAP_NET_RAW` (it is among the default capabilities) can do both, and by that go past network
//! policies, which judge addresses. The rules are a table of the `bridge` family, which sees frames at the port where they
//! enter. A pod is an element in each of its sets, so a frame costs the same few look-ups however many pods there are.
//! A kernel without that family does without: then the node says so once, and pods run.

use super::bridge::host_end;
use super::ledger::Allocation;
use super::links;
use crate::nft::{self, Chain, Elements, Set, Table};
use anyhow::Context;
use std::net::Ipv6Addr;
use std::sync::{Mutex, PoisonError};

/// Before br_netfilter shows frames to other tables.
const HOOK: &str = "type filter hook prerouting priority -300; policy accept;";

/// The rules of one network.
#[derive(Debug)]
pub(crate) struct SourceGuard {
    table: String,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Somebody does not want it, or the kernel cannot.
    Off,
    /// Kept open, because closing it waits for the kernel.
    On(Option<Elements>),
}

impl SourceGuard {
    pub(crate) fn new(table: &str, wanted: bool) -> Self {
        let state = if wanted { State::On(None) } else { State::Off };
        Self { table: table.to_owned(), state: Mutex::new(state) }
    }

    /// Changes the elements of one pod, before its link appears or after it has gone. `all` are the pods that there are
    /// then. Blocks.
    pub(crate) fn change<'a>(
        &self,
        new: Option<&'a Allocation>,
        old: Option<&'a Allocation>,
        all: impl FnOnce() -> anyhow::Result<Vec<Allocation>>,
    ) -> anyhow::Result<()> {
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let State::On(open) = &mut *state else { return Ok(()) };
            let (new, old) = (table(&self.table, new), table(&self.table, old));
            let changed = match open {
                Some(elements) => elements.commit(&new, &old),
                None => open.insert(Elements::open().context("open a netfilter socket")?).commit(&new, &old),
            };
            if changed.is_ok() {
                return Ok(());
            }
            // Whatever was read halfway is not read on.
            *open = None;
        }
        self.replace(&all()?);
        Ok(())
    }

    /// Makes the kernel's table that of these pods, whatever it was before. Blocks.
    pub(crate) fn replace(&self, pods: &[Allocation]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Off) {
            return;
        }
        if let Err(error) = nft::apply(&table(&self.table, pods).replacement()) {
            *state = State::Off;
            tracing::warn!(
                error = format!("{error:#}"),
                "frames that pods send are not checked for their addresses"
            );
        }
    }

    /// Takes it away, also where it is wanted no more. Blocks.
    pub(crate) fn remove(&self) {
        if let Err(error) = nft::apply(&Table::of_bridge(&self.table).removal()) {
            // A kernel without such tables has none of ours.
            tracing::debug!(error = format!("{error:#}"), "table of frames not removed");
        }
    }
}

/// The whole table for these pods.
fn table<'a>(name: &str, pods: impl IntoIterator<Item = &'a Allocation>) -> Table {
    let mut table = Table::of_bridge(name);
    let mut sets = SETS.map(|(name, kind)| (name, Set::new(format!("{kind};"))));
    for pod in pods {
        let elements = elements(pod);
        for ((_, set), element) in sets.iter_mut().zip(elements) {
            set.elements.extend(element.map(|element| (element, String::new())));
        }
    }
    table.sets.extend(sets.map(|(name, set)| (name.to_owned(), set)));
    table.chains.insert("from-pods".to_owned(), Chain::base(HOOK, RULES.map(str::to_owned).into()));
    table
}

const SETS: [(&str, &str); 6] = [
    ("links", "type ifname"),
    ("link-hardware", "type ifname . ether_addr"),
    ("hardware", "type ether_addr"),
    ("addresses", "type ifname . ether_addr . ipv4_addr"),
    ("addresses6", "type ifname . ipv6_addr"),
    // The field of neighbour discovery that claims an address has no name in every nft.
    ("claims6", "typeof iifname . @th,64,128"),
];

const RULES: [&str; 13] = [
    // What nearly all packets are comes first.
    "iifname . ether saddr . ip saddr @addresses ether daddr != @hardware accept",
    "iifname != @links accept",
    "ether type ip drop",
    "iifname . ether saddr != @link-hardware drop",
    // To a neighbour by the bridge's address only, where policies are.
    "ether daddr @hardware drop",
    "iifname . arp saddr ether . arp saddr ip @addresses accept",
    // Who asks whether an address is free does it from none.
    "arp saddr ip 0.0.0.0 iifname . arp saddr ether @link-hardware accept",
    "ether type arp drop",
    "icmpv6 type { nd-router-advert, nd-redirect } drop",
    "icmpv6 type nd-neighbor-advert @th,64,10 != 0x3fa iifname . @th,64,128 != @claims6 drop",
    "ip6 saddr fe80::/10 accept",
    "ip6 saddr :: accept",
    "ether type ip6 iifname . ip6 saddr != @addresses6 drop",
];

/// What a pod is in each of the sets.
fn elements(pod: &Allocation) -> [Option<String>; 6] {
    let link = format!("\"{}\"", host_end(pod));
    let hardware = pod.hardware.unwrap_or_else(|| links::hardware_address(pod.address));
    let hardware = hardware.map(|byte| format!("{byte:02x}")).join(":");
    let second = pod.second.map(|second| second.address);
    let claim = |address: Ipv6Addr| format!("{link} . 0x{:032x}", address.to_bits());
    [
        Some(link.clone()),
        Some(format!("{link} . {hardware}")),
        Some(hardware.clone()),
        Some(format!("{link} . {hardware} . {}", pod.address)),
        second.map(|address| format!("{link} . {address}")),
        second.map(claim),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, NetworkConfig};
    use crate::engine::network::bridge::BridgeNetwork;
    use crate::engine::network::{PodAttachment, PodNetwork};
    use crate::network_lab::{Lab, Pod};
    use std::net::{IpAddr, SocketAddr, UdpSocket};
    use std::sync::Arc;
    use std::time::Duration;

    struct World {
        network: Arc<BridgeNetwork>,
        pods: Vec<(Pod, [IpAddr; 2])>,
    }

    async fn world(lab: &Lab, check_sources: bool) -> World {
        let config = Config::clone(&lab.config());
        let network = NetworkConfig {
            check_sources,
            pod_cidr_v6: Some("fd00:42::/112".into()),
            ..config.network.clone()
        };
        let network = BridgeNetwork::new(Arc::new(Config { network, ..config })).unwrap();
        let mut pods = Vec::new();
        for name in ["forger", "victim"] {
            let pod = Pod::new();
            let attachment = PodAttachment {
                sandbox_id: name.into(),
                namespace: "default".into(),
                name: name.into(),
                uid: name.into(),
                netns: pod.netns(),
                host_ports: vec![],
                annotations: Default::default(),
            };
            let addresses = network.setup(&attachment).await.unwrap();
            pods.push((pod, [addresses[0], addresses[1]]));
        }
        World { network, pods }
    }

    /// Whether the host hears a datagram that comes from that address of the pod's.
    fn is_heard(pod: &Pod, source: IpAddr, host: IpAddr) -> bool {
        let ears = UdpSocket::bind(SocketAddr::new(host, 0)).unwrap();
        ears.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let to = ears.local_addr().unwrap();
        pod.inside(move || UdpSocket::bind(SocketAddr::new(source, 0)).unwrap().send_to(b"x", to)).unwrap();
        ears.recv_from(&mut [0; 8]).is_ok_and(|(_, from)| from.ip() == source)
    }

    /// What a forger tries, and what of it gets through with the rules and without them: so each try is one.
    #[test]
    fn no_pod_sends_as_another_one() {
        for checked in [true, false] {
            Lab::run(move |lab| async move {
                let World { network, pods } = world(&lab, checked).await;
                let [(forger, own), (victim, theirs)] = pods.as_slice() else { panic!("two pods") };
                let gateways: [IpAddr; 2] = ["10.42.0.1".parse().unwrap(), "fd00:42::1".parse().unwrap()];
                victim.serve_both(80, "victim");
                forger.serve_both(80, "forger");
                for (own, host) in own.iter().zip(gateways) {
                    assert!(is_heard(forger, *own, host), "its own address");
                }
                for (theirs, gateway) in theirs.iter().zip(gateways) {
                    assert_eq!(forger.get(*theirs, 80), "victim", "the usual way");
                    forger.shell(&format!("ip addr add {theirs} dev lo nodad"));
                    assert_eq!(is_heard(forger, *theirs, gateway), !checked, "as {theirs}");
                    forger.shell(&format!("ip addr del {theirs} dev lo"));
                }
                // An address of nobody's, which the host asks for.
                for address in ["10.42.0.99/32", "fd00:42::99/128"] {
                    forger.shell(&format!("ip addr add {address} dev eth0 nodad"));
                    let address: IpAddr = address.split('/').next().unwrap().parse().unwrap();
                    assert_eq!(lab.try_get(address, 80).is_some(), !checked, "claimed: {address}");
                }
                // Past the host, straight to the neighbour.
                let hardware = hardware_of(theirs[0]);
                forger.shell(&format!(
                    "ip route add {0} dev eth0 && ip neigh replace {0} lladdr {hardware} dev eth0 nud permanent",
                    theirs[0]
                ));
                assert_eq!(forger.try_get(theirs[0], 80).is_some(), !checked, "past the host");
                forger.shell(&format!("ip route del {}", theirs[0]));
                assert_eq!(forger.get(theirs[0], 80), "victim");
                // With the neighbour's hardware address a bridge takes it for the neighbour.
                forger.shell("ip link set eth0 address 0a:58:0a:2a:00:63");
                assert_eq!(is_heard(forger, own[0], gateways[0]), !checked, "another hardware address");
                network.remove_all().await.unwrap();
                lab.assert_clean();
            });
        }
    }

    fn hardware_of(address: IpAddr) -> String {
        let IpAddr::V4(address) = address else { panic!("{address}") };
        links::hardware_address(address).map(|byte| format!("{byte:02x}")).join(":")
    }

    /// One pod is one element in each set, and gone with the pod.
    #[test]
    fn a_pod_leaves_no_elements_behind() {
        Lab::run(|lab| async move {
            let World { network, pods } = world(&lab, true).await;
            let elements = || lab.shell("nft list table bridge knarr").matches("veth").count();
            assert_eq!(elements(), 2 * 5);
            network.release("forger").await.unwrap();
            assert_eq!(elements(), 5);
            // Somebody flushed it all; the next pod brings it back, and the others' with it.
            lab.shell("nft flush ruleset");
            let attachment = PodAttachment {
                sandbox_id: "third".into(),
                namespace: "default".into(),
                name: "third".into(),
                uid: "third".into(),
                netns: pods[0].0.netns(),
                host_ports: vec![],
                annotations: Default::default(),
            };
            network.setup(&attachment).await.unwrap();
            assert_eq!(elements(), 2 * 5);
            network.remove_all().await.unwrap();
        });
    }
}
