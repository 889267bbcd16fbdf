//! One configuration, two runtimes, one report: a few hundred generated `config.json` are run by runc and by us, and a
//! probe inside tells everything it can see of how it was set up. The reports must be equal, line by line; what differs
//! on purpose is taken out by `decided`, each with its reason.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used, clippy::panic)]

use knarr_tests::bundle::Bundle;
use knarr_tests::oracle::both;
use serde_json::{Value, json};

/// What the process inside sees. Every line begins with what it is about.
const PROBE: &str = r#"
tell() { while IFS= read -r line; do echo "$1 $line"; done; }
id | tell id
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status | tell status
cat /proc/self/limits | tell limit
env | grep -v -e ^SHLVL -e ^OLDPWD -e ^HOST_ | tell env
pwd | tell cwd
umask | tell umask
hostname | tell hostname
cat /proc/sys/kernel/domainname | tell domainname
cat /proc/self/oom_score_adj | tell oom
cut -d ' ' -f 1,5,6,7,8 /proc/1/stat | tell init
tr '\0' ' ' </proc/1/cmdline | tell args
for n in cgroup ipc mnt net pid time user uts; do
    eval "host=\$HOST_$n"
    [ "$(readlink /proc/self/ns/$n)" = "$host" ] && echo "namespace $n host" || echo "namespace $n own"
done
ls /proc/self/fd | tell fd
# Links of the host come and go.
[ "$(readlink /proc/self/ns/net)" = "$HOST_net" ] || {
    cut -d : -f 1 /proc/net/dev | tell link
    cat /proc/net/if_inet6 | tell address6
    for f in /sys/class/net/*/flags; do echo "$f $(cat $f 2>&1)"; done | tell flags
}
grep -E '^(SigPnd|SigBlk|SigCgt|ShdPnd|Seccomp_filters|Cpus_allowed_list|Mems_allowed_list|CoreDumping|THP_enabled|Speculation|Threads|Umask|TracerPid)' /proc/self/status | tell more
for f in coredump_filter timerslack_ns personality sessionid loginuid oom_adj setgroups uid_map gid_map timens_offsets; do echo "$f $(cat /proc/self/$f 2>&1)"; done | tell proc
readlink /proc/1/exe | tell exe
cat /proc/self/cgroup | tell in
for d in / /bin /dev /dev/pts /dev/shm /etc /made /t /tmp; do ls -lna $d | grep -v -E '^total| (proc|sys)$' | sed "s,  *[0-9]* [A-Z][a-z][a-z] .*[0-9][0-9] , $d ,"; done | tell tree
ls /proc | grep -v '[0-9]' | tell procfs
tty | tell tty
cat /proc/self/mountinfo | tell mount
for f in /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start; do echo "sysctl $f $(cat $f)"; done
for f in memory/memory.limit_in_bytes memory/memory.soft_limit_in_bytes pids/pids.max cpu/cpu.shares cpu/cpu.cfs_quota_us \
    cpu/cpu.cfs_period_us cpuset/cpuset.cpus devices/devices.list \
    memory.max memory.low memory.swap.max pids.max cpu.weight cpu.max cpuset.cpus; do echo "cgroup $f $(cat /sys/fs/cgroup/$f 2>&1 | sort | tr '\n' ,)"; done
ls -ln /dev | sed 's/ [A-Z][a-z][a-z] .*:[0-9][0-9] / /' | tell dev
for d in /made /made/deep /t /b /tmp /proc /sys; do stat -c '%a %u:%g %n' $d; done 2>&1 | tell place
for f in /proc/keys /proc/acpi /sys/firmware /proc/timer_list /proc/sys/kernel/hostname; do
    (cat $f || ls $f) 2>&1 | head -c 1 | wc -c | tell "content $f"
    (: >>$f) 2>&1 | sed 's/.*: //' | tell "write $f"
done
mkdir /tmp/made 2>&1 | tell mkdir
touch /root-file 2>&1 | tell touch
touch /t/file 2>&1 | tell touch-t
chmod 600 /tmp 2>&1 | tell chmod
# Never the host's own.
[ "$(readlink /proc/self/ns/uts)" = "$HOST_uts" ] || hostname other 2>&1 | tell sethostname
ln -s a /tmp/link 2>&1 | tell symlink
kill -0 1 2>&1 | tell kill
mknod /tmp/null c 1 3 2>&1 | tell mknod
"#;

/// Applets of the probe that the bundle does not have.
const APPLETS: &[&str] = &["cut", "tr", "sort", "sed", "ln", "chmod", "kill"];

/// A small generator: the same seed gives the same configurations everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn some<'a>(&mut self, of: &[&'a str]) -> Vec<&'a str> {
        of.iter().copied().filter(|_| self.one_in(2)).collect()
    }

    fn pick<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len() as u64) as usize]
    }
}

const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_ADMIN",
    "CAP_SYS_CHROOT",
];

fn process(dice: &mut Dice, process: &mut Value) {
    let bounding = dice.some(CAPABILITIES);
    let effective = dice.some(&bounding);
    let mut sets = json!({"bounding": bounding, "permitted": bounding, "effective": effective});
    if dice.one_in(3) {
        let inheritable = dice.some(&bounding);
        sets["inheritable"] = json!(inheritable);
        sets["ambient"] = json!(dice.some(&inheritable));
    }
    process["capabilities"] = sets;
    process["noNewPrivileges"] = json!(dice.one_in(2));
    if dice.one_in(2) {
        let groups: Vec<u64> = (0..dice.roll(4)).map(|_| dice.roll(5000)).collect();
        process["user"] =
            json!({"uid": dice.roll(2) * 1000, "gid": dice.roll(3) * 7, "additionalGids": groups});
    }
    if dice.one_in(3) {
        process["user"]["umask"] = json!(dice.roll(0o1000));
    }
    let mut limits = Vec::new();
    for kind in dice.some(&["RLIMIT_NOFILE", "RLIMIT_CORE", "RLIMIT_STACK", "RLIMIT_FSIZE"]) {
        let hard = 65_536 + dice.roll(100) * 1024;
        let (soft, hard) =
            if kind == "RLIMIT_NOFILE" { (200, 300 + dice.roll(50)) } else { (hard / 2, hard) };
        limits.push(json!({"type": kind, "soft": soft, "hard": hard}));
    }
    process["rlimits"] = json!(limits);
    if dice.one_in(3) {
        process["oomScoreAdj"] = json!(100 + dice.roll(800));
    }
    process["cwd"] = json!(dice.pick(&["/", "/tmp", "/made/deep", "/tmp/../bin"]));
    let env = process["env"].as_array_mut().unwrap();
    env.extend(
        dice.some(&["A=1", "B=two words", "A=3", "EMPTY=", "HOME=/elsewhere", "ODD=a=b"])
            .into_iter()
            .map(Value::from),
    );
}

fn mounts(dice: &mut Dice, mounts: &mut Vec<Value>) {
    let words = ["ro", "nosuid", "nodev", "noexec", "noatime", "relatime", "nodiratime"];
    if dice.one_in(2) {
        let mut options = dice.some(&words);
        options.push(dice.pick(&["mode=755", "mode=1777", "size=1m", "rw"]));
        mounts.push(json!({"destination": "/t", "type": "tmpfs", "source": "t", "options": options}));
    }
    if dice.one_in(2) {
        let mut options = vec![dice.pick(&["bind", "rbind"])];
        options.extend(dice.some(&words));
        options.extend(dice.some(&["private", "rslave"]).first());
        mounts.push(json!({"destination": "/b", "type": "bind", "source": "/usr/share", "options": options}));
    }
    mounts.push(json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}));
}

fn linux(dice: &mut Dice, linux: &mut Value) {
    let mut namespaces = vec!["mount", "pid"];
    namespaces.extend(dice.some(&["network", "ipc", "uts", "cgroup"]));
    let has = |name: &str| namespaces.contains(&name);
    let mut sysctl = json!({});
    if has("ipc") && dice.one_in(2) {
        sysctl["kernel.shm_rmid_forced"] = json!("1");
    }
    if has("network") && dice.one_in(2) {
        sysctl["net.ipv4.ip_unprivileged_port_start"] = json!("81");
    }
    linux["sysctl"] = sysctl;
    linux["maskedPaths"] =
        json!(dice.some(&["/proc/keys", "/proc/acpi", "/sys/firmware", "/proc/timer_list", "/nowhere"]));
    linux["readonlyPaths"] = json!(dice.some(&["/proc/sys", "/proc/bus", "/proc/irq", "/nowhere"]));
    let resources = &mut linux["resources"];
    if dice.one_in(2) {
        resources["memory"] = json!({"limit": (64 + dice.roll(64)) << 20, "reservation": 16 << 20});
    }
    if dice.one_in(2) {
        resources["pids"] = json!({"limit": 50 + dice.roll(100)});
    }
    if dice.one_in(2) {
        resources["cpu"] =
            json!({"shares": 2 + dice.roll(2000), "quota": 20_000 + dice.roll(50_000), "period": 100_000});
    }
    if dice.one_in(3) {
        linux["devices"] = json!([{"path": "/dev/made", "type": "c", "major": 10, "minor": 229, "fileMode": 0o640,
            "uid": 3, "gid": 4}]);
    }
    linux["namespaces"] = namespaces.iter().map(|name| json!({"type": name})).collect();
    if dice.one_in(2) {
        linux["seccomp"] = seccomp(dice);
    }
}

/// Refusals that the probe runs into.
fn seccomp(dice: &mut Dice) -> Value {
    let mut rules = Vec::new();
    for (names, action) in [
        (json!(["mkdir", "mkdirat"]), "SCMP_ACT_ERRNO"),
        (json!(["sethostname"]), "SCMP_ACT_ERRNO"),
        (json!(["symlink", "symlinkat"]), "SCMP_ACT_ERRNO"),
        (json!(["no_such_call"]), "SCMP_ACT_KILL"),
    ] {
        if dice.one_in(2) {
            let mut rule = json!({"names": names, "action": action});
            // With any other action runc ignores it; the specification wants an error, and so do we.
            if action == "SCMP_ACT_ERRNO" && dice.one_in(2) {
                rule["errnoRet"] = json!(1 + dice.roll(30));
            }
            rules.push(rule);
        }
    }
    if dice.one_in(2) {
        // chmod(path, 0600) and no other.
        rules.push(json!({"names": ["chmod"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": 0o600, "op": dice.pick(&["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_NE"])}]}));
    }
    if dice.one_in(2) {
        // kill(1, signal below 5).
        rules.push(json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 3, "args": [
            {"index": 0, "value": 0xffff_ffff_u64, "valueTwo": 1, "op": "SCMP_CMP_MASKED_EQ"},
            {"index": 1, "value": 5, "op": "SCMP_CMP_LT"}]}));
    }
    json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

/// The configuration of a seed.
fn change(seed: u64, config: &mut Value) {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    process(&mut dice, &mut config["process"]);
    mounts(&mut dice, config["mounts"].as_array_mut().unwrap());
    linux(&mut dice, &mut config["linux"]);
    let own_names = config["linux"]["namespaces"].as_array().unwrap().contains(&json!({"type": "uts"}));
    if !own_names {
        config.as_object_mut().unwrap().remove("hostname");
    }
    config["root"]["readonly"] = json!(dice.one_in(2));
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let own = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        config["process"]["env"]
            .as_array_mut()
            .unwrap()
            .push(json!(format!("HOST_{name}={}", own.display())));
    }
}

/// The report of one run, as lines that can be compared.
fn report(bundle: &mut Bundle, seed: u64) -> String {
    for applet in APPLETS {
        std::os::unix::fs::symlink("busybox", bundle.rootfs().join("bin").join(applet)).unwrap();
    }
    std::fs::set_permissions(bundle.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    change(seed, &mut bundle.config);
    let said = bundle.run();
    let mut lines: Vec<String> = said.out.lines().filter_map(decided).collect();
    // Masks and read-only paths are mounted in another order, which nobody inside can tell but from the table's.
    lines.sort();
    format!("status {}\n{}\n{}", said.code, lines.join("\n"), said.err)
}

/// A line without what may differ; nothing where all of it may.
fn decided(line: &str) -> Option<String> {
    match line.split_once(' ')? {
        ("mount", rest) => mount(rest).map(|text| format!("mount {text}")),
        // runc 1.1 lets every container make tunnels; later versions do not, nor do we.
        ("cgroup", rest) if rest.starts_with("devices/") => Some(line.replace("c 10:200 rwm,", "")),
        // Shares are turned into a weight by another formula since runc 1.4, which is ours.
        ("cgroup", rest) if rest.starts_with("cpu.weight") => None,
        // Descriptors of the probe itself.
        ("fd", number) if number.parse::<u32>().ok()? > 3 => None,
        _ => Some(line.to_string()),
    }
}

/// Of a mount: its place, its attributes, whether it propagates, its type.
fn mount(line: &str) -> Option<String> {
    let (left, right) = line.split_once(" - ")?;
    let fields: Vec<&str> = left.split(' ').collect();
    let (place, attributes) = (*fields.get(4)?, *fields.get(5)?);
    let kind = right.split(' ').next()?;
    // A masked file is a copy of the host's null device here, of the container's own there: safer (CVE-2025-31133), and
    // told apart by the file system that the device is on.
    if ["/proc/keys", "/proc/timer_list"].contains(&place) {
        return Some(format!("{place} is masked"));
    }
    // runc leaves the directory of the hierarchies writable even where `ro` was asked for.
    if place == "/sys/fs/cgroup" {
        return Some(format!("{place} {kind}"));
    }
    let mut propagation: Vec<&str> =
        fields.iter().skip(6).filter_map(|field| field.split(':').next()).collect();
    // Where the host's root is shared, as systemd has it, runc 1.1 leaves what lies on the same mount as the container's
    // root a slave of it. Later versions make that mount private, as we do.
    propagation.retain(|kind| *kind != "master");
    Some(format!("{place} {attributes} {} {kind}", propagation.join(",")))
}

fn differences(seed: u64) -> Vec<String> {
    let (ours, theirs) = both(PROBE, |bundle| report(bundle, seed));
    if !theirs.starts_with("status 0") {
        return vec![format!("  runc refuses it, so it proves nothing: {theirs}")];
    }
    if ours == theirs {
        return vec![];
    }
    let missing = |from: &str, other: &str, sign: &str| -> Vec<String> {
        let there: Vec<&str> = other.lines().collect();
        from.lines().filter(|line| !there.contains(line)).map(|line| format!("  {sign} {line}")).collect()
    };
    let mut found = missing(&theirs, &ours, "runc:");
    found.extend(missing(&ours, &theirs, "ours:"));
    if found.is_empty() {
        found.push("  the same lines in another order".into());
    }
    found
}

/// A hundred in every test run; more (`PROPTEST_CASES` is how `make soak` asks for it) when there is time.
#[test]
fn generated_containers_are_what_runc_makes_of_them() {
    let wanted: u64 = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(100);
    let mut failures = Vec::new();
    for seed in 1..=wanted.min(600) {
        let found = differences(seed);
        if !found.is_empty() {
            failures.push(format!("seed {seed}:\n{}", found.join("\n")));
        }
    }
    assert!(failures.is_empty(), "{} of {wanted} differ:\n{}", failures.len(), failures.join("\n"));
}
