//! A storage driver on a node: it registers by its socket, the cluster learns of it, its volumes reach pods inline and by
//! claims, and each is taken back from it, also by an agent that was not there when it was given.

// Test code throughout: a failed expectation ends the test that made it.
#![allow(clippy::expect_used)]

#[path = "kube_csi/driver.rs"]
mod driver;
#[allow(dead_code)] // Shared with the tests of pods, which use all of it.
#[path = "kube_pods/node.rs"]
mod node;

use driver::{Driver, NAME};
use knarr_tests::skip::skip;
use node::Node;
use serde_json::{Value, json};
use std::path::Path;
use tokio::runtime::Runtime;

#[test]
fn volumes_of_a_driver_are_given_and_taken_back() {
    let Some(mut node) = Node::start() else {
        return skip("kube_csi", "no kubectl on this machine");
    };
    let runtime = Runtime::new().expect("a runtime");
    let volumes = tempfile::tempdir().expect("a directory");
    let driver = Driver::serve(&runtime, &node.path("data/kubelet"), volumes.path());
    the_cluster_learns_of_it(&node, &driver);
    inline_volumes(&node, &driver);
    claimed_volumes_are_staged_once(&mut node, &driver);
    a_claim_that_is_given_more_gets_it(&node, &driver);
    files_change_hands_as_the_pod_says(&node, &volumes.path().join("h1/file"));
    what_is_retained_outlives_its_claim(&node, &volumes.path().join("h1/file"));
    raw_volumes_are_devices(&node, &driver, volumes.path());
    what_is_plugged_in_is_in_use(&node, &driver);
    the_driver_goes(&node);
    driver.unmount_all();
}

fn get(node: &Node, what: &[&str]) -> Value {
    let said = node.k(&[&["get", "-o", "json", "--ignore-not-found"], what].concat()).ok();
    serde_json::from_str(&said).unwrap_or_default()
}

fn create(node: &Node, object: &Value) {
    let file = node.path("object.json");
    std::fs::write(&file, object.to_string()).expect("a manifest");
    node.k(&["create", "-f", &file.display().to_string()]).ok();
}

fn the_cluster_learns_of_it(node: &Node, driver: &Driver) {
    create(
        node,
        &json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": NAME}, "spec": {
            "attachRequired": false, "podInfoOnMount": true, "fsGroupPolicy": "File",
            "tokenRequests": [{"audience": "vault", "expirationSeconds": 600}], "requiresRepublish": true,
            "volumeLifecycleModes": ["Persistent", "Ephemeral"]}}),
    );
    let here = node.eventually("the CSINode tells of the driver", || {
        let found = get(node, &["csinode", "node"]);
        let first = found["spec"]["drivers"][0].clone();
        if first["name"] == NAME { Ok(first) } else { Err(found.to_string()) }
    });
    assert_eq!(here["nodeID"], "id-of-node");
    assert_eq!(here["allocatable"]["count"], 7);
    assert_eq!(here["topologyKeys"], json!(["topology.test.example/node"]));
    let metadata = get(node, &["node", "node"])["metadata"].clone();
    assert_eq!(metadata["labels"]["topology.test.example/node"], "here");
    let ids = metadata["annotations"]["csi.volume.kubernetes.io/nodeid"].as_str().unwrap_or_default();
    assert_eq!(serde_json::from_str::<Value>(ids).unwrap_or_default(), json!({NAME: "id-of-node"}));
    node.eventually("the driver is welcome", || {
        if driver.is_registered() == Some(true) {
            Ok(())
        } else {
            Err(format!("{:?}", driver.is_registered()))
        }
    });
}

fn uses(node: &Node, volume: Value, script: &str) -> Value {
    let mut volume = volume;
    volume["name"] = json!("v");
    // With a grace period the object stays until the node has let everything go.
    json!({"terminationGracePeriodSeconds": 1, "securityContext": {"fsGroup": 4321}, "volumes": [volume],
        "containers": [{"name": "c", "image": node.busybox(), "command": ["sh", "-c", script],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]})
}

fn inline_volumes(node: &Node, driver: &Driver) {
    let volume = json!({"csi": {"driver": NAME, "volumeAttributes": {"size": "small"}}});
    node.pod("inline", uses(node, volume, "cat /v/context; sleep 1000"));
    node.ready("inline");
    let lines = ["csi.storage.k8s.io/ephemeral=true", "csi.storage.k8s.io/pod.name=inline", "size=small"];
    let log = node.says("inline", |log| lines.iter().all(|line| log.lines().any(|found| found == *line)));
    let tokens = log.lines().find_map(|line| line.strip_prefix("csi.storage.k8s.io/serviceAccount.tokens="));
    let tokens: Value = serde_json::from_str(tokens.unwrap_or_default()).unwrap_or_default();
    let token = tokens["vault"]["token"].as_str().unwrap_or_default();
    assert_eq!(token.split('.').count(), 3, "a token is a JWT: {tokens}");
    assert!(tokens["vault"]["expirationTimestamp"].is_string(), "{tokens}");
    let given = driver.calls("publish").len();
    node.k(&["annotate", "pod", "inline", "look=again"]).ok();
    node.eventually("it is published again", || {
        let now = driver.calls("publish").len();
        if now > given { Ok(()) } else { Err(format!("{now} times")) }
    });
    let unknown = json!({"csi": {"driver": "unknown.example"}});
    node.pod("unknown", uses(node, unknown, "true"));
    let text = "driver name unknown.example not found in the list of registered CSI drivers";
    node.event("unknown", "FailedMount", text);
    node.k(&["delete", "pod", "inline", "unknown"]).ok();
    let taken = driver.calls("unpublish");
    assert_eq!(taken.len(), 1, "{taken:?}");
    assert_eq!(driver.calls("stage"), Vec::<String>::new(), "inline volumes are not staged");
}

fn claimed_volumes_are_staged_once(node: &mut Node, driver: &Driver) {
    create(
        node,
        &json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "given"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": NAME, "volumeHandle": "h1"}}}),
    );
    create(
        node,
        &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "given",
            "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    let volume = json!({"persistentVolumeClaim": {"claimName": "data"}});
    node.pod("writes", uses(node, volume.clone(), "echo kept > /v/file; stat -c %g /v/file; sleep 1000"));
    node.ready("writes");
    // The files belong to the pod's group.
    node.says("writes", |log| log == "4321\n");
    node.pod("reads", uses(node, volume, "cat /v/file; sleep 1000"));
    node.ready("reads");
    node.says("reads", |log| log == "kept\n");
    let staging = node.path("data/kubelet/plugins/kubernetes.io/csi").join(NAME);
    node.k(&["delete", "pod", "writes"]).ok();
    assert_eq!(driver.calls("unstage"), Vec::<String>::new(), "another pod has it");
    // The next agent knows from its records what the driver has been given.
    node.restart();
    node.ready("reads");
    node.k(&["delete", "pod", "reads"]).ok();
    node.eventually("it is taken off the node", || {
        let calls = driver.calls("unstage");
        if calls == ["unstage h1"] { Ok(()) } else { Err(format!("{calls:?}")) }
    });
    assert_eq!(driver.calls("unpublish h1").len(), 2);
    node.eventually("nothing is left of it", || {
        let left = std::fs::read_dir(&staging).into_iter().flatten().flatten().count();
        if left == 0 { Ok(()) } else { Err(format!("{left} volumes")) }
    });
}

/// A driver's controller has made the volume larger and says so in its object; the node does the rest.
fn a_claim_that_is_given_more_gets_it(node: &Node, driver: &Driver) {
    let volume = json!({"persistentVolumeClaim": {"claimName": "data"}});
    node.pod("grows", uses(node, volume, "sleep 1000"));
    node.ready("grows");
    assert_eq!(driver.calls("expand"), Vec::<String>::new());
    let more = r#"{"spec":{"capacity":{"storage":"2Gi"}}}"#;
    node.k(&["patch", "pv", "given", "-p", more]).ok();
    let waits = r#"{"status":{"conditions":[{"type":"FileSystemResizePending","status":"True"}]}}"#;
    node.k(&["patch", "pvc", "data", "--subresource=status", "-p", waits]).ok();
    // What a running pod's volumes are made of is looked at once a minute, or when the pod changes.
    node.k(&["annotate", "pod", "grows", "look=now"]).ok();
    node.eventually("the claim has it", || {
        let status = get(node, &["pvc", "data"])["status"].clone();
        let conditions = status["conditions"].as_array().is_none_or(Vec::is_empty);
        if status["capacity"]["storage"] == "2147483648" && conditions {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    assert_eq!(driver.calls("expand"), ["expand h1 to 2147483648"]);
    let text = "MountVolume.NodeExpandVolume succeeded for volume \"given\" node";
    node.event("grows", "FileSystemResizeSuccessful", text);
    node.k(&["delete", "pod", "grows"]).ok();
}

fn raw_volume(node: &Node, name: &str, source: Value) {
    let mut spec = json!({"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"], "volumeMode": "Block",
        "storageClassName": "", "persistentVolumeReclaimPolicy": "Retain", "nodeAffinity": {"required": {
        "nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}]}]}}});
    spec.as_object_mut().expect("an object").extend(source.as_object().expect("a source").clone());
    create(
        node,
        &json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}),
    );
    create(
        node,
        &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": {
            "accessModes": ["ReadWriteOnce"], "volumeMode": spec["volumeMode"], "storageClassName": "", "volumeName": name,
            "resources": {"requests": {"storage": "1Mi"}}}}),
    );
}

/// A device of the node, and one that a driver gives; no machine has this number, so nobody's device is opened.
fn raw_volumes_are_devices(node: &Node, driver: &Driver, volumes: &Path) {
    let device = volumes.join("h2/device");
    std::fs::create_dir_all(volumes.join("h2")).expect("a directory");
    let number = rustix::fs::makedev(250, 77);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &device, rustix::fs::FileType::BlockDevice, mode, number)
        .expect("a device node");
    raw_volume(node, "raw-local", json!({"local": {"path": device}}));
    raw_volume(node, "raw-driver", json!({"csi": {"driver": NAME, "volumeHandle": "h2"}}));
    raw_volume(node, "raw-nothing", json!({"csi": {"driver": NAME, "volumeHandle": "h3"}}));
    raw_volume(node, "files", json!({"local": {"path": volumes}, "volumeMode": "Filesystem"}));
    for (name, field) in [
        ("files", "volumeDevices"),
        ("raw-local", "volumeDevices"),
        ("raw-driver", "volumeDevices"),
        ("raw-nothing", "volumeDevices"),
        ("raw-mounted", "volumeMounts"),
    ] {
        let claim = if name == "raw-mounted" { "raw-local" } else { name };
        let place = if field == "volumeDevices" {
            json!({"name": "v", "devicePath": "/dev/xvda"})
        } else {
            json!({"name": "v", "mountPath": "/v"})
        };
        let mut container = json!({"name": "c", "image": node.busybox(),
            "command": ["sh", "-c", "stat -c '%F %t:%T' /dev/xvda; sleep 1000"]});
        container[field] = json!([place]);
        node.pod(
            name,
            json!({"terminationGracePeriodSeconds": 1, "containers": [container],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}]}),
        );
    }
    for name in ["raw-local", "raw-driver"] {
        node.ready(name);
        node.says(name, |log| log == "block special file fa:4d\n");
    }
    // Where a kubelet has them.
    let devices = node.path("data/kubelet/plugins/kubernetes.io/csi/volumeDevices");
    let uid = get(node, &["pod", "raw-driver"])["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let link = node.path("data/kubelet/pods").join(&uid).join("volumeDevices/kubernetes.io~csi/raw-driver");
    assert_eq!(std::fs::read_link(link).expect("a link"), devices.join("publish/raw-driver").join(&uid));
    let mapped = std::fs::metadata(devices.join("raw-driver/dev").join(&uid)).expect("the device of the pod");
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&mapped), number);
    assert!(
        devices.join("staging/raw-driver").is_dir() && devices.join("raw-driver/data/vol_data.json").exists()
    );
    node.event("raw-nothing", "FailedMount", "is not a block device");
    let both = "volume v has volumeMode Block, but is specified in volumeMounts";
    node.event("raw-mounted", "FailedMount", both);
    node.event(
        "files",
        "FailedMount",
        "volume v has volumeMode Filesystem, but is specified in volumeDevices",
    );
    let phase = get(node, &["pod", "files"])["status"]["phase"].clone();
    assert_eq!(phase, "Pending");
    let own = node.path("data/kubelet/plugins/kubernetes.io/local-volume/volumeDevices/raw-local");
    let uid = get(node, &["pod", "raw-local"])["metadata"]["uid"].as_str().expect("a uid").to_owned();
    let link =
        node.path("data/kubelet/pods").join(&uid).join("volumeDevices/kubernetes.io~local-volume/raw-local");
    assert_eq!(std::fs::read_link(link).expect("a link"), device);
    let mapped = std::fs::metadata(own.join(&uid)).expect("the device of the pod");
    assert_eq!(std::os::unix::fs::MetadataExt::rdev(&mapped), number);
    node.k(&["delete", "pod", "raw-local", "raw-driver", "raw-nothing", "raw-mounted", "files"]).ok();
    node.eventually("the driver has it back", || {
        let calls = driver.calls("unstage h2");
        if calls.len() == 1 { Ok(()) } else { Err(format!("{calls:?}")) }
    });
    node.eventually("nothing is left of it", || {
        let left = ["staging/raw-driver", "publish/raw-driver", "raw-driver"].map(|name| devices.join(name));
        let left: Vec<_> = left.into_iter().chain([own.clone()]).filter(|place| place.exists()).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

/// `fsGroupChangePolicy`: where the root of a volume fits, what is below may stay as it is.
fn files_change_hands_as_the_pod_says(node: &Node, file: &Path) {
    std::os::unix::fs::chown(file, None, Some(7)).expect("a file of the volume");
    for (name, policy, group) in [("mismatch", "OnRootMismatch", "7\n"), ("always", "Always", "4321\n")] {
        let volume = json!({"persistentVolumeClaim": {"claimName": "data"}});
        let mut spec = uses(node, volume, "stat -c %g /v/file; sleep 1000");
        spec["securityContext"]["fsGroupChangePolicy"] = json!(policy);
        node.pod(name, spec);
        node.says(name, |log| log == group);
        node.k(&["delete", "pod", name]).ok();
    }
}

fn what_is_retained_outlives_its_claim(node: &Node, file: &Path) {
    node.k(&["delete", "pvc", "data"]).ok();
    node.eventually("the volume is released", || {
        let volume = get(node, &["pv", "given"]);
        if volume["status"]["phase"] == "Released" { Ok(()) } else { Err(volume["status"].to_string()) }
    });
    assert!(file.exists(), "what was written is kept");
}

/// A driver that says nothing of attaching wants it. Its attacher is played here, by the API that attachers use.
fn what_is_plugged_in_is_in_use(node: &Node, driver: &Driver) {
    node.k(&["delete", "csidriver", NAME]).ok();
    create(
        node,
        &json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "plugged"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": NAME, "volumeHandle": "h4"}}}),
    );
    create(
        node,
        &json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "plugged"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "plugged",
            "resources": {"requests": {"storage": "1Gi"}}}}),
    );
    let volume = json!({"persistentVolumeClaim": {"claimName": "plugged"}});
    node.pod("plugs", uses(node, volume, "sleep 1000"));
    let attachment = node.eventually("somebody is asked to attach it", || {
        let all = get(node, &["volumeattachments"]);
        all["items"][0]["metadata"]["name"].as_str().map(str::to_owned).ok_or_else(|| all.to_string())
    });
    assert_eq!(driver.calls("stage h4"), Vec::<String>::new(), "it is not here yet");
    let done = r#"{"status":{"attached":true}}"#;
    node.k(&["patch", "volumeattachment", &attachment, "--subresource=status", "--type=merge", "-p", done])
        .ok();
    node.ready("plugs");
    let name = format!("kubernetes.io/csi/{NAME}^h4");
    assert_eq!(get(node, &["node", "node"])["status"]["volumesInUse"], json!([name]));
    node.k(&["delete", "pod", "plugs"]).ok();
    node.eventually("nobody uses it", || {
        let status = get(node, &["node", "node"])["status"].clone();
        if status["volumesInUse"].is_null() { Ok(()) } else { Err(status["volumesInUse"].to_string()) }
    });
    assert_eq!(driver.calls("unstage h4"), ["unstage h4"]);
    node.eventually("it is unplugged", || {
        let all = get(node, &["volumeattachments"]);
        if all["items"].as_array().is_none_or(Vec::is_empty) { Ok(()) } else { Err(all.to_string()) }
    });
}

fn the_driver_goes(node: &Node) {
    let socket = node.path("data/kubelet/plugins_registry").join(format!("{NAME}-reg.sock"));
    std::fs::remove_file(socket).expect("the registrar's socket");
    node.eventually("the cluster learns that it went", || {
        let found = get(node, &["csinode", "node"]);
        if found["spec"]["drivers"].as_array().is_none_or(Vec::is_empty) {
            Ok(())
        } else {
            Err(found.to_string())
        }
    });
}
