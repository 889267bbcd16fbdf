//! `--systemd-cgroup` with a real systemd: Debian's, unpacked beside the system, boots in namespaces of its own over the
//! files of this machine, and the runtime asks it for scopes.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::skip::skip;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// For a whole boot.
const DEADLINE: Duration = Duration::from_secs(300);

/// Boots systemd as the first process and, once it listens, runs the script inside. Everything dies with the namespaces.
const BOOT: &str = r#"
set -eu
mount --make-rprivate /
mount -t tmpfs lab $DIR/lab
mkdir $DIR/lab/up $DIR/lab/work $DIR/lab/root
cp -a $SYSTEMD/. $DIR/lab/up/
mkdir -p $DIR/lab/up/etc/systemd/system
printf '[Unit]\nDescription=lab\n' >$DIR/lab/up/etc/systemd/system/lab.target
mount -t overlay overlay -o lowerdir=/,upperdir=$DIR/lab/up,workdir=$DIR/lab/work $DIR/lab/root
cd $DIR/lab/root
for name in proc sys run tmp dev; do [ -d $name ] || mkdir $name; done
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs run run
mount -t tmpfs tmp tmp
mount -t tmpfs -o mode=755 dev dev
for name in null zero full random urandom tty; do touch dev/$name; mount --bind /dev/$name dev/$name; done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
for path in $SHARED; do mkdir -p .$path; mount --bind $path .$path; done
mkdir -p old
pivot_root . old
umount -l old
export container=other
( until [ -S /run/systemd/private ]; do sleep 0.1; done
  status=0; bash $DIR/inside >$DIR/out 2>&1 || status=$?; echo "status $status" >>$DIR/out; systemctl poweroff -f -f ) &
exec /usr/lib/systemd/systemd --unit=lab.target --log-target=console --show-status=no </dev/null >$DIR/boot.log 2>&1
"#;

fn systemd() -> Option<PathBuf> {
    if booted() {
        return Some(PathBuf::from("/"));
    }
    std::env::var_os("KNARR_SYSTEMD")
        .map(PathBuf::from)
        .filter(|root| root.join("usr/lib/systemd/systemd").exists())
}

/// In the virtual machine systemd is the first process already.
fn booted() -> bool {
    std::env::var_os("KNARR_VM").is_some() && std::path::Path::new("/run/systemd/system").exists()
}

/// What a script says that runs where systemd rules; `K` is our runtime.
fn inside(bundle: &Bundle, systemd: &std::path::Path, script: &str) -> String {
    let runtime = bins::find("knarr-runtime");
    let dir = bundle.path().display().to_string();
    let prefix = format!(
        "cd {dir}\nK() {{ {} --root /run/containers --systemd-cgroup \"$@\"; }}\n\
         SHOW() {{ systemctl show --value -p \"$2\" \"$1\"; }}\n",
        runtime.display()
    );
    std::fs::write(bundle.path().join("inside"), prefix + script).expect("a file");
    if booted() {
        let said = bins::run_within(Command::new("sh").arg(bundle.path().join("inside")), DEADLINE);
        return format!("{}status {}\n", said.out, said.code);
    }
    std::fs::create_dir(bundle.path().join("lab")).expect("a directory");
    std::fs::write(bundle.path().join("boot"), BOOT).expect("a file");
    let shared = format!("{dir} {}", runtime.parent().expect("a directory").display());
    let mut command = Command::new("unshare");
    command
        .args(["-mpfiunC", "--kill-child", "--propagation", "private", "bash"])
        .arg(bundle.path().join("boot"));
    command.env("DIR", &dir).env("SYSTEMD", systemd).env("SHARED", shared);
    let said = bins::run_within(&mut command, DEADLINE);
    let read = |name: &str| std::fs::read_to_string(bundle.path().join(name)).unwrap_or_default();
    let out = read("out");
    assert!(out.ends_with("status 0\n"), "{out}\n{said:?}\n{}", read("boot.log"));
    out
}

#[test]
fn a_scope_is_made_changed_and_gone() {
    let Some(systemd) = systemd() else {
        return skip(
            "a_scope_is_made_changed_and_gone",
            "no systemd (make test unpacks one: scripts/unpack-beside)",
        );
    };
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.config["linux"]["cgroupsPath"] = "lab-deep.slice:pre:name".into();
    bundle.config["annotations"] = serde_json::json!({
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.TimeoutStopSec": "7"});
    std::fs::write(bundle.path().join("config.json"), bundle.config.to_string()).expect("a file");
    let out = inside(
        &bundle,
        &systemd,
        r#"
        set -e
        K create c1 </dev/null >/dev/null
        K start c1
        SHOW pre-name.scope ControlGroup; SHOW pre-name.scope Slice; SHOW pre-name.scope Delegate; SHOW pre-name.scope Description
        SHOW pre-name.scope CollectMode; SHOW pre-name.scope TimeoutStopUSec
        cat /sys/fs/cgroup/lab.slice/lab-deep.slice/pre-name.scope/cgroup.procs | wc -l
        K exec c1 sleep 1000 & until K ps -f json c1 | grep -q ,; do sleep 0.1; done; echo two
        K update --cpu-share 512 c1 2>/dev/null || SHOW pre-name.scope CPUWeight
        K delete -f c1
        systemctl is-active pre-name.scope || true
        ls /sys/fs/cgroup/lab.slice/lab-deep.slice 2>/dev/null | grep -c scope || true
        K run c2 </dev/null & until K state c2 2>/dev/null | grep -q running; do sleep 0.1; done
        K kill c2 KILL; wait $! || echo ended $?
        systemctl list-units --all --no-legend 'pre-*' | wc -l
        sed -i s/lab-deep.slice:pre:name/not-a-unit/ config.json; K run c3 2>&1 | grep -o 'expected cgroupsPath to be of format'
        "#,
    );
    // Without the CPU controller in the tree (a hybrid host) only systemd knows of the new weight, and was asked.
    let lines: Vec<&str> = out.lines().filter(|line| *line != "59").collect();
    assert_eq!(
        lines,
        [
            "/lab.slice/lab-deep.slice/pre-name.scope",
            "lab-deep.slice",
            "yes",
            "libcontainer container c1",
            "inactive-or-failed",
            "7s",
            "1",
            "two",
            "inactive",
            "0",
            "ended 137",
            "0",
            "expected cgroupsPath to be of format",
            "status 0"
        ]
    );
}

#[test]
fn what_is_restored_goes_on_in_a_scope() {
    let test = "what_is_restored_goes_on_in_a_scope";
    let checked = Command::new("criu").arg("check").output();
    if !booted() || !checked.is_ok_and(|checked| checked.status.success()) {
        return skip(
            test,
            "needs criu, a kernel it knows, and systemd as the first process (virtual machine)",
        );
    }
    let mut bundle = Bundle::shell("sleep 1000");
    bundle.config["linux"]["cgroupsPath"] = "lab-deep.slice:pre:again".into();
    std::fs::write(bundle.path().join("config.json"), bundle.config.to_string()).expect("a file");
    let out = inside(
        &bundle,
        std::path::Path::new("/"),
        r#"
        set -e
        scope=/sys/fs/cgroup/lab.slice/lab-deep.slice/pre-again.scope
        K run -d c4 </dev/null >/dev/null 2>&1
        cat $scope/cgroup.procs | wc -l
        K checkpoint --image-path images c4
        systemctl is-active pre-again.scope || true
        [ -e $scope ] && echo left || echo gone
        K restore -d --image-path images c4 </dev/null >/dev/null 2>&1
        SHOW pre-again.scope ControlGroup; SHOW pre-again.scope Slice
        [ "$(K ps -f json c4)" = "[$(cat $scope/cgroup.procs)]" ] && echo same || K ps -f json c4
        K delete -f c4
        [ -e $scope ] && echo left || echo gone
        "#,
    );
    let expected = "1\ninactive\ngone\n/lab.slice/lab-deep.slice/pre-again.scope\nlab-deep.slice\nsame\ngone\nstatus 0\n";
    assert_eq!(out, expected);
}
