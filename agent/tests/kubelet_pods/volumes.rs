//! What is in a pod's volumes, who owns it, and that it follows the objects it is made of.

use crate::lab::{self, IMAGE, containers, eventually, is_ready, phase};
use crate::{pod, shell};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_follow_their_objects() {
    lab::with(async |lab| {
        lab.write("m.json", map("m", json!({"k": "old\n", "gone": "x"})));
        let script = "cat /map/k /sub/k; until grep -q new /map/k && grep -q new /all/m/k; do sleep 0.1; done; cat /map/k /sub/k /all/m/k; ls /map; sleep 1000";
        let mut container = shell("c", script);
        container["volumeMounts"] = json!([{"name": "map", "mountPath": "/map"},
            {"name": "all", "mountPath": "/all"}, {"name": "map", "mountPath": "/sub/k", "subPath": "k"}]);
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [
            {"name": "map", "configMap": {"name": "m"}},
            {"name": "all", "projected": {"sources": [
                {"configMap": {"name": "m", "items": [{"key": "k", "path": "m/k"}]}},
                {"configMap": {"name": "absent", "optional": true}},
                {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}}]});
        lab.write("p.json", pod("p", spec));
        let running = lab.pod_when("p", is_ready).await;
        lab.log_is(&running, "c", "old\nold\n").await;
        let labels = lab.volume_file(&running, "projected", "all/labels");
        assert_eq!(std::fs::read_to_string(labels).unwrap(), "app=\"p\"");
        lab.write("m.json", map("m", json!({"k": "new\n", "more": "y"})));
        lab.log_is(&running, "c", "old\nold\nnew\nold\nnew\nk\nmore\n").await;
        assert_eq!(containers(&lab.pod("p").unwrap())[0].restart_count, 0);
    })
    .await;
}

/// People put a link where the node's data would be, to a larger disk.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_behind_a_link() {
    let home = tempfile::tempdir().unwrap();
    let (disk, link) = (home.path().join("disk"), home.path().join("kubelet"));
    std::fs::create_dir(&disk).unwrap();
    std::os::unix::fs::symlink(&disk, &link).unwrap();
    let settings = |kubelet: &mut knarr_agent::config::KubeletConfig| kubelet.root_dir = Some(link);
    lab::with_settings(settings, async |lab| {
        let mut container = shell("c", "sleep 1000");
        container["volumeMounts"] = json!([{"name": "shared", "mountPath": "/shared"}]);
        let volume = json!({"name": "shared", "emptyDir": {"medium": "Memory"}});
        let spec =
            json!({"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [volume]});
        lab.write("p.json", pod("p", spec));
        lab.pod_when("p", is_ready).await;
        let pods = || std::fs::read_dir(disk.join("pods")).unwrap().count();
        assert_eq!(pods(), 1);
        lab.delete("p.json");
        lab.gone("p").await;
        eventually(async || (pods() == 0).then_some(())).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_have_their_modes_owners_and_kinds() {
    lab::with(async |lab| {
        lab.write("m.json", map("m", json!({"a": "1", "b": "2"})));
        let host = lab.path("host");
        let script = "stat -c '%a %g' /map/x/a /empty; ls /map; cat /image/bin/nothing; touch /ro/x; echo d > /made/f; sleep 1000";
        let mut container = shell("c", script);
        container["volumeMounts"] = json!([{"name": "map", "mountPath": "/map"},
            {"name": "empty", "mountPath": "/empty"}, {"name": "image", "mountPath": "/image"},
            {"name": "host", "mountPath": "/ro", "readOnly": true, "recursiveReadOnly": "Enabled"},
            {"name": "host", "mountPath": "/made", "subPathExpr": "sub/$(NAME)"}]);
        container["env"] = json!([{"name": "NAME", "value": "dir"}]);
        let path = host.to_str().unwrap();
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container],
            "securityContext": {"fsGroup": 4321}, "volumes": [
            {"name": "map", "configMap": {"name": "m", "defaultMode": 0o400,
                "items": [{"key": "a", "path": "x/a", "mode": 0o444}]}},
            {"name": "empty", "emptyDir": {}},
            {"name": "image", "image": {"reference": IMAGE, "pullPolicy": "Never"}},
            {"name": "host", "hostPath": {"path": path, "type": "DirectoryOrCreate"}}]});
        lab.write("p.json", pod("p", spec));
        let running = lab.pod_when("p", is_ready).await;
        let expected = "444 4321\n2777 4321\nx\ncat: can't open '/image/bin/nothing': No such file or directory\n\
                        touch: /ro/x: Read-only file system\n";
        lab.log_is(&running, "c", expected).await;
        assert!(eventually(async || std::fs::read(host.join("sub/dir/f")).ok()).await.is_some());
        assert_eq!(std::fs::metadata(&host).unwrap().mode() & 0o777, 0o755);
    })
    .await;
}

/// Each of these pods stays without a sandbox, and none of them is given up.
#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_cannot_be_made_hold_the_pod_back() {
    lab::with(async |lab| {
        let with_volume = |name: &str, volume: Value| {
            let mut container = shell("c", "sleep 1000");
            container["volumeMounts"] = json!([{"name": "v", "mountPath": "/v"}]);
            let mut volume = volume;
            volume["name"] = json!("v");
            pod(
                name,
                json!({"terminationGracePeriodSeconds": 0, "containers": [container], "volumes": [volume]}),
            )
        };
        let missing = lab.path("missing");
        lab.write("map.json", with_volume("map", json!({"configMap": {"name": "late"}})));
        lab.write(
            "host.json",
            with_volume(
                "host",
                json!({"hostPath": {"path": missing.to_str().unwrap(), "type": "Directory"}}),
            ),
        );
        lab.write("claim.json", with_volume("claim", json!({"persistentVolumeClaim": {"claimName": "x"}})));
        for name in ["map", "host", "claim"] {
            let pending = lab.pod_when(name, |pod| !containers(pod).is_empty()).await;
            assert_eq!(phase(&pending), "Pending", "{name}");
        }
        std::fs::create_dir(&missing).unwrap();
        lab.write("late.json", map("late", json!({"k": "v"})));
        lab.pod_when("map", is_ready).await;
        lab.pod_when("host", is_ready).await;
    })
    .await;
}

/// A directory that is a shared mount of its own, until it is dropped.
struct SharedMount(std::path::PathBuf);

impl SharedMount {
    fn make(path: std::path::PathBuf) -> SharedMount {
        use rustix::mount::{MountPropagationFlags, mount_bind, mount_change};
        std::fs::create_dir(&path).unwrap();
        mount_bind(&path, &path).unwrap();
        mount_change(&path, MountPropagationFlags::SHARED).unwrap();
        SharedMount(path)
    }
}

impl Drop for SharedMount {
    fn drop(&mut self) {
        use rustix::mount::{UnmountFlags, unmount};
        let _gone = unmount(self.0.join("inner"), UnmountFlags::DETACH);
        let _gone = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_propagate_as_the_pod_says() {
    let directory = tempfile::tempdir().unwrap();
    let shared = SharedMount::make(directory.path().join("shared"));
    lab::with(async |lab| {
        let with_mount = |name: &str, propagation: &str, script: &str| {
            let mut container = shell("c", script);
            container["securityContext"] = json!({"privileged": true});
            container["volumeMounts"] =
                json!([{"name": "v", "mountPath": "/v", "mountPropagation": propagation}]);
            pod(
                name,
                json!({"terminationGracePeriodSeconds": 0, "containers": [container],
                "volumes": [{"name": "v", "hostPath": {"path": shared.0}}]}),
            )
        };
        let wait = "until test -e /v/inner/seen; do sleep 0.1; done; echo seen; sleep 1000";
        lab.write("follows.json", with_mount("follows", "HostToContainer", wait));
        lab.write(
            "none.json",
            with_mount(
                "none",
                "None",
                "until test -e /v/done; do sleep 0.1; done; ls /v/inner; echo end; sleep 1000",
            ),
        );
        lab.pod_when("none", is_ready).await;
        let follows = lab.pod_when("follows", is_ready).await;
        let makes = "mkdir -p /v/inner; mount -t tmpfs tmpfs /v/inner; touch /v/inner/seen; sleep 1000";
        lab.write("makes.json", with_mount("makes", "Bidirectional", makes));
        lab.pod_when("makes", is_ready).await;
        lab.log_is(&follows, "c", "seen\n").await;
        assert!(shared.0.join("inner/seen").exists(), "the host sees it too");
        std::fs::write(shared.0.join("done"), "").unwrap();
        let none = lab.pod("none").unwrap();
        lab.log_is(&none, "c", "end\n").await;
    })
    .await;
}
