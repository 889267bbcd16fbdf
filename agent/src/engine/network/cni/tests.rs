//! CNI with real plugins (bridge, host-local, portmap where they are installed) and one of our own that speaks 1.1 and
//! writes down what it is asked.

use super::*;
use crate::engine::network::HostPort;
use crate::network_lab::{Lab, Pod, wait_until};
use serde_json::json;
use std::fs;

/// Answers everything of version 1.1, appends `COMMAND CONTAINERID stdin` to `DIR/calls`, and fails the commands that
/// `DIR/fail` names.
const RECORDER: &str = r#"#!/bin/sh
dir=$(dirname "$0")
input=$(cat)
echo "$CNI_COMMAND|$CNI_CONTAINERID|$CNI_NETNS|$CNI_IFNAME|$CNI_ARGS|$input" >> "$dir/calls"
if grep -qs "$CNI_COMMAND" "$dir/fail"; then
    echo '{"cniVersion":"1.1.0","code":50,"msg":"not today","details":"try tomorrow"}'
    exit 1
fi
if [ "$CNI_COMMAND" = ADD ]; then
    echo '{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"x"}],"ips":[{"address":"10.9.0.2/24","interface":0}]}'
fi
"#;

struct Recorder {
    dir: tempfile::TempDir,
    network: Arc<CniNetwork>,
}

impl Recorder {
    fn new(lab: &Lab) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join("recorder");
        crate::script_file::write(&plugin, RECORDER);
        let list = json!({
            "cniVersion": "1.1.0", "name": "net",
            "plugins": [{"type": "recorder", "n": 1}, {"type": "recorder", "n": 2, "capabilities": {"portMappings": true}}],
        });
        fs::write(dir.path().join("10-net.conflist"), list.to_string()).unwrap();
        let network = Self::open(lab, dir.path());
        Self { dir, network }
    }

    fn open(lab: &Lab, dir: &Path) -> Arc<CniNetwork> {
        let mut config = (*lab.config()).clone();
        config.network.cni_bin_dirs = vec![dir.to_owned()];
        CniNetwork::new(&config, dir)
    }

    fn fail(&self, commands: &str) {
        fs::write(self.dir.path().join("fail"), commands).unwrap();
    }

    /// `COMMAND n` of each call since the last look.
    fn calls(&self) -> Vec<String> {
        let lines = self.raw_calls();
        let short = |line: &String| {
            let fields: Vec<&str> = line.splitn(6, '|').collect();
            let input: Value = serde_json::from_str(fields[5]).unwrap();
            format!("{} {}", fields[0], input["n"])
        };
        lines.iter().map(short).collect()
    }

    fn raw_calls(&self) -> Vec<String> {
        let path = self.dir.path().join("calls");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        text.lines().map(str::to_owned).collect()
    }
}

fn attachment(id: &str, pod: &Pod, host_ports: Vec<HostPort>) -> PodAttachment {
    PodAttachment {
        sandbox_id: id.into(),
        namespace: "default".into(),
        name: id.into(),
        uid: format!("{id}-uid"),
        netns: pod.netns(),
        host_ports,
        annotations: Default::default(),
    }
}

#[test]
fn add_goes_forward_and_del_backward_with_the_result() {
    Lab::run(|lab| async move {
        let (recorder, pod) = (Recorder::new(&lab), Pod::new());
        let addresses = recorder.network.setup(&attachment("a", &pod, vec![])).await.unwrap();
        assert_eq!(addresses[0].to_string(), "10.9.0.2");
        let calls = recorder.raw_calls();
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=a-uid";
        assert!(
            calls[0].starts_with(&format!("ADD|a|{}|eth0|{args}|", pod.netns().display())),
            "{}",
            calls[0]
        );
        assert!(!calls[0].contains("prevResult") && calls[1].contains("prevResult"));
        assert!(!calls[1].contains("capabilities"));
        // The same again is a CHECK.
        recorder.network.setup(&attachment("a", &pod, vec![])).await.unwrap();
        assert_eq!(recorder.calls(), ["CHECK 1", "CHECK 2"]);
        // A network that is not as it was is made anew.
        recorder.fail("CHECK");
        recorder.network.setup(&attachment("a", &pod, vec![])).await.unwrap();
        assert_eq!(recorder.calls(), ["CHECK 1", "DEL 2", "DEL 1", "ADD 1", "ADD 2"]);
        drop(pod);
        recorder.network.teardown("a").await.unwrap();
        let calls = recorder.raw_calls();
        assert!(calls[0].starts_with("DEL|a||eth0|"), "no namespace, no path: {}", calls[0]);
        assert!(calls[0].contains("prevResult"));
        recorder.network.teardown("a").await.unwrap();
        assert_eq!(recorder.calls(), Vec::<String>::new());
    });
}

#[test]
fn a_failed_add_is_deleted_and_a_failed_del_is_tried_again() {
    Lab::run(|lab| async move {
        let (recorder, pod) = (Recorder::new(&lab), Pod::new());
        recorder.fail("ADD DEL");
        let error = recorder.network.setup(&attachment("a", &pod, vec![])).await.unwrap_err().to_string();
        assert_eq!(error, "plugin type=\"recorder\" name=\"net\" failed (add): not today; try tomorrow");
        assert_eq!(recorder.calls(), ["ADD 1", "DEL 2", "DEL 1"]);
        recorder.fail("nothing");
        let restarted = Recorder::open(&lab, recorder.dir.path());
        restarted.collect_garbage(&BTreeSet::new()).await.unwrap();
        assert_eq!(recorder.calls(), ["DEL 2", "DEL 1", "GC 1", "GC 2"]);
    });
}

#[test]
fn garbage_collection_names_what_lives() {
    Lab::run(|lab| async move {
        let (recorder, pod) = (Recorder::new(&lab), Pod::new());
        for id in ["living", "dead"] {
            recorder.network.setup(&attachment(id, &pod, vec![])).await.unwrap();
        }
        recorder.raw_calls();
        recorder.network.collect_garbage(&BTreeSet::from(["living".to_owned()])).await.unwrap();
        let calls = recorder.raw_calls();
        assert!(calls[0].starts_with("DEL|dead|") && calls[2].starts_with("GC||"), "{calls:?}");
        let valid = r#""cni.dev/valid-attachments":[{"containerID":"living","ifname":"eth0"}]"#;
        assert!(calls[2].contains(valid), "{}", calls[2]);
    });
}

#[test]
fn readiness_is_the_configuration_and_the_status_of_its_plugins() {
    Lab::run(|lab| async move {
        let recorder = Recorder::new(&lab);
        recorder.network.ready().await.unwrap();
        recorder.fail("STATUS");
        let error = recorder.network.ready().await.unwrap_err();
        assert!(error.starts_with("Network plugin returns error: plugin type=\"recorder\""), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = Recorder::open(&lab, empty.path()).ready().await.unwrap_err();
        assert_eq!(error, "Network plugin returns error: cni plugin not initialized");
    });
}

/// Debian's plugins, where installed: an address, traffic, a host port, and nothing left.
#[test]
fn the_reference_plugins_make_a_network() {
    const DIR: &str = "/usr/lib/cni";
    if !Path::new(DIR).join("host-local").exists() {
        eprintln!("skipped: no CNI plugins in {DIR}");
        return;
    }
    Lab::run(|lab| async move {
        let dir = tempfile::tempdir().unwrap();
        let leases = dir.path().join("leases");
        let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
             "ipam": {"type": "host-local", "dataDir": leases, "ranges": [[{"subnet": "10.9.0.0/24"}]],
                      "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}},
        ]});
        fs::write(dir.path().join("10-net.conflist"), list.to_string()).unwrap();
        let mut config = (*lab.config()).clone();
        config.network.cni_bin_dirs = vec![DIR.into()];
        let network = CniNetwork::new(&config, dir.path());
        let (a, b) = (Pod::new(), Pod::new());
        let port = HostPort { protocol: "tcp", host_ip: None, host_port: 8080, container_port: 80 };
        let address = network.setup(&attachment("a", &a, vec![port])).await.unwrap()[0];
        network.setup(&attachment("b", &b, vec![])).await.unwrap();
        a.serve_many(80, "through a plugin");
        assert_eq!(b.get(address, 80), "through a plugin");
        assert_eq!(lab.world().get(lab.uplink_address(), 8080), "through a plugin");
        let held = || {
            fs::read_dir(leases.join("net"))
                .unwrap()
                .flatten()
                .filter(|e| e.file_name().to_string_lossy().starts_with("10."))
                .count()
        };
        assert_eq!(held(), 2);
        network.setup(&attachment("a", &a, vec![])).await.unwrap();
        assert_eq!(held(), 2, "the second call checks, it does not add");
        drop(a);
        network.teardown("a").await.unwrap();
        network.collect_garbage(&BTreeSet::new()).await.unwrap();
        wait_until("all addresses are free", || held() == 0);
        network.remove_all().await.unwrap();
    });
}
