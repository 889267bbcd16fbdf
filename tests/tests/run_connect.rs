//! `network connect` and `disconnect`, and containers that are made with several networks: links, names, the way out and
//! published ports follow, for those that run and for those that do not.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::run_lab::{Lab, named};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Sixteen addresses that no other test has, by their first part, and where they begin.
fn range() -> (String, u32) {
    let place = (std::process::id() % 256 * 16 + NEXT.fetch_add(1, Ordering::Relaxed) % 16) * 16;
    (format!("10.149.{}", place / 256), place % 256)
}

/// Makes a network; answers an address of it by its place.
fn created(lab: &Lab, name: &str, more: &[&str]) -> impl Fn(u32) -> String + use<> {
    let (start, place) = range();
    let subnet = format!("{start}.{place}/28");
    lab.knarr(&[&["network", "create", "--subnet", &subnet], more, &[name]].concat());
    move |n| format!("{start}.{}", place + n)
}

fn stays(lab: &Lab, name: &str, more: &[&str]) {
    lab.knarr(&[&["run", "-d", "--name", name], more, &["base:1", "sleep", "3600"]].concat());
}

fn field(lab: &Lab, name: &str, template: &str) -> String {
    lab.knarr(&["inspect", "-f", template, name]).trim().to_owned()
}

fn inside(lab: &Lab, name: &str, script: &str) -> String {
    lab.knarr(&["exec", name, "sh", "-c", script]).trim().to_owned()
}

fn reaches(lab: &Lab, name: &str, other: &str) -> bool {
    lab.0.knarr(&["exec", name, "busybox", "ping", "-c", "1", "-W", "3", other]).code == 0
}

/// Where the container's packets go that are for none of its networks.
fn way_out(lab: &Lab, name: &str) -> String {
    inside(lab, name, "ip route | awk '/^default/ {print $5}'")
}

/// What the container's server says at the port of this machine.
fn answer(port: &str) -> String {
    let mut said = String::new();
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    stream.read_to_string(&mut said).unwrap();
    said.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_running_container_gets_a_further_network() {
    let (lab, web, db) = (Lab::new(), named("con-web"), named("con-db"));
    let _ = created(&lab, "front", &[]);
    let address = created(&lab, "back", &[]);
    stays(&lab, &web, &["--network", "front"]);
    stays(&lab, &db, &["--network", "back"]);
    assert!(!reaches(&lab, &web, &field(&lab, &db, "{{.NetworkSettings.Networks.back.IPAddress}}")));

    assert_eq!(lab.knarr(&["network", "connect", "--ip", &address(9), "--alias", "www", "back", &web]), "");
    assert_eq!(inside(&lab, &web, "ls /sys/class/net | grep eth | tr '\\n' ' '"), "eth0 eth1");
    assert!(inside(&lab, &web, "ip -o addr show eth1").contains(&address(9)));
    assert!(reaches(&lab, &web, &db) && reaches(&lab, &db, "www") && reaches(&lab, &db, &web));
    assert_eq!(way_out(&lab, &web), "eth0");
    let parts: Value =
        serde_json::from_str(&field(&lab, &web, "{{json .NetworkSettings.Networks}}")).unwrap();
    assert_eq!(parts.as_object().unwrap().keys().collect::<Vec<_>>(), ["back", "front"]);
    assert_eq!(
        (&parts["back"]["IPAddress"], &parts["back"]["Aliases"]),
        (&address(9).into(), &serde_json::json!(["www"]))
    );
    assert_eq!(parts["back"]["IPPrefixLen"], 28);
    let document: Value = serde_json::from_str(&lab.knarr(&["network", "inspect", "back"])).unwrap();
    let member = &document[0]["Containers"][&field(&lab, &web, "{{.Id}}")];
    assert_eq!(member["IPv4Address"], format!("{}/28", address(9)));
    assert_eq!(member["MacAddress"], inside(&lab, &web, "cat /sys/class/net/eth1/address"));
    assert_eq!(
        lab.knarr(&["ps", "-f", &format!("name=^{web}$"), "--format", "{{.Networks}}"]),
        "front,back\n"
    );
    assert_eq!(lab.knarr(&["inspect", "-f", "{{.Name}} {{.Driver}}", "back"]), "back bridge\n");
    let refused = lab.0.knarr(&["network", "connect", "back", &web]).failed();
    assert!(
        refused.contains(&format!("endpoint with name {web} already exists in network back")),
        "{refused}"
    );
    let refused = lab.0.knarr(&["network", "rm", "back"]).failed();
    assert!(refused.contains("has active endpoints"), "{refused}");

    // It is of the container, not of one of its lives.
    lab.knarr(&["restart", "-t", "0", &web]);
    assert!(inside(&lab, &web, "ip -o addr show eth1").contains(&address(9)) && reaches(&lab, &web, &db));
    let mut listed: Vec<String> = ["front", "back"]
        .map(|network| {
            lab.knarr(&[
                "ps",
                "-q",
                "--no-trunc",
                "-f",
                &format!("network={network}"),
                "-f",
                &format!("name=^{web}$"),
            ])
        })
        .into();
    listed.dedup();
    assert_eq!(listed, [format!("{}\n", field(&lab, &web, "{{.Id}}"))]);

    assert_eq!(lab.knarr(&["network", "disconnect", "back", &web]), "");
    assert_eq!(inside(&lab, &web, "ls /sys/class/net | grep eth | tr '\\n' ' '"), "eth0");
    assert!(
        !inside(&lab, &web, "cat /etc/hosts").contains(&db)
            && !inside(&lab, &db, "cat /etc/hosts").contains("www")
    );
    let refused = lab.0.knarr(&["network", "disconnect", "back", &web]).failed();
    assert!(refused.contains("is not connected to the network back"), "{refused}");
    lab.knarr(&["rm", "-f", &db]);
    lab.knarr(&["network", "rm", "back"]);
}

#[test]
fn the_way_out_and_published_ports_move() {
    let (lab, web, port) = (Lab::new(), named("con-port"), "47131");
    let _ = created(&lab, "closed", &["--internal"]);
    let _ = created(&lab, "open", &[]);
    let publish = format!("127.0.0.1:{port}:80");
    stays(&lab, &web, &["--network", "closed", "-p", &publish]);
    inside(&lab, &web, "mkdir -p /srv && echo it-is-me > /srv/index.html && busybox httpd -p 80 -h /srv");
    let asked = || answer(port);
    lab.knarr(&["network", "connect", "open", &web]);
    assert_eq!((way_out(&lab, &web).as_str(), asked().as_str()), ("eth1", "it-is-me"));
    lab.knarr(&["network", "connect", "bridge", &web]);
    assert_eq!((way_out(&lab, &web).as_str(), asked().as_str()), ("eth1", "it-is-me"));
    lab.knarr(&["network", "disconnect", "open", &web]);
    assert_eq!((way_out(&lab, &web).as_str(), asked().as_str()), ("eth2", "it-is-me"));
    // A stopped container gives the port back, whichever network had it.
    lab.knarr(&["stop", "-t", "0", &web]);
    lab.knarr(&["run", "--rm", "-p", &publish, "base:1", "true"]);
    lab.knarr(&["start", &web]);
    assert_eq!(inside(&lab, &web, "ls /sys/class/net | grep eth | tr '\\n' ' '"), "eth0 eth1");
    // The last one goes too: a loopback is left.
    lab.knarr(&["network", "disconnect", "closed", &web]);
    lab.knarr(&["network", "disconnect", "-f", "bridge", &web]);
    assert_eq!(inside(&lab, &web, "ls /sys/class/net | grep eth | wc -l"), "0");
    lab.knarr(&["restart", "-t", "0", &web]);
    assert_eq!(field(&lab, &web, "{{.NetworkSettings.Networks}} {{.NetworkSettings.IPAddress}}"), "map[]");
    assert!(reaches(&lab, &web, "127.0.0.1"));
    lab.knarr(&["network", "connect", "open", &web]);
    assert_eq!((way_out(&lab, &web).as_str(), reaches(&lab, &web, "127.0.0.1")), ("eth0", true));
}

#[test]
fn a_container_is_made_with_several_networks() {
    let (lab, both, late) = (Lab::new(), named("con-both"), named("con-late"));
    let first = created(&lab, "one", &[]);
    let second = created(&lab, "two", &[]);
    let address = second(7);
    let wanted = format!("name=two,ip={address},alias=b,mac-address=02:00:00:00:0b:07,gw-priority=1");
    stays(
        &lab,
        &both,
        &["--network", "one", "--network", &wanted, "--ip", &first(5), "--network-alias", "a"],
    );
    let links = inside(&lab, &both, "for n in 0 1; do ip -o -4 addr show eth$n | awk '{print $2, $4}'; done");
    assert_eq!(links, format!("eth0 {}/32\neth1 {address}/32", first(5)));
    assert_eq!(inside(&lab, &both, "cat /sys/class/net/eth1/address"), "02:00:00:00:0b:07");
    assert_eq!(way_out(&lab, &both), "eth1");
    assert_eq!(
        field(&lab, &both, "{{.NetworkSettings.Networks.two.MacAddress}} {{.HostConfig.NetworkMode}}"),
        "02:00:00:00:0b:07 one"
    );
    for (network, alias) in [("one", "a"), ("two", "b")] {
        let ping = ["busybox", "ping", "-c", "1", alias];
        lab.knarr(&[&["run", "--rm", "--network", network, "base:1"], &ping[..]].concat());
    }
    // One that does not run yet is connected for its start.
    lab.knarr(&["create", "--name", &late, "--network", "one", "base:1", "sleep", "3600"]);
    lab.knarr(&["network", "connect", "two", &late]);
    lab.knarr(&["network", "connect", "--ip", &second(9), "two", &late]);
    lab.knarr(&["network", "disconnect", "one", &late]);
    lab.knarr(&["start", &late]);
    assert!(inside(&lab, &late, "ip -o addr show eth0").contains(&second(9)));
    assert!(reaches(&lab, &late, &both) && reaches(&lab, &both, &late));
    for (more, words) in [
        (
            &["--network", "one", "--network", "bridge"][..],
            "cannot attach both user-defined and non-user-defined network-modes",
        ),
        (&["--network", "one", "--network", "one"], "network \"one\" is specified multiple times"),
        (
            &["--network", "name=one,alias=x", "--network-alias", "y"],
            "cannot specify both --network-alias and per-network alias",
        ),
        (&["--mac-address", "nonsense"], "nonsense is not a valid mac address"),
        (&["--network", "one", "--ip6", "fd00::5"], "no configured subnet contains IP address fd00::5"),
    ] {
        let refused = lab.0.knarr(&[&["run", "--rm"], more, &["base:1", "true"]].concat()).failed();
        assert!(refused.contains(words), "{more:?}: {refused}");
    }
    let some = lab.0.knarr(&["network", "inspect", "-f", "{{.Name}}", "one", "none-such"]);
    assert_eq!((some.code, some.out.as_str()), (1, "one\n"), "{}", some.err);
    for (arguments, words) in [
        (
            &["connect", "host", &both][..],
            "container cannot be disconnected from host network or connected to host network",
        ),
        (&["connect", "none", &both], "with one of the networks in private (none) mode"),
        (&["connect", "none-such", &both], "network none-such not found"),
        (
            &["connect", "--ip", "10.9.9.9", "bridge", &both],
            "user specified IP address is supported on user defined networks only",
        ),
        (&["connect", "one", "none-such"], "No such container: none-such"),
        (&["connect", "--ip", "10.9.9.9", "two", &late], "already exists in network two"),
    ] {
        let refused = lab.0.knarr(&[&["network"], arguments].concat()).failed();
        assert!(refused.contains(words), "{arguments:?}: {refused}");
    }
}

#[test]
fn what_a_network_has_to_give() {
    let (lab, user, linked) = (Lab::new(), named("con-user"), named("con-link"));
    let (start, place) = range();
    let at = |n: u32| format!("{start}.{}", place + n);
    lab.knarr(&[
        "network",
        "create",
        "--subnet",
        &format!("{start}.{place}/28"),
        "--gateway",
        &at(14),
        "--ip-range",
        &format!("{start}.{}/30", place + 4),
        "--aux-address",
        &format!("printer={}", at(4)),
        "--ipv6",
        "mine",
    ]);
    let document: Value = serde_json::from_str(&lab.knarr(&["network", "inspect", "mine"])).unwrap();
    let config = &document[0]["IPAM"]["Config"];
    assert_eq!(
        (&config[0]["Gateway"], &config[0]["IPRange"]),
        (&at(14).into(), &format!("{start}.{}/30", place + 4).into())
    );
    assert_eq!(config[0]["AuxiliaryAddresses"]["printer"], at(4));
    let prefix = config[1]["Subnet"].as_str().unwrap().trim_end_matches("::/64").to_owned();
    assert!(prefix.starts_with("fd"), "{prefix}");
    let second = format!("{prefix}::abcd");
    stays(&lab, &user, &["--network", "mine", "--ip6", &second]);
    assert_eq!(
        field(
            &lab,
            &user,
            "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{.Gateway}} {{.GlobalIPv6Address}}{{end}}"
        ),
        format!("{} {} {second}", at(5), at(14))
    );
    assert!(inside(&lab, &user, "ip -o -6 addr show eth0").contains(&second));
    stays(&lab, &linked, &["--network", "mine", "--link", &format!("{user}:store")]);
    assert!(reaches(&lab, &linked, "store") && reaches(&lab, &linked, &at(14)));
    assert_eq!(field(&lab, &linked, "{{.NetworkSettings.Networks.mine.IPAddress}}"), at(6));
    for (more, words) in [
        (
            &["--subnet", "10.145.0.0/24", "--ip-range", "10.144.0.0/28"][..],
            "no matching subnet for range 10.144.0.0/28",
        ),
        (
            &["--subnet", "10.145.0.0/24", "--gateway", "10.144.0.1"],
            "no matching subnet for gateway 10.144.0.1",
        ),
        (
            &["--subnet", "10.145.0.0/24", "--aux-address", "a=10.144.0.1"],
            "no matching subnet for aux-address 10.144.0.1",
        ),
        (&["--gateway", "10.144.0.1"], "must have a corresponding subnet"),
    ] {
        let refused = lab.0.knarr(&[&["network", "create"], more, &["bad"]].concat()).failed();
        assert!(refused.contains(words), "{more:?}: {refused}");
    }
}

#[test]
fn a_link_gives_a_name_on_the_bridge_of_all() {
    let (lab, db, web) = (Lab::new(), named("lnk-db"), named("lnk-web"));
    stays(&lab, &db, &[]);
    stays(
        &lab,
        &web,
        &["--link", &format!("{db}:store"), "--link", &db, "--mac-address", "02:00:00:00:0c:01"],
    );
    assert!(reaches(&lab, &web, "store") && reaches(&lab, &web, &db));
    assert_eq!(inside(&lab, &web, "cat /sys/class/net/eth0/address"), "02:00:00:00:0c:01");
    lab.knarr(&["stop", "-t", "0", &web, &db]);
    let refused = lab.0.knarr(&["start", &web]).failed();
    assert!(
        refused.contains(&format!("Cannot link to a non running container: /{db} AS /{web}/store")),
        "{refused}"
    );
    let refused = lab.0.knarr(&["run", "--rm", "--link", "none-such", "base:1", "true"]).failed();
    assert!(
        refused.contains("could not get container for none-such: No such container: none-such"),
        "{refused}"
    );
}
