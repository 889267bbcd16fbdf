//! What pods leave on a machine, counted the way a stranger would: processes, mounts, links, addresses, rules, cgroups,
//! directories, records. What belongs to no pod that exists is a leak.

use crate::bins;
use crate::engine::Engine;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The pods and containers that exist.
#[derive(Debug, Clone, Default)]
pub struct Living {
    /// Ids of pods.
    pub pods: BTreeSet<String>,
    /// Ids of containers.
    pub containers: BTreeSet<String>,
    /// Addresses of pods that are ready.
    pub addresses: BTreeSet<String>,
    /// Cgroups of the pods that are ready, below the lab's own.
    pub cgroups: BTreeSet<String>,
    /// Those of pods that have been stopped, which go with them or before.
    pub idle_cgroups: BTreeSet<String>,
}

/// Everything of this engine that no living pod accounts for, and what a living one lacks.
///
/// # Panics
/// When the machine cannot be looked at.
pub fn differences(engine: &Engine, living: &Living) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, seen: BTreeSet<String>, wanted: &BTreeSet<String>| {
        found.extend(seen.difference(wanted).map(|one| format!("{what}: {one} is left")));
        found.extend(wanted.difference(&seen).map(|one| format!("{what}: {one} is missing")));
    };
    compare("pod directory", names(&engine.path("state/pods")), &living.pods);
    compare("bundle", names(&engine.path("state/containers")), &living.containers);
    compare("pod record", stems(&engine.path("data/engine/sandboxes")), &living.pods);
    compare("container record", stems(&engine.path("data/engine/containers")), &living.containers);
    compare("address of the ledger", ledger(engine), &living.addresses);
    compare("address in nftables", rules(engine), &living.addresses);
    compare("cgroup", &cgroups(engine) - &living.idle_cgroups, &living.cgroups);
    let links = links(engine);
    if links != living.addresses.len() {
        found.push(format!("{links} links of {} pods with a network", living.addresses.len()));
    }
    let known =
        |path: &str| living.pods.iter().chain(&living.containers).any(|id| path.contains(id.as_str()));
    found.extend(mounts(engine).into_iter().filter(|path| !known(path)).map(|path| format!("mount: {path}")));
    found.extend(
        processes(engine, "")
            .into_iter()
            .filter(|(_, line)| !known(line))
            .map(|(pid, line)| format!("process {pid}: {line}")),
    );
    if living.pods.is_empty() {
        found.extend(layers(engine).into_iter().map(|path| format!("mounted layer: {path}")));
    }
    found
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn stems(directory: &Path) -> BTreeSet<String> {
    names(directory).iter().map(|name| name.trim_end_matches(".json").to_owned()).collect()
}

fn ledger(engine: &Engine) -> BTreeSet<String> {
    let directory = engine.path("data/network/pods");
    let read = |name: &String| {
        let text = std::fs::read_to_string(directory.join(name)).unwrap_or_default();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        json["address"].as_str().unwrap_or(name).to_owned()
    };
    names(&directory).iter().map(read).collect()
}

/// Elements of the set that lists pods; no table where there never was a pod.
fn rules(engine: &Engine) -> BTreeSet<String> {
    let mut nft = Command::new("nft");
    let said = bins::run(nft.args(["-j", "list", "set", "inet", &engine.bridge(), "pods"]));
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap_or_default();
    let sets = json["nftables"].as_array().cloned().unwrap_or_default();
    let elements = sets.iter().filter_map(|one| one["set"]["elem"].as_array()).flatten();
    elements.filter_map(|element| element.as_str().map(str::to_owned)).collect()
}

fn links(engine: &Engine) -> usize {
    let mut ip = Command::new("ip");
    bins::run(ip.args(["-o", "link", "show", "master", &engine.bridge()])).out.lines().count()
}

/// Directories right below the lab's cgroup, in any hierarchy.
fn cgroups(engine: &Engine) -> BTreeSet<String> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten();
    let roots = hierarchies.map(|hierarchy| hierarchy.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    let lab = engine.cgroup();
    let below =
        roots.flat_map(|root| std::fs::read_dir(root.join(lab.trim_start_matches('/')))).flatten().flatten();
    let groups = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn mount_points() -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    mounts.lines().filter_map(|line| line.split(' ').nth(4).map(str::to_owned)).collect()
}

/// Those below the state directory; it is one itself.
fn mounts(engine: &Engine) -> Vec<String> {
    let state = format!("{}/", engine.path("state").display());
    mount_points().into_iter().filter(|path| path.starts_with(&state)).collect()
}

fn layers(engine: &Engine) -> Vec<String> {
    let data = format!("{}/", engine.path("data").display());
    mount_points().into_iter().filter(|path| path.starts_with(&data)).collect()
}

/// Processes whose command line names this engine's pods or containers, and the word.
pub fn processes(engine: &Engine, word: &str) -> Vec<(i32, String)> {
    let state = engine.path("state").display().to_string();
    let (pods, containers, runtime) =
        (format!("{state}/pods/"), format!("{state}/containers/"), format!("{state}/runtime/"));
    let mut found = Vec::new();
    for pid in names(Path::new("/proc")).iter().filter_map(|name| name.parse::<i32>().ok()) {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let ours = [&pods, &containers, &runtime].iter().any(|path| line.contains(path.as_str()));
        if ours && line.contains(word) {
            found.push((pid, line));
        }
    }
    found
}
