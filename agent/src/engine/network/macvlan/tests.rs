//! Networks on the machine's own wire, on the real kernel: what is beyond the uplink is their neighbour.

use super::*;
use crate::named_skip::skip;
use crate::network_lab::{Lab, Pod};

/// The wire of the lab, where the world is the router.
fn wire(lab: &Lab, parent: &str) -> Wire {
    let IpAddr::V4(world) = lab.world_address() else { panic!("the world speaks IPv4") };
    Wire {
        parent: parent.into(),
        mode: Mode::Bridge,
        shared: false,
        internal: false,
        gateway: Some(world),
        within: None,
        reserved: BTreeSet::from([lab.uplink_address()]),
    }
}

fn network(lab: &Lab, wire: Wire) -> Arc<MacvlanNetwork> {
    let mut config = (*lab.config()).clone();
    let [a, b, c, _] = wire.gateway.unwrap().octets();
    config.network.pod_cidr = format!("{a}.{b}.{c}.0/24");
    config.network.pod_cidr_v6 = Some("fd00:77::/64".to_owned());
    MacvlanNetwork::new(&config, wire).unwrap()
}

fn attachment(id: &str, pod: &Pod) -> PodAttachment {
    PodAttachment {
        sandbox_id: id.into(),
        namespace: String::new(),
        name: id.into(),
        uid: String::new(),
        netns: pod.netns(),
        host_ports: Vec::new(),
        annotations: Default::default(),
    }
}

#[test]
fn pods_are_neighbours_of_what_is_on_the_wire() {
    Lab::run(|lab| async move {
        let network = network(&lab, wire(&lab, "uplink"));
        let (a, b) = (Pod::new(), Pod::new());
        let addresses = network.setup(&attachment("a", &a)).await.unwrap();
        assert_eq!(network.setup(&attachment("a", &a)).await.unwrap(), addresses);
        network.setup(&attachment("b", &b)).await.unwrap();
        a.serve_many(80, "pod a");
        lab.world().serve(80, "world");
        assert_eq!(b.get(addresses[0], 80), "pod a");
        assert_eq!(lab.world().get(addresses[0], 80), "pod a");
        assert_eq!(a.get(lab.world_address(), 80), "world");
        assert!(a.shell("ip route show default").contains(&format!("via {}", lab.world_address())));
        assert!(a.shell("ip -6 addr show dev eth0").contains("fd00:77::"));
        assert_ne!(addresses[0], lab.uplink_address());
        network.leave("a", &a.netns()).await.unwrap();
        assert_eq!(a.shell("ip -o link show dev eth0 2>/dev/null || echo none").trim(), "none");
        network.teardown("b").await.unwrap();
        network.remove_all().await.unwrap();
        assert!(lab.shell("ip link show uplink").contains("uplink"), "what was there stays");
        lab.assert_clean();
    });
}

#[test]
fn private_pods_hear_only_the_world() {
    Lab::run(|lab| async move {
        let network = network(&lab, Wire { mode: Mode::Private, ..wire(&lab, "uplink") });
        let (a, b) = (Pod::new(), Pod::new());
        let address = network.setup(&attachment("a", &a)).await.unwrap()[0];
        network.setup(&attachment("b", &b)).await.unwrap();
        a.serve_many(80, "pod a");
        assert_eq!(lab.world().get(address, 80), "pod a");
        assert!(b.try_get(address, 80).is_none());
    });
}

#[test]
fn a_vlan_is_made_and_removed_with_the_last_network_on_it() {
    Lab::run(|lab| async move {
        let probe = "ip link add link uplink name probe type vlan id 9 2>&1 && ip link del probe || true";
        let said = lab.shell(probe);
        if !said.is_empty() {
            return skip("a_vlan_is_made_and_removed_with_the_last_network_on_it", said.trim());
        }
        let address = lab.world_address();
        lab.world().shell(&format!(
            "ip addr flush dev eth0 && ip link add link eth0 name eth0.7 type vlan id 7 && ip link set eth0.7 up \
             && ip addr add {address}/24 dev eth0.7"
        ));
        let own = wire(&lab, "uplink.7");
        let first = network(&lab, own.clone());
        first.ready().await.unwrap();
        let pod = Pod::new();
        first.setup(&attachment("a", &pod)).await.unwrap();
        lab.world().serve(80, "behind the tag");
        assert_eq!(pod.get(address, 80), "behind the tag");
        first.teardown("a").await.unwrap();
        network(&lab, Wire { shared: true, ..own }).remove_all().await.unwrap();
        assert!(lab.shell("ip -o link").contains("uplink.7@"));
        first.remove_all().await.unwrap();
        assert!(!lab.shell("ip -o link").contains("uplink.7@"));
    });
}

#[test]
fn without_a_link_pods_have_each_other() {
    Lab::run(|lab| async move {
        let parent = inner("0123456789abcdef");
        let network = network(&lab, Wire { internal: true, ..wire(&lab, &parent) });
        let (a, b) = (Pod::new(), Pod::new());
        let address = network.setup(&attachment("a", &a)).await.unwrap()[0];
        network.setup(&attachment("b", &b)).await.unwrap();
        a.serve_many(80, "pod a");
        assert_eq!(b.get(address, 80), "pod a");
        assert_eq!(b.shell("ip route show default"), "");
        network.collect_garbage(&BTreeSet::from(["b".to_owned()])).await.unwrap();
        assert!(network.worker.ledger.find("a").unwrap().is_none());
        network.remove_all().await.unwrap();
        assert!(!lab.shell("ip -o link").contains(&parent));
        lab.assert_clean();
    });
}

#[test]
fn a_link_that_is_not_there_is_named() {
    Lab::run(|lab| async move {
        for (parent, words) in [
            ("nowhere", "invalid subinterface vlan name nowhere, example formatting is eth0.10"),
            ("nowhere.5", "-o parent interface was not found on the host: nowhere"),
            ("uplink.5000", "vlan id must be between 1-4094, received: 5000"),
        ] {
            assert_eq!(network(&lab, wire(&lab, parent)).ready().await.unwrap_err(), words);
        }
        assert!(Mode::named("loud").unwrap_err().to_string().starts_with("requested macvlan mode 'loud'"));
    });
}
