//! A node under abuse: its agent killed again and again while pods come and go, an API server that comes back with other
//! objects, a volume that hangs for ever. No pod is lost, none runs twice, nothing of the dead is left, and whoever has
//! nothing to do with it goes on as if nothing had happened.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used)]

use knarr_tests::agent::{Agent, IMAGE};
use knarr_tests::bins::Said;
use knarr_tests::cluster::kubectls;
use knarr_tests::eventually::eventually;
use knarr_tests::free_port::free_port;
use knarr_tests::server::Server;
use knarr_tests::skip::skip;
use rustix::mount::{MountFlags, UnmountFlags};
use serde_json::{Value, json};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// `make soak` asks for more.
fn chaos() -> Duration {
    let asked = std::env::var("KNARR_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(10))
}

struct Lab {
    agent: Agent,
    server: Server,
    kubectl: PathBuf,
    port: u16,
}

impl Lab {
    fn start() -> Option<Lab> {
        let kubectl = kubectls().pop()?;
        let port = free_port();
        let server = Server::start_on(port, Server::directory(), &[]);
        let kubeconfig = std::fs::read_to_string(server.path("data/admin.kubeconfig")).expect("a kubeconfig");
        let mut agent = Agent::new("node", &kubeconfig, "");
        std::fs::create_dir(agent.path("out")).expect("a directory");
        agent.start();
        Some(Lab { agent, server, kubectl, port })
    }

    fn k(&self, arguments: &[&str]) -> Said {
        self.server.kubectl(&self.kubectl, arguments)
    }

    /// A pod that writes down each time it starts.
    fn create(&self, name: &str, volume: Option<&Path>) {
        let mut volumes = vec![json!({"name": "out", "hostPath": {"path": self.agent.path("out")}})];
        volumes
            .extend(volume.map(|path| json!({"name": "v", "hostPath": {"path": path, "type": "Directory"}})));
        let script = format!("echo start >> /out/{name}; exec sleep 100000");
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "nodeName": "node", "terminationGracePeriodSeconds": 0, "volumes": volumes,
            "containers": [{"name": "c", "image": IMAGE, "imagePullPolicy": "Never", "command": ["sh", "-c", script],
                "volumeMounts": [{"name": "out", "mountPath": "/out"}]}]}});
        let file = self.server.file(&format!("{name}.json"), &pod.to_string());
        eventually(&format!("{name} is created"), PATIENCE, || {
            let said = self.k(&["create", "-f", &file]);
            if said.code == 0 { Ok(()) } else { Err(said.err) }
        });
    }

    fn pods(&self) -> Vec<Value> {
        let said = self.k(&["get", "pods", "-o", "json"]).ok();
        let list: Value = serde_json::from_str(&said).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    fn ready(&self, name: &str) -> Value {
        eventually(&format!("{name} is ready"), PATIENCE, || {
            let pods = self.pods();
            let pod = pods.into_iter().find(|pod| pod["metadata"]["name"] == name).unwrap_or_default();
            if is_ready(&pod) { Ok(pod) } else { Err(format!("{:#}", pod["status"])) }
        })
    }

    /// How often the pod's container was started.
    fn starts(&self, name: &str) -> usize {
        let text = std::fs::read_to_string(self.agent.path("out").join(name)).unwrap_or_default();
        text.lines().count()
    }

    /// Directories of pods on the node.
    fn left(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.agent.path("data/kubelet/pods")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn container_id(pod: &Value) -> Value {
    pod["status"]["containerStatuses"][0]["containerID"].clone()
}

#[test]
fn nothing_is_lost_doubled_or_left() {
    let Some(mut lab) = Lab::start() else {
        return skip("kube_chaos", "no kubectl on this machine");
    };
    lab.create("steady", None);
    let steady = container_id(&lab.ready("steady"));
    agents_are_killed(&mut lab);
    the_server_comes_back_with_other_objects(&mut lab);
    a_volume_hangs(&lab);
    assert_eq!(container_id(&lab.ready("steady")), steady, "it went on through all of it");
    assert_eq!(lab.starts("steady"), 1);
}

/// Each round makes a pod, deletes an older one and kills the agent in the midst of both.
fn agents_are_killed(lab: &mut Lab) {
    let end = Instant::now() + chaos();
    let mut round = 0;
    while Instant::now() < end || round < 5 {
        lab.create(&format!("c{round}"), None);
        if round >= 3 {
            lab.k(&["delete", "pod", &format!("c{}", round - 3), "--wait=false"]).ok();
        }
        lab.agent.kill();
        lab.agent.spawn();
        round += 1;
    }
    for number in round - 3..round {
        let name = format!("c{number}");
        let pod = lab.ready(&name);
        let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0);
        assert_eq!(lab.starts(&name) as u64, restarts + 1, "{name}: {:#}", pod["status"]);
    }
    eventually("what was deleted is gone", PATIENCE, || {
        let (pods, left) = (lab.pods().len(), lab.left());
        if pods == 4 && left.len() == 4 { Ok(()) } else { Err(format!("{pods} pods, {left:?}")) }
    });
}

/// While the agent sees no server, one pod's object goes and another's comes.
fn the_server_comes_back_with_other_objects(lab: &mut Lab) {
    lab.create("old", None);
    let uid = lab.ready("old")["metadata"]["uid"].as_str().expect("a uid").to_owned();
    lab.server.kill();
    lab.server.again_on(free_port(), &[]);
    lab.k(&["delete", "pod", "old", "--force", "--grace-period=0"]).ok();
    lab.create("late", None);
    lab.server.kill();
    lab.server.again_on(lab.port, &[]);
    lab.ready("late");
    eventually("the old pod is gone from the node", PATIENCE, || {
        let left = lab.left();
        if left.iter().any(|path| path.ends_with(&uid)) { Err(format!("{left:?}")) } else { Ok(()) }
    });
}

/// A file system whose server never answers, until it is dropped.
struct Hanging {
    directory: tempfile::TempDir,
    device: Option<std::fs::File>,
}

impl Hanging {
    fn mount() -> Option<Hanging> {
        let device = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").ok()?;
        let directory = tempfile::tempdir().expect("a directory");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = std::ffi::CString::new(options).expect("text");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("hanging", directory.path(), "fuse", flags, Some(options.as_c_str())).ok()?;
        Some(Hanging { directory, device: Some(device) })
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        // Without its server every call that waits for it fails.
        drop(self.device.take());
        let _gone = rustix::mount::unmount(self.directory.path(), UnmountFlags::DETACH);
    }
}

/// A pod whose volume never answers delays nobody, and can be deleted.
fn a_volume_hangs(lab: &Lab) {
    let Some(hanging) = Hanging::mount() else {
        return skip("kube_chaos_hanging_volume", "this kernel mounts no fuse");
    };
    lab.create("stuck", Some(hanging.directory.path()));
    lab.create("beside", None);
    lab.ready("beside");
    let pods = lab.pods();
    let stuck = pods.iter().find(|pod| pod["metadata"]["name"] == "stuck").expect("the pod");
    assert_eq!(stuck["status"]["phase"], "Pending");
    lab.k(&["delete", "pod", "stuck", "--wait=false"]).ok();
    eventually("the stuck pod is gone", PATIENCE, || {
        let names: Vec<Value> = lab.pods().iter().map(|pod| pod["metadata"]["name"].clone()).collect();
        if names.iter().any(|name| name == "stuck") { Err(format!("{names:?}")) } else { Ok(()) }
    });
}
