//! Other people's clients of CRI on our engine, where they are installed: Kubernetes' own suite (`critest`) and its
//! command line (`crictl`). What they ask beyond our own suite is only their way of asking; so they run beside the
//! project, and are a named skip where they are not on PATH.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_tests::bins::{self, Said};
use knarr_tests::engine::{Engine, IMAGE, PATIENCE, file_holds};
use knarr_tests::eventually::eventually;
use knarr_tests::{foreign_images, skip};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// All specs, one after the other, on a busy machine.
const SUITE: Duration = Duration::from_secs(900);
/// What only the public images have: one by its digest, and a shell that does not bring along `ls` itself, in whose words
/// the second spec is written (`engine_pods` masks paths, too).
const NOT_HERE: &str =
    "public image with digest should be pulled and removed|runtime should support MaskedPaths";

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// The suite's names for what failed, and its last words.
fn verdict(said: &Said) -> String {
    let told = |line: &&str| line.contains("[FAIL]") || line.contains(" Passed ") || line.starts_with("Ran ");
    said.out.lines().filter(told).collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn kubernetes_own_suite_passes_by_either_protocol() {
    let test = "kubernetes_own_suite_passes_by_either_protocol";
    let Some(critest) = installed("critest") else { return skip::skip(test, "critest is not on PATH") };
    let engine = Engine::start().await;
    let _registry = foreign_images::serve(&engine);
    let socket = format!("unix://{}", engine.path("state/cri.sock").display());
    let websocket = ["-websocket-exec", "-websocket-attach", "-websocket-portforward"];
    for flags in [&[][..], &websocket] {
        let mut command = Command::new(&critest);
        command.current_dir(engine.path("")).args(flags);
        command.args(["-runtime-endpoint", &socket, "-ginkgo.no-color", "-ginkgo.skip", NOT_HERE]);
        let said = bins::run_within(&mut command, SUITE);
        println!("critest {flags:?}: {}", verdict(&said));
        assert_eq!(said.code, 0, "{flags:?}: {}", verdict(&said));
    }
}

/// `crictl` against an engine, with the two files that it wants.
struct Crictl {
    program: PathBuf,
    engine: Engine,
}

impl Crictl {
    fn files(&self) {
        let write = |name: &str, content: serde_json::Value| {
            std::fs::write(self.engine.path(name), content.to_string()).unwrap();
        };
        let parent = self.engine.cgroup();
        let metadata = serde_json::json!({"name": "p", "uid": "u", "namespace": "n", "attempt": 0});
        let logs = self.engine.path("logs/p");
        let linux = serde_json::json!({"cgroup_parent": parent});
        write("pod.json", serde_json::json!({"metadata": metadata, "log_directory": logs, "linux": linux}));
        let line = "echo first; httpd -p 80 -h /etc; cat";
        write(
            "container.json",
            serde_json::json!({
                "metadata": {"name": "c", "attempt": 0}, "image": {"image": IMAGE}, "stdin": true,
                "command": ["sh", "-c", line], "log_path": "c.log", "linux": {},
            }),
        );
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let socket = format!("unix://{}", self.engine.path("state/cri.sock").display());
        command.args(["--runtime-endpoint", &socket, "--image-endpoint", &socket, "--timeout", "60s"]);
        command.current_dir(self.engine.path("")).args(arguments);
        command
    }

    fn says(&self, arguments: &[&str]) -> String {
        bins::run(&mut self.command(arguments)).ok().trim().to_owned()
    }
}

/// How people find a pod's network.
const NETWORK: &str =
    r#"{{range .info.runtimeSpec.linux.namespaces}}{{if eq .type "network"}}{{.path}}{{end}}{{end}}"#;

#[tokio::test]
async fn crictl_does_all_that_it_can() {
    let test = "crictl_does_all_that_it_can";
    let Some(program) = installed("crictl") else { return skip::skip(test, "crictl is not on PATH") };
    let crictl = Crictl { program, engine: Engine::start().await };
    crictl.files();
    assert!(crictl.says(&["version"]).contains("RuntimeName:  knarr"));
    assert!(crictl.says(&["info"]).contains("NetworkReady"));
    let pod = crictl.says(&["runp", "pod.json"]);
    let id = crictl.says(&["create", &pod, "container.json", "pod.json"]);
    crictl.says(&["start", &id]);
    for (arguments, expected) in [
        (vec!["pods"], "Ready"),
        (vec!["ps"], "Running"),
        (vec!["inspectp", &pod], "SANDBOX_READY"),
        (vec!["inspectp", "-o", "go-template", "--template", NETWORK, &pod], "/ns/net"),
        (vec!["inspect", &id], "CONTAINER_RUNNING"),
        (vec!["images"], "localhost/busybox"),
        (vec!["inspecti", IMAGE], "imageSpec"),
        (vec!["imagefsinfo"], "imageFilesystems"),
        (vec!["runtime-config"], "CGROUPFS"),
        (vec!["metricdescs"], "container_memory_usage_bytes"),
        (vec!["metricsp"], "container_memory_usage_bytes"),
        (vec!["stats", "-o", "json"], "writableLayer"),
        (vec!["statsp", "-o", "json"], "usageCoreNanoSeconds"),
        (vec!["exec", "-s", &id, "echo", "sync"], "sync"),
        (vec!["exec", &id, "echo", "spdy"], "spdy"),
        (vec!["exec", "--transport", "websocket", &id, "echo", "sockets"], "sockets"),
        (vec!["update", "--memory", "67108864", &id], id.as_str()),
        (vec!["update-runtime-config", "--pod-cidr", ""], ""),
    ] {
        let said = crictl.says(&arguments);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    file_holds(&crictl.engine.path("logs/p/c.log"), "first");
    assert_eq!(crictl.says(&["logs", &id]), "first");
    forwards(&crictl, &pod);
    let failed = bins::run(&mut crictl.command(&["exec", &id, "sh", "-c", "exit 3"])).failed();
    assert!(failed.contains("exit code 3"), "{failed}");
    let missing = bins::run(&mut crictl.command(&["inspect", "nonesuch"])).failed();
    assert!(missing.contains("NotFound"), "{missing}");
    crictl.says(&["stop", "--timeout", "1", &id]);
    assert!(crictl.says(&["ps", "-a"]).contains("Exited"));
    crictl.says(&["rm", &id]);
    crictl.says(&["stopp", &pod]);
    assert!(crictl.says(&["pods"]).contains("NotReady"));
    crictl.says(&["rmp", "-fa"]);
    crictl.says(&["run", "--no-pull", "container.json", "pod.json"]);
    assert!(crictl.says(&["ps", "-q"]).len() >= 64);
    crictl.says(&["rmp", "-fa"]);
    crictl.says(&["rmi", "--prune"]);
    assert_eq!(crictl.says(&["images", "-q"]), "");
}

/// A port of the pod on one of ours; which one it is, the client says.
fn forwards(crictl: &Crictl, pod: &str) {
    for transport in ["spdy", "websocket"] {
        let log = crictl.engine.path(&format!("forward-{transport}"));
        let mut command = crictl.command(&["port-forward", "--transport", transport, pod, "0:80"]);
        let mut client = command.stdout(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let port = eventually("a forwarded port", PATIENCE, || {
            let said = std::fs::read_to_string(&log).unwrap();
            let port = said.split("127.0.0.1:").nth(1).and_then(|rest| rest.split(' ').next());
            port.map(str::to_owned).ok_or(said)
        });
        let url = format!("http://127.0.0.1:{port}/passwd");
        let page = bins::run(Command::new("curl").args(["-sS", "--retry", "5", &url])).ok();
        client.kill().unwrap();
        client.wait().unwrap();
        assert!(page.contains("root:x:0:0"), "{transport}: {page}");
    }
}
