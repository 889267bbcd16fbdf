//! A node that is really short of something: a disk of its own, small enough to be filled. Who fills it is evicted, nobody
//! else is, and when the shortage is over the node takes pods again.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used)]

#[allow(dead_code)] // Shared with the tests of pods, which use all of it.
#[path = "kube_pods/node.rs"]
mod node;

use knarr_tests::skip::skip;
use node::Node;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};
use std::path::Path;

/// Room that must be left on the disk.
const SETTINGS: &str = "eviction_monitor_seconds = 1\neviction_pressure_transition_seconds = 1\n\
    image_minimum_gc_age_seconds = 0\n\
    eviction_hard = { \"nodefs.available\" = \"128Mi\", \"imagefs.available\" = \"64Mi\" }";

/// Leaves less than must be left for pods, and more than images need: how much the node itself has there varies.
const FILL: &str = "free=$(df -mP /v | tail -n 1 | awk '{print $4}'); dd if=/dev/zero of=/v/f bs=1M count=$((free - 90)); sleep 1000";

/// A tmpfs of 768 MiB, until it is dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> SmallDisk {
        let directory = tempfile::tempdir().expect("a directory");
        let options = Some(c"size=768m");
        rustix::mount::mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), options)
            .expect("a tmpfs");
        SmallDisk(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = rustix::mount::unmount(self.path(), UnmountFlags::DETACH);
    }
}

fn with_room(node: &Node, script: &str) -> Value {
    json!({"terminationGracePeriodSeconds": 0, "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [{"name": "c", "image": node.busybox(), "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})
}

#[test]
fn who_fills_the_disk_is_evicted_and_nobody_else() {
    let disk = SmallDisk::mount();
    let Some(node) = Node::start_in(disk.path(), SETTINGS) else {
        return skip("kube_short_node", "no kubectl on this machine");
    };
    node.pod("quiet", with_room(&node, "sleep 1000"));
    let id = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
    let before = id(&node.ready("quiet"));
    let is_there = |image: &str| node.knarr(&["image", "ls"]).ok().contains(image);
    node.knarr(&["image", "pull", &node.image("hello:1")]).ok();
    assert!(is_there("hello"));
    node.pod("full", with_room(&node, FILL));
    let full = node.when("full", "it is evicted", |pod| pod["status"]["phase"] == "Failed");
    assert_eq!(full["status"]["reason"], "Evicted");
    let message = full["status"]["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("The node was low on resource: ephemeral-storage. "), "{message}");
    node.event("full", "Evicted", "The node was low on resource: ephemeral-storage. ");
    assert_eq!(id(&node.ready("quiet")), before);
    assert!(is_there("busybox") && !is_there("hello"), "images that nobody uses go first");
    let pressure = |wanted: &str| {
        node.eventually(&format!("DiskPressure is {wanted}"), || {
            let path = "jsonpath={.status.conditions[?(@.type=='DiskPressure')].status}";
            let said = node.k(&["get", "node", "node", "-o", path]).ok();
            if said == wanted { Ok(()) } else { Err(said) }
        });
    };
    // With the files of the evicted pod the shortage goes.
    pressure("False");
    let mut number = 0;
    node.eventually("the node takes pods again", || {
        number += 1;
        let name = format!("next{number}");
        node.pod(&name, with_room(&node, "sleep 1000"));
        let pod = node.when(&name, "it is decided about", |pod| {
            ["Running", "Failed"].iter().any(|phase| pod["status"]["phase"] == *phase)
        });
        if pod["status"]["phase"] == "Running" { Ok(()) } else { Err(pod["status"].to_string()) }
    });
}
