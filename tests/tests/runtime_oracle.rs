//! The same container, made by runc and by us: what is seen inside and what the commands say must be equal.

use knarr_tests::bundle::Bundle;
use knarr_tests::oracle::same;
use serde_json::{Value, json};

#[test]
fn a_process_sees_the_same() {
    let script = "id; pwd; umask; env | grep -v SHLVL; grep -E '^(Cap|NoNewPrivs|Seccomp:|Uid|Gid|Groups)' /proc/self/status; \
                  ulimit -n; ls /dev /proc/self/fd; hostname; cat /proc/self/oom_score_adj; stat -c '%A %h %u:%g %t:%T %N' /dev/null /dev/ptmx /dev/fd";
    same(script, |bundle| {
        bundle.config["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
        bundle.run().ok()
    });
}

#[test]
fn mounts_have_the_same_attributes() {
    same("cat /proc/self/mountinfo", |bundle| {
        let mounts = bundle.config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({"destination": "/t", "type": "tmpfs", "source": "t", "options": ["ro", "noexec", "noatime"]}));
        mounts.push(json!({"destination": "/b", "type": "bind", "source": "/proc/sys/kernel", "options": ["bind", "ro"]}));
        let out = bundle.run().ok();
        // Place, attributes and type; masks come from another device node, which is a decision of ours.
        let place = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            let fields: Vec<&str> = left.split(' ').collect();
            let (path, attributes) = (*fields.get(4)?, *fields.get(5)?);
            let kind = right.split(' ').next()?;
            (path.matches('/').count() == 1 && path != "/").then(|| format!("{path} {attributes} {kind}\n"))
        };
        out.lines().filter_map(place).collect()
    });
}

#[test]
fn state_and_list_have_the_same_shape() {
    let shape = |text: &str| {
        let value: Value = serde_json::from_str(text).unwrap();
        let object = if value.is_array() { value[0].clone() } else { value };
        let types = object.as_object().unwrap().iter().map(|(key, value)| {
            let fixed = matches!(key.as_str(), "id" | "bundle" | "rootfs" | "status" | "owner");
            format!("{key}={}\n", if fixed { value.to_string() } else { kind(value).into() })
        });
        types.collect::<String>()
    };
    same("sleep 1000", |bundle| {
        bundle.start();
        let list = knarr_tests::bins::run(&mut bundle.command(&["list", "--format", "json"])).ok();
        shape(&bundle.call("state", &[]).ok()) + &shape(&list)
    });
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "number",
        Value::String(_) => "string",
        _ => "other",
    }
}

#[test]
fn failures_have_the_same_status() {
    same("sleep 1000", |bundle| {
        bundle.start();
        let codes = |bundle: &Bundle| {
            [
                bundle.call("start", &[]).code,
                bundle.call("resume", &[]).code,
                bundle.call("delete", &[]).code,
                bundle.call_with("exec", &[], &["sh", "-c", "exit 9"]).code,
                bundle.call_with("exec", &[], &["sh", "-c", "kill -9 $$"]).code,
                bundle.call_with("kill", &[], &["NOPE"]).code,
                bundle.call("delete", &["--force"]).code,
                bundle.call("delete", &["--force"]).code,
                bundle.call("delete", &[]).code,
            ]
        };
        format!("{:?}", codes(bundle))
    });
}

/// Every member of an answer by its path and type; numbers differ from run to run.
fn shape(value: &Value, path: &str, into: &mut std::collections::BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| shape(value, &format!("{path}.{key}"), into))
        }
        Value::Array(list) => list.iter().for_each(|value| shape(value, &format!("{path}[]"), into)),
        other => drop(into.insert(format!("{path}: {}", kind(other)))),
    }
}

/// Members that a version of runc after the installed one has, and counters that are there only when they are not zero.
fn may_differ(member: &str) -> bool {
    let newer =
        ["psi", ".usage.max", ".swapOnlyUsage", ".swapOnly", "rsvd", ".burst", ".nr_bursts", ".hugetlb."];
    let counters =
        [".raw.", "Recursive", ".percpu_", "usage.kernel", "usage.user", ".throttling", ".cache", ".failcnt"];
    newer.iter().chain(&counters).any(|word| member.contains(word))
}

#[test]
fn statistics_have_the_same_shape() {
    same("dd if=/dev/zero of=/tmp/f bs=1k count=100 2>/dev/null; sleep 1000", |bundle| {
        bundle.config["linux"]["resources"]["memory"] = json!({"limit": 67_108_864});
        bundle.config["linux"]["resources"]["pids"] = json!({"limit": 50});
        bundle.start();
        let stats: Value = serde_json::from_str(&bundle.call("events", &["--stats"]).ok()).unwrap();
        assert_eq!((&stats["type"], &stats["id"]), (&json!("stats"), &json!(bundle.id)));
        let mut members = std::collections::BTreeSet::new();
        shape(&stats, "", &mut members);
        members.into_iter().filter(|member| !may_differ(member)).map(|member| member + "\n").collect()
    });
}
