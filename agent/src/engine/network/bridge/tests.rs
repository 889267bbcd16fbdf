//! The built-in network on the real kernel: each test in a network namespace of its own, with processes in "pods".

use super::*;
use crate::engine::network::HostPort;
use crate::network_lab::{Lab, Pod, UdpClient, wait_until};
use std::time::Instant;

fn network(lab: &Lab) -> Arc<BridgeNetwork> {
    BridgeNetwork::new(lab.config()).unwrap()
}

fn attachment(id: &str, pod: &Pod, host_ports: Vec<HostPort>) -> PodAttachment {
    PodAttachment {
        sandbox_id: id.into(),
        namespace: "default".into(),
        name: id.into(),
        uid: id.into(),
        netns: pod.netns(),
        host_ports,
        annotations: Default::default(),
    }
}

fn port(host_port: u16, container_port: u16, host_ip: Option<&str>) -> HostPort {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    HostPort { protocol: "tcp", host_ip, host_port, container_port }
}

/// Pods reach each other, the host reaches pods, and a pod reaches what is behind the host.
#[test]
fn pods_and_host_reach_each_other() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let (a, b) = (Pod::new(), Pod::new());
        let address_a = network.setup(&attachment("a", &a, vec![])).await.unwrap()[0];
        let address_b = network.setup(&attachment("b", &b, vec![])).await.unwrap()[0];
        assert_eq!(network.setup(&attachment("a", &a, vec![])).await.unwrap(), vec![address_a]);
        a.serve_many(80, "pod a");
        assert_eq!(b.get(address_a, 80), "pod a");
        assert_eq!(lab.get(address_a, 80), "pod a");
        a.serve(81, "own address");
        assert_eq!(a.get(address_a, 81), "own address");
        let world = lab.world();
        world.serve(80, "world");
        assert_eq!(b.get(lab.world_address(), 80), "world");
        assert_ne!(address_a, address_b);
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// A host port answers from outside, from the host itself (also at 127.0.0.1) and from a pod, even the same one.
#[test]
fn host_ports_answer_from_everywhere() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let pod = Pod::new();
        let bound = port(8081, 80, Some(&lab.uplink_address().to_string()));
        network.setup(&attachment("a", &pod, vec![port(8080, 80, None), bound])).await.unwrap();
        pod.serve_many(80, "hello");
        let world = lab.world();
        assert_eq!(world.get(lab.uplink_address(), 8080), "hello");
        assert_eq!(world.get(lab.uplink_address(), 8081), "hello");
        assert_eq!(lab.get(lab.uplink_address(), 8080), "hello");
        assert_eq!(lab.get("127.0.0.1".parse().unwrap(), 8080), "hello");
        assert_eq!(pod.get(lab.uplink_address(), 8080), "hello");
        assert!(lab.try_get("127.0.0.1".parse().unwrap(), 8081).is_none(), "bound to another address");
        network.teardown("a").await.unwrap();
        wait_until("the port is closed", || world.try_get(lab.uplink_address(), 8080).is_none());
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// A client that keeps its port finds the pod that has the host port, from before there was one and after it changed.
#[test]
fn a_udp_client_that_keeps_its_port_follows_the_host_port() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let udp = || HostPort { protocol: "udp", ..port(5300, 53, None) };
        network.ready().await.unwrap();
        let world = lab.world();
        let clients = [
            world.udp_client((lab.uplink_address(), 5300).into()),
            UdpClient::new("127.0.0.1:5300".parse().unwrap()),
        ];
        let ask = || clients.each_ref().map(UdpClient::ask);
        assert_eq!(ask(), [None, None]);
        for (name, text) in [("a", "first"), ("b", "second")] {
            let pod = Pod::new();
            network.setup(&attachment(name, &pod, vec![udp()])).await.unwrap();
            pod.serve_udp(53, text);
            wait_until("the pod answers", || ask() == [Some(text.to_owned()), Some(text.to_owned())]);
            network.teardown(name).await.unwrap();
        }
        network.setup(&attachment("c", &Pod::new(), vec![udp()])).await.unwrap();
        network.release("c").await.unwrap();
        let server = crate::network_lab::serve_udp("0.0.0.0:5300".parse().unwrap(), "host");
        wait_until("the host itself answers", || ask()[1].as_deref() == Some("host"));
        assert!(!server.is_finished());
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// Teardown works when the namespace has gone, twice, and for sandboxes that never were.
#[test]
fn teardown_needs_no_namespace() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let pod = Pod::new();
        let first = network.setup(&attachment("a", &pod, vec![port(8080, 80, None)])).await.unwrap();
        drop(pod);
        network.teardown("a").await.unwrap();
        network.teardown("a").await.unwrap();
        network.teardown("never").await.unwrap();
        wait_until("the link is gone", || lab.links_of_pods().is_empty());
        let again = network.setup(&attachment("b", &Pod::new(), vec![])).await.unwrap();
        assert_ne!(first, again, "an address rests before it is used again");
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// A pod that comes back at once, under its old id, has its network; and the old link's end does not take the new.
#[test]
fn a_sandbox_may_come_back_at_once() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        for _ in 0..5 {
            let pod = Pod::new();
            let address = network.setup(&attachment("a", &pod, vec![])).await.unwrap()[0];
            pod.serve(80, "here");
            assert_eq!(lab.get(address, 80), "here");
            network.teardown("a").await.unwrap();
        }
        wait_until("the link is gone", || lab.links_of_pods().is_empty());
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// A host port moves from a pod to the next at once, while the first is still being taken apart.
#[test]
fn a_host_port_moves_at_once() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let (first, second) = (Pod::new(), Pod::new());
        network.setup(&attachment("first", &first, vec![port(8080, 80, None)])).await.unwrap();
        network.teardown("first").await.unwrap();
        network.setup(&attachment("second", &second, vec![port(8080, 80, None)])).await.unwrap();
        second.serve_many(80, "second");
        assert_eq!(lab.get(lab.uplink_address(), 8080), "second");
        wait_until("the first link is gone", || lab.links_of_pods().len() == 1);
        assert_eq!(lab.get(lab.uplink_address(), 8080), "second");
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// What a killed process left half removed is finished by the next pod of any process.
#[test]
fn an_abandoned_departure_is_finished() {
    Lab::run(|lab| async move {
        let killed = network(&lab);
        let (old, new) = (Pod::new(), Pod::new());
        killed.setup(&attachment("old", &old, vec![port(8080, 80, None)])).await.unwrap();
        killed.worker.teardown("old").unwrap();
        let after = network(&lab);
        after.setup(&attachment("new", &new, vec![])).await.unwrap();
        assert_eq!(lab.links_of_pods().len(), 1);
        assert!(!lab.shell("nft list ruleset").contains("8080"));
        after.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// A bridge and a table that somebody removed or changed are restored; records of the dead are taken away.
#[test]
fn a_start_puts_everything_right() {
    Lab::run(|lab| async move {
        let before = network(&lab);
        let (living, dead) = (Pod::new(), Pod::new());
        let address =
            before.setup(&attachment("living", &living, vec![port(8080, 80, None)])).await.unwrap()[0];
        before.setup(&attachment("dead", &dead, vec![port(8082, 80, None)])).await.unwrap();
        living.serve_many(80, "still here");
        lab.shell("nft flush ruleset; ip addr flush dev knarr0; ip link set knarr0 down");
        let after = network(&lab);
        after.collect_garbage(&BTreeSet::from(["living".to_owned()])).await.unwrap();
        assert_eq!(lab.get(address, 80), "still here");
        assert_eq!(lab.get("127.0.0.1".parse().unwrap(), 8080), "still here");
        assert_eq!(lab.links_of_pods().len(), 1);
        assert!(!lab.shell("nft list ruleset").contains("8082"));
        after.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// A table that vanished under us does not fail the next pod.
#[test]
fn a_lost_table_is_rebuilt_by_the_next_pod() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let (a, b) = (Pod::new(), Pod::new());
        network.setup(&attachment("a", &a, vec![port(8080, 80, None)])).await.unwrap();
        lab.shell("nft flush ruleset");
        network.setup(&attachment("b", &b, vec![])).await.unwrap();
        a.serve(80, "a");
        assert_eq!(lab.get("127.0.0.1".parse().unwrap(), 8080), "a");
        lab.shell("nft flush ruleset");
        network.teardown("b").await.unwrap();
        wait_until("the table is back", || lab.shell("nft list ruleset").contains("8080"));
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// A cluster may assign another range: new pods use it, old ones keep theirs and both reach each other.
#[test]
fn a_new_range_keeps_the_old_pods() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let (old, new) = (Pod::new(), Pod::new());
        let old_address = network.setup(&attachment("old", &old, vec![])).await.unwrap()[0];
        network.set_pod_cidr("10.42.7.0/24").await.unwrap();
        let new_address = network.setup(&attachment("new", &new, vec![])).await.unwrap()[0];
        assert_eq!(new_address.to_string(), "10.42.7.2");
        old.serve(80, "old");
        assert_eq!(new.get(old_address, 80), "old");
        assert!(network.set_pod_cidr("10.42.7.9/24").await.is_err());
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// Pods must not reach what the host offers on its loopback only.
#[test]
fn the_loopback_of_the_host_is_out_of_reach() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let pod = Pod::new();
        network.setup(&attachment("a", &pod, vec![])).await.unwrap();
        lab.shell("ip netns list >/dev/null; true");
        pod.shell("ip route add 127.0.0.2/32 via 10.42.0.1 dev eth0 table 9; sysctl -qw net.ipv4.conf.eth0.route_localnet=1");
        let _server = lab.serve_at("127.0.0.2", 8088, "secret");
        assert_eq!(lab.get("127.0.0.2".parse().unwrap(), 8088), "secret");
        pod.shell("ip rule add to 127.0.0.2 lookup 9 pref 0; ip rule add lookup local pref 5; ip rule del pref 0 lookup local; true");
        assert!(pod.try_get("127.0.0.2".parse().unwrap(), 8088).is_none());
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// Everything goes while pods are still being taken apart: their departures bring nothing back.
#[test]
fn removal_overtakes_departures() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let pods: Vec<Pod> = (0..8).map(|_| Pod::new()).collect();
        for (n, pod) in pods.iter().enumerate() {
            network.setup(&attachment(&format!("p{n}"), pod, vec![])).await.unwrap();
        }
        for n in 0..pods.len() {
            network.teardown(&format!("p{n}")).await.unwrap();
        }
        network.remove_all().await.unwrap();
        let worker = network.worker.clone();
        wait_until("all departures have ended", || worker.departing.lock().unwrap().is_empty());
        lab.assert_clean();
    });
}

/// Many pods at once: addresses differ, and no call is slow because of another.
#[test]
fn many_pods_at_once() {
    Lab::run(|lab| async move {
        let network = network(&lab);
        let pods: Vec<Pod> = (0..20).map(|_| Pod::new()).collect();
        let started = Instant::now();
        let mut tasks = tokio::task::JoinSet::new();
        for (n, pod) in pods.iter().enumerate() {
            let (network, pod) = (network.clone(), attachment(&format!("p{n}"), pod, vec![]));
            tasks.spawn(async move { network.setup(&pod).await });
        }
        let mut addresses = BTreeSet::new();
        while let Some(result) = tasks.join_next().await {
            addresses.insert(result.unwrap().unwrap()[0]);
        }
        assert_eq!(addresses.len(), 20);
        eprintln!("20 pods set up in {:?}", started.elapsed());
        network.collect_garbage(&BTreeSet::new()).await.unwrap();
        assert_eq!(lab.links_of_pods(), Vec::<String>::new());
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}

/// With an IPv6 range beside the first, all of it works over both: pods, host, world, host ports, a pod to itself.
#[test]
fn pods_of_both_families_are_reached_over_both() {
    Lab::run(|lab| async move {
        lab.shell("ip -6 addr add fd99::2/64 dev uplink nodad");
        let world = lab.world();
        world.shell("ip -6 addr add fd99::1/64 dev eth0 nodad");
        let mut config = (*lab.config()).clone();
        config.network.pod_cidr_v6 = Some("fd00:42::/112".into());
        config.network.cluster_cidr_v6 = Some("fd00:42::/64".into());
        let network = BridgeNetwork::new(Arc::new(config)).unwrap();
        let (a, b) = (Pod::new(), Pod::new());
        let bound = port(8081, 80, Some("fd99::2"));
        let [first, second] = network
            .setup(&attachment("a", &a, vec![port(8080, 80, None), bound]))
            .await
            .unwrap()
            .try_into()
            .unwrap();
        network.setup(&attachment("b", &b, vec![])).await.unwrap();
        assert_eq!((first.to_string(), second.to_string()), ("10.42.0.2".into(), "fd00:42::2".into()));
        a.serve_both(80, "pod a");
        world.serve_both(80, "world");
        for address in [first, second] {
            for answer in [lab.get(address, 80), b.get(address, 80), a.get(address, 80)] {
                assert_eq!(answer, "pod a", "{address}");
            }
        }
        let (uplink, beyond): (IpAddr, IpAddr) = ("fd99::2".parse().unwrap(), "fd99::1".parse().unwrap());
        assert_eq!(b.get(beyond, 80), "world", "its source is the host's: the world has no route to pods");
        for port in [8080, 8081] {
            assert_eq!(world.get(uplink, port), "pod a", "{port}");
            assert_eq!(a.get(uplink, port), "pod a", "{port}: a pod's own host port");
        }
        assert_eq!(world.get(lab.uplink_address(), 8080), "pod a");
        assert!(world.try_get(lab.uplink_address(), 8081).is_none(), "it is bound to the IPv6 address");
        network.teardown("a").await.unwrap();
        wait_until("its elements are gone", || !lab.shell("nft list ruleset").contains("fd00:42::2"));
        network.remove_all().await.unwrap();
        lab.assert_clean();
    });
}
