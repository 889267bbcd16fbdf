//! Which flows are stale, as tables; and the kernel's own, with clients that keep their port.

use super::*;
use crate::network_lab::{Lab, UdpClient, serve_udp};

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// `DESTINATION ENDPOINT...`, one a line.
fn ways(text: &str) -> Ways {
    let mut ways = Ways::default();
    for line in text.lines() {
        let mut words = line.split_whitespace().map(socket);
        if let Some(destination) = words.next() {
            ways.add(destination, words);
        }
    }
    ways
}

#[test]
fn only_destinations_whose_flows_may_be_wrong_are_looked_at() {
    for (name, old, new, changed) in [
        ("nothing changed", "10.96.0.1:53 10.42.0.2:53", "10.96.0.1:53 10.42.0.2:53", ""),
        ("still without endpoints", "10.96.0.1:53", "10.96.0.1:53", ""),
        ("an endpoint joined", "10.96.0.1:53 10.42.0.2:53", "10.96.0.1:53 10.42.0.2:53 10.42.0.3:53", ""),
        ("the first endpoint", "10.96.0.1:53", "10.96.0.1:53 10.42.0.2:53", "10.96.0.1:53 10.42.0.2:53"),
        (
            "an endpoint went",
            "10.96.0.1:53 10.42.0.2:53 10.42.0.3:53",
            "10.96.0.1:53 10.42.0.3:53",
            "10.96.0.1:53 10.42.0.3:53",
        ),
        ("the last endpoint went", "10.96.0.1:53 10.42.0.2:53", "10.96.0.1:53", "10.96.0.1:53"),
        ("the service went", "0.0.0.0:30053 10.42.0.2:53", "", "0.0.0.0:30053"),
        ("a service came", "", "[fd00::1]:53 [fd00::2]:53", "[fd00::1]:53 [fd00::2]:53"),
    ] {
        assert_eq!(ways(new).changed_since(&ways(old)), ways(changed), "{name}");
    }
}

#[test]
fn a_flow_is_stale_where_its_destination_leads_elsewhere_now() {
    let ways = ways(
        "10.96.0.1:53 10.42.0.2:53\n0.0.0.0:30053 10.42.0.2:53\n[::]:30054\n192.0.2.2:30053 10.42.0.9:53",
    );
    let host = ["192.0.2.2", "192.0.2.3", "fd99::1"].map(|address| address.parse().unwrap()).into();
    for (destination, answers_from, stale) in [
        ("10.96.0.1:53", "10.42.0.2:53", false),
        ("10.96.0.1:53", "10.42.0.2:5353", true),
        ("10.96.0.1:53", "10.96.0.1:53", true),
        ("10.96.0.1:54", "10.42.0.3:53", false),
        ("192.0.2.3:30053", "10.42.0.2:53", false),
        ("192.0.2.3:30053", "10.42.0.3:53", true),
        ("192.0.2.2:30053", "10.42.0.2:53", true),
        ("192.0.2.2:30053", "10.42.0.9:53", false),
        ("127.0.0.7:30053", "127.0.0.7:30053", true),
        ("198.51.100.1:30053", "198.51.100.1:30053", false),
        ("[fd99::1]:30054", "[fd00::2]:53", true),
        ("[fd99::1]:30053", "[fd00::2]:53", false),
    ] {
        let flow = Flow::of(socket(destination), socket(answers_from));
        assert_eq!(ways.is_stale(&flow, &host), stale, "{destination} answered from {answers_from}");
    }
}

/// A client that keeps its port stays with the old endpoint until its flow is forgotten; others are left alone.
#[test]
fn a_forgotten_flow_meets_the_rules_again() {
    Lab::run(|lab| async move {
        for (is_six, host) in [(false, "127.0.0.1"), (true, "[::1]")] {
            let at = |port: u16| socket(&format!("{host}:{port}"));
            let _servers = [(5301, "old"), (5302, "new")].map(|(port, text)| serve_udp(at(port), text));
            let lead_to = |port: u16| {
                let header = if is_six { "ip6" } else { "ip" };
                lab.shell(&format!(
                    "nft 'add table inet lead; delete table inet lead; add table inet lead; \
                     add chain inet lead output {{ type nat hook output priority -100; }}; \
                     add rule inet lead output udp dport {{ 5300, 5299 }} dnat {header} to {}'",
                    at(port)
                ));
            };
            lead_to(5301);
            let (client, other) = (UdpClient::new(at(5300)), UdpClient::new(at(5299)));
            assert_eq!((client.ask(), other.ask()), (Some("old".into()), Some("old".into())));
            lead_to(5302);
            assert_eq!(client.ask().as_deref(), Some("old"), "this is what has to be mended");
            let mut ways = Ways::default();
            ways.add(any(at(0).ip(), 5300), [at(5302)]);
            assert_eq!(forget_stale(&ways).unwrap(), 1);
            assert_eq!((client.ask(), other.ask()), (Some("new".into()), Some("old".into())));
            assert_eq!(forget_stale(&ways).unwrap(), 0, "the flow is right now");
        }
    });
}
