//! Documents that somebody has tampered with: a valid `config.json` or record in which anything is replaced, removed or
//! repeated is planned or refused, and never ends in a panic. What is refused is refused with words.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use super::{Host, Options, Plan};
use crate::cgroups::layout::{Hierarchy, Layout};
use crate::container::Container;
use crate::intel_rdt::Resctrl;
use crate::spec::{self, Spec};
use proptest::prelude::*;
use serde_json::{Value, json};

/// One of everything.
fn config() -> Value {
    json!({
        "ociVersion": "1.3.0", "hostname": "h", "domainname": "d", "annotations": {"org.systemd.property.TimeoutStopUSec": "uint64 5"},
        "root": {"path": "rootfs", "readonly": true},
        "process": {
            "terminal": true, "consoleSize": {"height": 1, "width": 2}, "cwd": "/", "args": ["sh"], "env": ["A=1", "PATH=/bin"],
            "user": {"uid": 1, "gid": 2, "umask": 18, "additionalGids": [3]}, "noNewPrivileges": true, "oomScoreAdj": 5,
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": [], "ambient": []},
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 2}], "apparmorProfile": "p",
            "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
            "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 4}, "execCPUAffinity": {"initial": "0-1", "final": "0"}},
        "hooks": {"prestart": [{"path": "/x", "args": ["x"], "env": ["A=1"], "timeout": 1}], "poststop": [{"path": "/x"}]},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/t", "type": "tmpfs", "source": "t", "options": ["size=1m", "rro", "tmpcopyup", "rprivate"]},
            {"destination": "/b", "type": "bind", "source": "/x", "options": ["rbind", "idmap"],
             "uidMappings": [{"containerID": 0, "hostID": 1, "size": 2}], "gidMappings": [{"containerID": 0, "hostID": 1, "size": 2}]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "c", "options": ["ro"]}],
        "linux": {
            "namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "user"}, {"type": "time"}, {"type": "uts"}, {"type": "network", "path": "/proc/1/ns/net"}],
            "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}], "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
            "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 2}}, "sysctl": {"net.ipv4.ip_forward": "1"},
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 2, "fileMode": 438, "uid": 0, "gid": 0}],
            "maskedPaths": ["/proc/keys"], "readonlyPaths": ["/proc/sys"], "rootfsPropagation": "rslave", "cgroupsPath": "/a/b",
            "personality": {"domain": "LINUX32"}, "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0"},
            "resources": {
                "devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"}],
                "memory": {"limit": 1_000_000, "swap": 2_000_000, "reservation": 500_000, "swappiness": 5, "disableOOMKiller": true},
                "cpu": {"shares": 2, "quota": 1000, "period": 1000, "burst": 5, "cpus": "0-1", "mems": "0", "idle": 1},
                "pids": {"limit": 5}, "blockIO": {"weight": 10, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 5}]},
                "hugepageLimits": [{"pageSize": "2MB", "limit": 5}], "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
                "rdma": {"mlx": {"hcaHandles": 1, "hcaObjects": 2}}, "unified": {"memory.high": "5"}},
            "seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "", "syscalls": [
                    {"names": ["read", "socket"], "action": "SCMP_ACT_ALLOW"},
                    {"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
                     "args": [{"index": 1, "value": 2, "valueTwo": 3, "op": "SCMP_CMP_MASKED_EQ"}]}]}},
    })
}

/// What is put in the place of anything.
fn anything() -> impl Strategy<Value = Value> {
    let numbers = prop_oneof![
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(i64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(u64::MAX)),
        Just(json!(1e300)),
        any::<u32>().prop_map(|number| json!(number)),
    ];
    let words = prop_oneof![
        Just(String::new()),
        Just("..".into()),
        Just("/../..".into()),
        Just("\0".into()),
        Just("a=\0".into()),
        Just("0-4294967295,7-3,-".into()),
        Just("9".repeat(400)),
        Just("SCMP_ARCH_X32".into()),
        Just("/".repeat(5000)),
        ".{0,8}",
    ];
    prop_oneof![
        numbers,
        words.prop_map(Value::String),
        Just(Value::Null),
        Just(json!(true)),
        Just(json!([])),
        Just(json!({})),
        Just(json!([null])),
    ]
}

/// A change of one place, chosen among all there are.
#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    Repeat,
}

fn change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let change = prop_oneof![4 => anything().prop_map(Change::Replace), 1 => Just(Change::Remove), 1 => Just(Change::Repeat)];
    (any::<prop::sample::Index>(), change)
}

/// The paths of all places in a document.
fn places(value: &Value, path: &str, into: &mut Vec<String>) {
    into.push(path.to_string());
    match value {
        Value::Object(map) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            map.iter().for_each(|(key, value)| places(value, &format!("{path}/{}", escaped(key)), into));
        }
        Value::Array(list) => {
            list.iter()
                .enumerate()
                .for_each(|(index, value)| places(value, &format!("{path}/{index}"), into));
        }
        _ => {}
    }
}

fn tamper(document: &mut Value, (place, change): (prop::sample::Index, Change)) {
    let mut all = vec![];
    places(document, "", &mut all);
    let path = place.get(&all);
    let Some((parent, name)) = path.rsplit_once('/') else {
        if let Change::Replace(value) = change {
            *document = value;
        }
        return;
    };
    let (Some(target), name) = (document.pointer_mut(parent), name.replace("~1", "/").replace("~0", "~"))
    else {
        return;
    };
    match (target, change) {
        (Value::Object(map), Change::Replace(value)) => drop(map.insert(name, value)),
        (Value::Object(map), Change::Remove) => drop(map.remove(&name)),
        (Value::Array(list), change) => {
            let index: usize = name.parse().unwrap();
            match change {
                Change::Replace(value) => list[index] = value,
                Change::Remove => drop(list.remove(index)),
                Change::Repeat => list.insert(index, list[index].clone()),
            }
        }
        _ => {}
    }
}

fn hosts() -> [Host; 2] {
    let hierarchy = |controllers: &[&str]| Hierarchy {
        controllers: controllers.iter().map(|name| (*name).to_string()).collect(),
        mount: "/sys/fs/cgroup".into(),
        own: "own/place".into(),
    };
    let all = [
        "cpu", "cpuset", "memory", "pids", "devices", "hugetlb", "blkio", "rdma", "net_cls", "net_prio",
        "freezer",
    ];
    let first = Layout::V1(all.iter().map(|name| hierarchy(&[name])).collect());
    let full = Resctrl { mount: Some("/sys/fs/resctrl".into()), cache: true, bandwidth: true };
    [
        Host { layout: first, kcore: true, selinux: true, resctrl: full },
        Host {
            layout: Layout::V2(hierarchy(&[])),
            kcore: false,
            selinux: false,
            resctrl: Resctrl::default(),
        },
    ]
}

/// Files of version 2 alone are refused where there is version 1, whatever else the document says.
fn suited(spec: &Spec, host: &Host) -> Spec {
    let mut spec = spec.clone();
    let resources = spec.linux.as_mut().and_then(|linux| linux.resources.as_mut());
    if let (Some(resources), Layout::V1(_)) = (resources, &host.layout) {
        resources.unified.clear();
    }
    spec
}

/// Plans it on both kinds of hosts, as root, as an ordinary user and with systemd, and describes every step.
fn plan(document: &[u8]) -> Vec<Result<usize, String>> {
    let spec: Spec = match spec::parse(document) {
        Ok(spec) => spec,
        Err(error) => return vec![Err(error.to_string())],
    };
    let mut results = vec![];
    for host in hosts() {
        let spec = suited(&spec, &host);
        for (systemd, rootless) in [(false, false), (true, false), (false, true)] {
            let options = Options {
                id: "c".into(),
                bundle: "/b".into(),
                systemd,
                rootless,
                wait_for_start: true,
                ..Options::default()
            };
            let planned = Plan::new(&spec, &options, &host);
            let described = |plan: Plan| {
                let words = plan.steps.iter().map(|step| step.description().operation.len());
                words.filter(|length| *length > 0).count()
            };
            results.push(planned.map(described).map_err(|error| error.to_string()));
        }
    }
    results
}

#[test]
fn the_untouched_document_is_planned() {
    // systemd wants another form of cgroupsPath.
    let planned = plan(config().to_string().as_bytes());
    assert!(
        planned.iter().filter(|result| result.as_ref().is_ok_and(|steps| *steps > 30)).count() >= 4,
        "{planned:?}"
    );
}

proptest! {
    #[test]
    fn a_changed_configuration_is_planned_or_refused(changes in prop::collection::vec(change(), 1..4)) {
        let mut document = config();
        changes.into_iter().for_each(|change| tamper(&mut document, change));
        for result in plan(document.to_string().as_bytes()) {
            prop_assert!(result.as_ref().map_or_else(|why| !why.is_empty(), |steps| *steps > 0), "{result:?}");
        }
    }

    #[test]
    fn bytes_that_were_changed_are_planned_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), end in any::<prop::sample::Index>(),
    ) {
        let mut document = config().to_string().into_bytes();
        for (place, byte) in changes {
            let place = place.index(document.len());
            document[place] = byte;
        }
        document.truncate(document.len() - end.index(document.len()) % 50);
        for result in plan(&document) {
            prop_assert!(result.map_or_else(|why| !why.is_empty(), |steps| steps > 0));
        }
    }

    #[test]
    fn a_changed_record_is_read_or_refused(changes in prop::collection::vec(change(), 1..4), of_init in any::<bool>()) {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("c");
        std::fs::create_dir(&directory).unwrap();
        let mut record = json!({"record": {"id": "c", "oci_version": "1.3.0", "bundle": "/b", "rootfs": "/b/r", "created": "2026-01-01T00:00:00Z",
            "annotations": {}, "cgroups": {"directories": [], "unified": false, "scope": null}, "shares_pids": false, "hooks": {}},
            "config": config()});
        let mut init = json!({"pid": 1, "start": 2});
        changes.into_iter().for_each(|change| tamper(if of_init { &mut init } else { &mut record }, change));
        std::fs::write(directory.join("state.json"), record.to_string()).unwrap();
        std::fs::write(directory.join("init.json"), init.to_string()).unwrap();
        match Container::peek(root.path(), "c") {
            Err(why) => prop_assert!(!why.to_string().is_empty()),
            Ok(container) => {
                // Whatever it says, looking at it is safe.
                drop((container.status(), container.state(), container.spec().is_ok()));
            }
        }
    }
}
