//! Many containers, one after the other and side by side: nothing grows and nothing is left.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::unwrap_used)]

use knarr_tests::bins;
use knarr_tests::bundle::Bundle;
use knarr_tests::effort::{effort, long};
use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, Instant};

/// What could pile up in the kernel under the name of a bundle.
fn left(bundle: &Bundle) -> (usize, usize) {
    let place = bundle.path().to_str().unwrap();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    (bundle.cgroups_left().len(), mounts.lines().filter(|line| line.contains(place)).count())
}

/// 120 in every test run, a thousand in a long one; a tenth at the beginning is compared with one at the end by what the
/// runtime leaves open and takes up, and in a long run by its time.
#[test]
fn one_after_the_other() {
    let runs = if long() { 1000 } else { effort(120) };
    let bundle = Bundle::shell("exit 3");
    let tenth = usize::try_from(runs / 10).unwrap().max(1);
    let mut times = Vec::new();
    for run in 0..runs {
        let begun = Instant::now();
        let said = bundle.run();
        times.push(begun.elapsed());
        assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (3, "", ""), "run {run}");
        assert_eq!(left(&bundle), (0, 0), "run {run}");
    }
    bundle.assert_gone();
    assert_eq!(std::fs::read_dir(bundle.state_root()).unwrap().count(), 0, "the state root is empty");
    if long() {
        let median = |times: &[Duration]| {
            let mut times = times.to_vec();
            times.sort();
            times[times.len() / 2]
        };
        let (first, last) = (median(&times[..tenth]), median(&times[times.len() - tenth..]));
        assert!(last < first * 3, "the first took {first:?}, the last {last:?}");
    }
}

/// As an engine does that takes away what its last pod had.
#[test]
fn somebody_removes_the_parent_whenever_it_is_empty() {
    let mut bundle = Bundle::shell("exit 3");
    let parent = format!("knarr-tests/{}", bundle.id);
    bundle.config["linux"]["cgroupsPath"] = format!("/{parent}/inner").into();
    let trees: Vec<_> =
        std::fs::read_dir("/sys/fs/cgroup").unwrap().map(|entry| entry.unwrap().path()).collect();
    let remove = move || {
        for tree in trees.iter().map(PathBuf::as_path).chain([Path::new("/sys/fs/cgroup")]) {
            // It is there and empty, or not.
            drop(std::fs::remove_dir(tree.join(&parent)));
        }
    };
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let remover = std::thread::spawn(move || {
        while waits.recv_timeout(Duration::from_micros(500)) == Err(RecvTimeoutError::Timeout) {
            remove();
        }
        remove();
    });
    for run in 0..effort(40) {
        let said = bundle.run();
        assert_eq!((said.code, said.err.as_str()), (3, ""), "run {run}");
    }
    drop(done);
    remover.join().unwrap();
    bundle.assert_gone();
}

/// One container, its program replaced a hundred times by `exec`: the runtime keeps nothing per exec.
#[test]
fn many_execs_into_one() {
    let bundle = Bundle::shell("sleep 1000");
    bundle.start();
    let entries = || {
        let directory = bundle.state_root().join(&bundle.id);
        let names = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    let (before, mounts) = (entries(), left(&bundle).1);
    for _ in 0..if long() { 1000 } else { effort(100) } {
        assert_eq!(bundle.call_with("exec", &[], &["sh", "-c", "exit 5"]).code, 5);
    }
    assert_eq!((entries(), left(&bundle).1), (before, mounts));
    assert_eq!(
        bundle.call("ps", &["--format", "json"]).ok().matches(',').count(),
        0,
        "only init is left inside"
    );
}

fn spawn(bundle: &Bundle) -> Child {
    let path = bundle.path().to_str().unwrap().to_string();
    let mut command = bundle.command(&["run", "--bundle", &path, &bundle.id]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

#[test]
fn fifty_side_by_side() {
    let bundles: Vec<Bundle> = (0..if long() { 50 } else { effort(50) })
        .map(|number| Bundle::shell(&format!("echo {number}; exit {}", number % 50)))
        .collect();
    let children: Vec<Child> = bundles.iter().map(spawn).collect();
    for (number, child) in children.into_iter().enumerate() {
        let ended = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(i32::try_from(number % 50).unwrap()), "{number}: {complaint}");
        assert_eq!(String::from_utf8_lossy(&ended.stdout), format!("{number}\n"));
    }
    for bundle in &bundles {
        bundle.assert_gone();
    }
}

/// In one state root, where they meet: each is listed, none is in another's way.
#[test]
fn one_state_root_for_all() {
    let bundles: Vec<Bundle> = (0..effort(20)).map(|_| Bundle::shell("sleep 1000")).collect();
    let root = bundles[0].state_root();
    let call = |bundle: &Bundle, words: &[&str]| {
        let own = bundle.command(&[]);
        let mut command = std::process::Command::new(own.get_program());
        command.arg("--root").arg(&root).args(words);
        command
    };
    std::thread::scope(|scope| {
        for bundle in &bundles {
            scope.spawn(|| {
                let path = bundle.path().to_str().unwrap();
                bins::run(&mut call(bundle, &["create", "--bundle", path, &bundle.id])).ok();
                bins::run(&mut call(bundle, &["start", &bundle.id])).ok();
            });
        }
    });
    let listed = bins::run(&mut call(&bundles[0], &["list", "--format", "json"])).ok();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let running = listed.as_array().unwrap().iter().filter(|state| state["status"] == "running").count();
    std::thread::scope(|scope| {
        for bundle in &bundles {
            scope.spawn(|| bins::run(&mut call(bundle, &["delete", "--force", &bundle.id])));
        }
    });
    assert_eq!(running, bundles.len(), "{listed}");
    for bundle in &bundles {
        bundle.assert_gone();
    }
    assert_eq!(std::fs::read_dir(&root).unwrap().count(), 0, "the state root is empty");
}
