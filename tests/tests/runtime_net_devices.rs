//! `linux.netDevices`: a device of the host moves into the container, with its name, addresses and size of packets.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins::{self, Said};
use knarr_tests::bundle::Bundle;
use serde_json::json;
use std::process::Command;

/// Runs the container in a network namespace of its own, which has one end of a pair of devices with addresses.
fn run(bundle: &Bundle) -> Said {
    // By its path: the shell of the virtual machine has an `ip` of its own, which knows of no pairs.
    let places = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"];
    let ip = places.iter().find(|place| std::path::Path::new(place).exists()).unwrap();
    let prepare = "$IP link add knv0 type veth peer name knv1 && $IP addr add 10.99.0.1/24 brd + dev knv0 && \
                   $IP addr add fd00:9::1/64 dev knv0 && $IP link set knv0 mtu 1400 && $IP link set knv0 up && \
                   $IP link set lo up && \"$@\"; code=$?; $IP -o link; exit $code";
    let command = bundle.command(&["run", "--bundle", bundle.path().to_str().unwrap(), &bundle.id]);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    bins::run(Command::new("unshare").args(["-n", "sh", "-c", prepare, "sh"]).args(words).env("IP", ip))
}

#[test]
fn a_device_is_moved_renamed_and_keeps_its_addresses() {
    let mut bundle = Bundle::shell("busybox ip addr show dev ct0; busybox ip -o link");
    bundle.config["linux"]["netDevices"] = json!({"knv0": {"name": "ct0"}});
    let out = run(&bundle).ok();
    for text in
        ["10.99.0.1/24 brd 10.99.0.255 scope global ct0", "inet6 fd00:9::1/64 scope global", "mtu 1400", "UP"]
    {
        assert!(out.contains(text), "{text}: {out}");
    }
    assert!(!out.contains("knv0:") && !out.contains("knv0@"), "{out}");
    bundle.assert_gone();
}

#[test]
fn several_devices_move_and_one_without_a_new_name_keeps_its_own() {
    let mut bundle = Bundle::shell("busybox ip -o link");
    bundle.config["linux"]["netDevices"] = json!({"knv0": {}, "knv1": {"name": "other"}});
    let out = run(&bundle).ok();
    let inside =
        out.lines().filter(|line| line.contains("knv0@other") || line.contains("other@knv0")).count();
    assert_eq!(inside, 2, "{out}");
}

#[test]
fn what_cannot_be_moved_is_named_and_nothing_is_left() {
    for (devices, error) in [
        (json!({"nope": {}}), "link not found for interface nope on runtime namespace"),
        (json!({"knv0": {"name": "lo"}}), "fail to move network device knv0 to network namespace"),
        (json!({"knv0": {"name": "a/b"}}), "invalid network device name"),
        (json!({"a-name-that-is-too-long": {}}), "invalid network device name"),
    ] {
        let mut bundle = Bundle::shell("true");
        bundle.config["linux"]["netDevices"] = devices;
        let said = run(&bundle);
        assert_ne!(said.code, 0, "{said:?}");
        assert!(said.err.contains(error), "{error}: {said:?}");
        assert!(said.out.contains("knv0@knv1"), "it is where it was: {said:?}");
        bundle.assert_gone();
    }
    let mut bundle = Bundle::shell("true");
    bundle.config["linux"]["netDevices"] = json!({"knv0": {}});
    bundle.config["linux"]["namespaces"].as_array_mut().unwrap().retain(|n| n["type"] != "network");
    let error = run(&bundle).failed();
    assert!(error.contains("unable to move network devices without a private NET namespace"), "{error}");
}
