//! Addresses and ports are given once, whoever asks and whatever happened before.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn ledger() -> (tempfile::TempDir, Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let ledger = Ledger::new(dir.path().join("network"));
    (dir, ledger)
}

fn range() -> PodRange {
    PodRange::parse("10.42.0.0/28").unwrap()
}

fn take(
    ledger: &LockedLedger<'_>,
    sandbox_id: &str,
    range: PodRange,
    wanted: Option<Ipv4Addr>,
    host_ports: &[HostPort],
) -> anyhow::Result<Allocation> {
    let part = Part { address: wanted, ..Part::default() };
    let claim = Claim { sandbox_id, owner: Path::new("/x"), part: &part, host_ports };
    ledger.allocate(&claim, &range.into())
}

#[test]
fn the_same_sandbox_has_the_same_address() {
    let (_dir, ledger) = ledger();
    let ledger = ledger.lock().unwrap();
    let first = take(&ledger, "a", range(), None, &[]).unwrap();
    assert_eq!(take(&ledger, "a", range(), None, &[]).unwrap(), first);
    assert_ne!(take(&ledger, "b", range(), None, &[]).unwrap().address, first.address);
}

#[test]
fn a_port_is_one_pods_until_it_leaves() {
    let (_dir, ledger) = ledger();
    let ledger = ledger.lock().unwrap();
    let port = |protocol, ip: Option<&str>| HostPort {
        protocol,
        host_ip: ip.map(|ip| ip.parse().unwrap()),
        host_port: 80,
        container_port: 8080,
    };
    let with = |id: &str, port: HostPort| take(&ledger, id, range(), None, &[port]);
    let first = with("a", port("tcp", Some("127.0.0.1"))).unwrap();
    with("b", port("udp", None)).unwrap();
    with("c", port("tcp", Some("10.0.0.1"))).unwrap();
    let error = with("d", port("tcp", None)).unwrap_err().to_string();
    assert_eq!(error, "Bind for 0.0.0.0:80 failed: port is already allocated");
    assert!(with("e", port("tcp", Some("127.0.0.1"))).is_err());
    ledger.leave(&first).unwrap();
    with("e", port("tcp", Some("127.0.0.1"))).unwrap();
}

#[test]
fn any_address_is_any_of_its_family() {
    let meets = |one: &str, other: &str| {
        let ip = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        meet(ip(one), ip(other)) && meet(ip(other), ip(one))
    };
    for (one, other) in [("", "::1"), ("0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::1", "::1"), ("", "")] {
        assert!(meets(one, other), "{one} {other}");
    }
    for (one, other) in [("0.0.0.0", "::"), ("0.0.0.0", "::1"), ("::", "10.0.0.1"), ("::1", "::2")] {
        assert!(!meets(one, other), "{one} {other}");
    }
}

#[test]
fn networks_share_ports_and_nothing_else() {
    let (_dir, first) = ledger();
    let second = first.clone().of_network("second");
    let port = HostPort { protocol: "tcp", host_ip: None, host_port: 80, container_port: 80 };
    let other = PodRange::parse("10.50.0.0/24").unwrap();
    take(&first.lock().unwrap(), "a", range(), None, std::slice::from_ref(&port)).unwrap();
    let ledger = second.lock().unwrap();
    let error = take(&ledger, "b", other, None, &[port]).unwrap_err().to_string();
    assert_eq!(error, "Bind for 0.0.0.0:80 failed: port is already allocated");
    let found = take(&ledger, "b", other, None, &[]).unwrap();
    assert_eq!((found.address.to_string().as_str(), ledger.all().unwrap().len()), ("10.50.0.2", 1));
    ledger.clear().unwrap();
    drop(ledger);
    assert_eq!(first.lock().unwrap().all().unwrap().len(), 1);
}

#[test]
fn an_address_may_be_wanted() {
    let (_dir, ledger) = ledger();
    let ledger = ledger.lock().unwrap();
    let asked = |id: &str, wanted: &str| take(&ledger, id, range(), Some(wanted.parse().unwrap()), &[]);
    assert_eq!(asked("a", "10.42.0.9").unwrap().address.to_string(), "10.42.0.9");
    assert_eq!(asked("b", "10.42.0.9").unwrap_err().to_string(), "Address already in use");
    for outside in ["10.42.0.0", "10.42.0.1", "10.42.0.15", "10.43.0.4"] {
        let error = asked("c", outside).unwrap_err().to_string();
        assert!(error.starts_with("no configured subnet contains"), "{outside}: {error}");
    }
}

#[test]
fn a_full_range_says_so() {
    let (_dir, ledger) = ledger();
    let ledger = ledger.lock().unwrap();
    for n in 0..13 {
        take(&ledger, &format!("pod{n}"), range(), None, &[]).unwrap();
    }
    let error = take(&ledger, "late", range(), None, &[]).unwrap_err().to_string();
    assert_eq!(error, "no free address in pod CIDR 10.42.0.0/28 (13 in use)");
}

#[test]
fn an_address_is_not_free_before_its_link_is_gone() {
    let (_dir, ledger) = ledger();
    let ledger = ledger.lock().unwrap();
    let tiny = PodRange::parse("10.42.0.0/30").unwrap();
    let first = take(&ledger, "a", tiny, None, &[]).unwrap();
    ledger.leave(&first).unwrap();
    assert_eq!((ledger.all().unwrap(), ledger.leaving().unwrap()), (vec![], vec![first.clone()]));
    assert!(take(&ledger, "b", tiny, None, &[]).is_err());
    ledger.release(&first).unwrap();
    assert_eq!(take(&ledger, "b", tiny, None, &[]).unwrap().address, first.address);
}

#[test]
fn a_second_address_is_unique_though_the_first_range_changed() {
    let (_dir, ledger) = ledger();
    let ledger = ledger.lock().unwrap();
    let allocate =
        |id: &str, range: &str| take(&ledger, id, PodRange::parse(range).unwrap(), None, &[]).unwrap();
    let old = allocate("old", "10.42.0.0/24,fd00::/112");
    fs::remove_file(ledger.dir.join("last")).unwrap();
    let new = allocate("new", "10.42.7.0/24,fd00::/112");
    assert_eq!(old.second.unwrap().address.to_string(), "fd00::2");
    assert_eq!(new.second.unwrap().address.to_string(), "fd00::3");
    assert_eq!(new.address.to_string(), "10.42.7.3");
}

#[test]
fn a_cut_record_is_no_record() {
    let (dir, before) = ledger();
    take(&before.lock().unwrap(), "a", range(), None, &[]).unwrap();
    fs::write(dir.path().join("network/pods/a"), b"{\"sandbox").unwrap();
    let after = Ledger::new(dir.path().join("network"));
    let ledger = after.lock().unwrap();
    assert_eq!(ledger.all().unwrap(), []);
    take(&ledger, "a", range(), None, &[]).unwrap();
    assert_eq!(ledger.all().unwrap().len(), 1);
}

#[test]
fn ids_are_not_paths() {
    let (_dir, ledger) = ledger();
    let ledger = ledger.lock().unwrap();
    for bad in ["", "..", "../x", "a/b", ".hidden", "a b", &"x".repeat(256)] {
        assert!(ledger.find(bad).is_err(), "{bad:?}");
    }
}

/// What another process changes is seen, and a process of a version that does not count as well.
#[test]
fn what_others_change_is_seen() {
    let (dir, ours) = ledger();
    let theirs = Ledger::new(dir.path().join("network"));
    let count = |ledger: &Ledger| ledger.lock().unwrap().all().unwrap().len();
    for (number, ledger) in [&ours, &theirs, &theirs, &ours].into_iter().enumerate() {
        let id = format!("pod{number}");
        take(&ledger.lock().unwrap(), &id, range(), None, &[]).unwrap();
        assert_eq!((count(&ours), count(&theirs)), (number + 1, number + 1));
    }
    let first = theirs.lock().unwrap().find("pod0").unwrap().unwrap();
    theirs.lock().unwrap().leave(&first).unwrap();
    assert_eq!(ours.lock().unwrap().leaving().unwrap(), std::slice::from_ref(&first));
    ours.lock().unwrap().release(&first).unwrap();
    assert_eq!(theirs.lock().unwrap().leaving().unwrap().len(), 0);
    assert_eq!(count(&theirs), 3);
    let pods = dir.path().join("network/pods");
    fs::remove_file(pods.join("pod1")).unwrap();
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    File::open(&pods).unwrap().set_modified(long_ago).unwrap();
    assert_eq!((count(&ours), count(&theirs)), (2, 2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_address_is_held_twice_or_lost(steps in proptest::collection::vec((0u8..20, any::<bool>()), 1..60)) {
        let (_dir, ledger) = ledger();
        let ledger = ledger.lock().unwrap();
        let mut model: BTreeMap<String, Ipv4Addr> = BTreeMap::new();
        for (pod, arrives) in steps {
            let id = format!("pod{pod}");
            if arrives {
                match take(&ledger, &id, range(), None, &[]) {
                    Ok(allocation) => { model.insert(id, allocation.address); }
                    Err(_) => prop_assert_eq!(model.len(), 13),
                }
            } else {
                if let Some(pod) = ledger.find(&id).unwrap() {
                    ledger.leave(&pod).unwrap();
                    ledger.release(&pod).unwrap();
                }
                model.remove(&id);
            }
            let held: BTreeMap<_, _> =
                ledger.all().unwrap().into_iter().map(|a| (a.sandbox_id, a.address)).collect();
            let distinct: BTreeSet<_> = held.values().collect();
            prop_assert_eq!(distinct.len(), held.len());
            prop_assert_eq!(&held, &model);
        }
    }
}
