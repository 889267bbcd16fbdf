//! What goes wrong around the runtime: it is killed at any instant, there is no room, there are no descriptors, a hook
//! hangs. Whatever happened, `delete --force` leaves nothing, and an error says what failed.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used, clippy::panic)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::effort::effort;
use knarr_tests::eventually::eventually;
use serde_json::json;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many instants are tried, and how far apart they are: together longer than a `create` takes.
const INSTANTS: u32 = 40;
const APART: Duration = Duration::from_micros(500);

fn spawn(bundle: &Bundle, args: &[&str]) -> Child {
    let mut command = bundle.command(args);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// An instant is no condition: the point is to hit any.
fn let_pass(begun: Instant, time: Duration) {
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn kill(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        let _gone_already = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// The init that a runtime has made so far.
fn child_of(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

/// No process has the container's cgroup, state or root any more.
fn assert_nothing_is_left(bundle: &Bundle, when: &str) {
    bundle.call("delete", &["--force"]).ok();
    let root = bundle.rootfs();
    eventually(&format!("nothing is left, {when}"), Duration::from_secs(60), || {
        let cgroups = bundle.cgroups_left();
        let state = bundle.state_root().join(&bundle.id).exists();
        let inside: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| std::fs::read_link(path.join("root")).is_ok_and(|link| link == root))
            .map(|path| path.display().to_string())
            .collect();
        if cgroups.is_empty() && !state && inside.is_empty() {
            return Ok(());
        }
        Err(format!("cgroups {cgroups:?}, state directory {state}, processes {inside:?}"))
    });
    bundle.assert_gone();
}

/// Kills `victim` of a command at one instant after another.
fn at_any_instant(
    bundle: &Bundle,
    verb: &str,
    prepare: impl Fn(&Bundle),
    victim: impl Fn(u32) -> Option<u32>,
) {
    let path = bundle.path().to_str().unwrap().to_string();
    for instant in 0..effort(INSTANTS) {
        prepare(bundle);
        let args = match verb {
            "create" | "run" => vec![verb, "--bundle", &path, &bundle.id],
            "exec" => vec![verb, &bundle.id, "true"],
            _ => vec![verb, &bundle.id],
        };
        let begun = Instant::now();
        let mut child = spawn(bundle, &args);
        // Fewer rounds are farther apart, and are fewer only where everything takes longer.
        let_pass(begun, APART * instant * (INSTANTS / effort(INSTANTS)).pow(2));
        if let Some(victim) = victim(child.id()) {
            kill(victim);
        }
        if verb == "run" {
            // Where there was no init to kill yet the command would wait for its program.
            kill(child.id());
        }
        child.wait().unwrap();
        assert_nothing_is_left(bundle, &format!("{verb}, instant {instant}"));
    }
}

fn sleeper() -> Bundle {
    Bundle::shell("sleep 1000")
}

/// A container with other ids and another clock, whose init is cloned by a process in between and waits for its ids.
fn sleeper_of_its_own_time() -> Bundle {
    let mut bundle = sleeper();
    let linux = &mut bundle.config["linux"];
    linux["namespaces"].as_array_mut().unwrap().extend([json!({"type": "user"}), json!({"type": "time"})]);
    linux["timeOffsets"] = json!({"boottime": {"secs": 100}});
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
    linux["uidMappings"] = ids.clone();
    linux["gidMappings"] = ids;
    bundle
}

#[test]
fn a_create_through_a_stage_that_is_killed() {
    let bundle = sleeper_of_its_own_time();
    bundle.create().ok();
    assert_eq!(bundle.status(), "created");
    assert_nothing_is_left(&bundle, "before");
    at_any_instant(&bundle, "create", |_| {}, Some);
}

#[test]
fn a_create_that_is_killed() {
    at_any_instant(&sleeper(), "create", |_| {}, Some);
}

#[test]
fn a_create_whose_init_is_killed() {
    at_any_instant(&sleeper(), "create", |_| {}, child_of);
}

#[test]
fn a_run_whose_init_is_killed() {
    at_any_instant(&sleeper(), "run", |_| {}, child_of);
}

#[test]
fn a_start_that_is_killed() {
    at_any_instant(&sleeper(), "start", |bundle| drop(bundle.create().ok()), Some);
}

#[test]
fn an_exec_that_is_killed() {
    at_any_instant(&sleeper(), "exec", Bundle::start, Some);
}

#[test]
fn a_delete_that_is_killed() {
    at_any_instant(&sleeper(), "delete", |bundle| drop(bundle.create().ok()), Some);
}

/// Whatever the number of descriptors: it works, or says that there are too few, and leaves nothing.
#[test]
fn too_few_descriptors() {
    let bundle = Bundle::shell("true");
    let path = bundle.path().to_str().unwrap().to_string();
    let mut failures = 0;
    for limit in (3..40).step_by(usize::try_from(40 / effort(40)).unwrap()) {
        let inner = bundle.command(&["run", "--bundle", &path, &bundle.id]);
        let mut outer = Command::new("/bin/busybox");
        outer.args(["sh", "-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"]);
        let said = bins::run(outer.arg(inner.get_program()).args(inner.get_args()));
        if said.code != 0 {
            failures += 1;
            assert!(said.err.contains("too many open files"), "{limit}: {said:?}");
        }
        bundle.assert_gone();
    }
    assert!(failures > 0, "three descriptors are not enough for anything");
}

/// A full file system under the state directory.
#[test]
fn no_room_for_the_state() {
    let bundle = Bundle::shell("true");
    let path = bundle.path().to_str().unwrap().to_string();
    let inner = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    let state = bundle.state_root();
    std::fs::create_dir_all(&state).unwrap();
    let mut outer = Command::new("/bin/busybox");
    let script = format!(
        "/bin/busybox mount -t tmpfs -o size=8k t {0} && /bin/busybox dd if=/dev/zero of={0}/fill bs=4k count=4 2>/dev/null; exec \"$@\"",
        state.display()
    );
    outer.args(["unshare", "-m", "/bin/busybox", "sh", "-c", &script, "sh"]);
    let said = bins::run(outer.arg(inner.get_program()).args(inner.get_args()));
    assert!(said.failed().contains("no space left on device"));
    bundle.assert_gone();
}

/// A hook that never ends is ended by its deadline, and everything is undone.
#[test]
fn a_hook_that_hangs() {
    for kind in ["createRuntime", "createContainer", "startContainer", "poststart"] {
        let mut bundle = Bundle::shell("sleep 1000");
        bundle.config["hooks"] =
            json!({kind: [{"path": "/bin/busybox", "args": ["sleep", "1000"], "timeout": 1}]});
        let said = bundle.run().failed();
        assert!(said.contains(&format!("error running {kind} hook #0")), "{kind}: {said}");
        assert_nothing_is_left(&bundle, kind);
    }
}
