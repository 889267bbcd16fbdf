//! The life of a control plane: restarts, backups, the audit log, several servers on one etcd. No node runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers outside #[test] may panic: that is a failed test

use knarr_tests::bins::Said;
use knarr_tests::cluster::kubectls;
use knarr_tests::eventually::eventually;
use knarr_tests::server::Server;
use knarr_tests::skip::skip;
use serde_json::Value;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(120);

fn kubectl(test: &str) -> Option<PathBuf> {
    let found = kubectls().pop();
    if found.is_none() {
        skip(test, "no kubectl on this machine");
    }
    found
}

fn run(server: &Server, kubectl: &Path, arguments: &str) -> Said {
    server.kubectl(kubectl, &arguments.split(' ').collect::<Vec<_>>())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_backup_brings_back_objects_and_credentials() {
    let Some(kubectl) = kubectl("server_backup") else { return };
    let mut server = Server::start();
    run(&server, &kubectl, "create configmap kept --from-literal=a=b").ok();
    run(&server, &kubectl, "create serviceaccount robot").ok();
    run(
        &server,
        &kubectl,
        "create clusterrolebinding robots --clusterrole=view --serviceaccount=default:robot",
    )
    .ok();
    let token = run(&server, &kubectl, "create token robot").ok();
    let before = run(&server, &kubectl, "get configmap kept -o jsonpath={.metadata.uid}").ok();
    let file = server.path("backup").display().to_string();
    assert!(server.knarr(&["server", "backup", &file]).ok().contains("saved"));
    run(&server, &kubectl, "delete configmap kept").ok();
    run(&server, &kubectl, "create configmap lost --from-literal=a=b").ok();
    let busy = server.knarr(&["server", "restore", "--force", &file]).failed();
    assert!(busy.contains("in use"), "{busy}");
    server.kill();
    let refused = server.knarr(&["server", "restore", &file]).failed();
    assert!(refused.contains("--force"), "{refused}");
    assert!(server.knarr(&["server", "restore", "--force", &file]).ok().contains("restored"));
    server.again(&[]);
    assert_eq!(run(&server, &kubectl, "get configmap kept -o jsonpath={.metadata.uid}").ok(), before);
    assert!(run(&server, &kubectl, "get configmap lost").failed().contains("NotFound"));
    let as_robot = format!(
        "get configmaps --kubeconfig /dev/null --insecure-skip-tls-verify --server {} --token {}",
        server.url(),
        token.trim()
    );
    let listed = knarr_tests::bins::run(Command::new(&kubectl).args(as_robot.split(' '))).ok();
    assert!(listed.contains("kept"), "a token from before: {listed}");
}

#[test]
fn a_deployment_whose_set_has_its_name_taken_takes_another() {
    let Some(kubectl) = kubectl("deployment_collision") else { return };
    let server = Server::start();
    let create = "create deployment web --image=example.com/i:1";
    let sets = "get rs -l app=web -o name";
    let sets = || {
        eventually("a set", PATIENCE, || {
            let listed = run(&server, &kubectl, sets).ok();
            if listed.is_empty() { Err(listed) } else { Ok(listed.trim().to_owned()) }
        })
    };
    run(&server, &kubectl, create).ok();
    let taken = sets().split_once('/').unwrap().1.to_owned();
    run(&server, &kubectl, "delete deployment web --cascade=foreground").ok();
    let foreign = format!(
        "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {{name: {taken}}}\nspec:\n  replicas: 0\n  \
         selector: {{matchLabels: {{a: b}}}}\n  template:\n    metadata: {{labels: {{a: b}}}}\n    \
         spec: {{containers: [{{name: c, image: 'example.com/other:1'}}]}}\n"
    );
    let file = server.file("foreign.yaml", &foreign);
    run(&server, &kubectl, &format!("create -f {file}")).ok();
    run(&server, &kubectl, create).ok();
    assert_ne!(sets(), format!("replicaset.apps/{taken}"));
    eventually("the collision is counted", PATIENCE, || {
        let count = run(&server, &kubectl, "get deployment web -o jsonpath={.status.collisionCount}").ok();
        if count == "1" { Ok(()) } else { Err(count) }
    });
}

#[test]
fn after_a_restart_no_watcher_misses_a_change_silently() {
    let Some(kubectl) = kubectl("server_restart") else { return };
    let mut server = Server::start();
    let version = |server: &Server| {
        json(&run(server, &kubectl, "get --raw /api/v1/namespaces/default/configmaps").ok())["metadata"]
            ["resourceVersion"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let old = version(&server);
    run(&server, &kubectl, "create configmap between --from-literal=a=b").ok();
    server.kill();
    server.again(&[]);
    let now = version(&server);
    let watch = |server: &Server, from: &str| {
        let path = "/api/v1/namespaces/default/configmaps";
        run(server, &kubectl, &format!("get --raw {path}?watch=1&timeoutSeconds=2&resourceVersion={from}"))
            .ok()
    };
    let told = json(watch(&server, &old).lines().next().unwrap());
    assert_eq!(
        (&told["type"], &told["object"]["code"]),
        (&Value::from("ERROR"), &Value::from(410)),
        "{told}"
    );
    run(&server, &kubectl, "create configmap after --from-literal=a=b").ok();
    let seen = watch(&server, &now);
    assert!(
        seen.contains("\"ADDED\"") && seen.contains("\"after\"") && !seen.contains("\"between\""),
        "{seen}"
    );
    let ahead = run(&server, &kubectl, "get --raw /api/v1/configmaps?resourceVersion=999999999").failed();
    assert!(ahead.contains("Too large resource version"), "{ahead}");
}

const POLICY: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, resources: [{resources: [secrets]}]}
- {level: Request, verbs: [create], resources: [{resources: [configmaps]}]}
";

#[test]
fn the_audit_log_says_who_did_what() {
    let Some(kubectl) = kubectl("server_audit") else { return };
    let directory = Server::directory();
    let (policy, log) = (directory.path().join("policy.yaml"), directory.path().join("logs/audit.log"));
    std::fs::write(&policy, POLICY).unwrap();
    let (policy, log) = (policy.display().to_string(), log.display().to_string());
    let server = Server::start_in(directory, &["--audit-policy-file", &policy, "--audit-log-path", &log]);
    run(&server, &kubectl, "create secret generic s --from-literal=password=hidden").ok();
    run(&server, &kubectl, "create configmap m --from-literal=shown=yes").ok();
    run(&server, &kubectl, "get secrets --as=eve").failed();
    let find = |verb: &str, resource: &str, name: &str| {
        eventually("the event", PATIENCE, || {
            let text = std::fs::read_to_string(&log).unwrap();
            // The last line may be on its way.
            let text = text[..text.rfind('\n').map_or(0, |end| end + 1)].to_owned();
            assert!(!text.contains("aGlkZGVu"), "a secret's content is in the log");
            let fits = |event: &Value| {
                event["verb"] == verb
                    && event["objectRef"]["resource"] == resource
                    && event["user"]["username"] == name
            };
            text.lines().map(json).find(fits).ok_or(text)
        })
    };
    let secret = find("create", "secrets", "kubernetes-admin");
    assert_eq!(
        (&secret["level"], &secret["responseStatus"]["code"]),
        (&Value::from("Metadata"), &Value::from(201))
    );
    let map = find("create", "configmaps", "kubernetes-admin");
    assert_eq!(map["requestObject"]["data"]["shown"], "yes");
    let denied = find("list", "secrets", "kubernetes-admin");
    assert_eq!(denied["impersonatedUser"]["username"], "eve");
    assert_eq!(denied["responseStatus"]["code"], 403);
    assert_eq!(denied["annotations"]["authorization.k8s.io/decision"], "forbid");
}

/// An etcd of one member.
struct Etcd {
    child: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Etcd {
    fn start() -> Option<Self> {
        // Below the ports that the kernel gives to connections; one that is taken all the same ends etcd at once.
        let first = 24_000 + u16::try_from(std::process::id() % 7_000).unwrap();
        (0..8).find_map(|attempt| Self::start_on(first + 2 * attempt))
    }

    /// `None` where etcd is not installed, or ends before it listens.
    fn start_on(port: u16) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let [url, peer] = [port, port + 1].map(|port| format!("http://127.0.0.1:{port}"));
        let mut child = Command::new("etcd")
            .args([
                "--listen-client-urls",
                &url,
                "--advertise-client-urls",
                &url,
                "--listen-peer-urls",
                &peer,
            ])
            .args(["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
            .arg("--data-dir")
            .arg(directory.path().join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        eventually("etcd listens or ends", PATIENCE, || {
            let ended = child.try_wait().unwrap().is_some();
            let answered = std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
            if ended || answered { Ok(()) } else { Err("neither".to_owned()) }
        });
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        Some(Self { child, url, _directory: directory })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

const LEASE: &str = "get lease -n kube-system kube-controller-manager -o jsonpath={.spec.holderIdentity}";

/// A second server needs the keys of the first: tokens and certificates of one are good at the other.
fn beside(first: &Server, etcd: &Etcd) -> Server {
    let directory = Server::directory();
    let (from, to) = (first.path("data/pki"), directory.path().join("data/pki"));
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
    Server::start_in(directory, &["--etcd", &etcd.url])
}

#[test]
fn two_servers_on_one_etcd_are_one_cluster() {
    let Some(kubectl) = kubectl("two_servers") else { return };
    if Command::new("etcd").arg("--version").output().is_err() {
        return skip("two_servers", "etcd is not installed");
    }
    let etcd = Etcd::start().expect("an etcd");
    let first = Server::start_in(Server::directory(), &["--etcd", &etcd.url]);
    let leader = eventually("a leader", PATIENCE, || {
        let lease = run(&first, &kubectl, LEASE);
        Some(lease.out.clone()).filter(|name| !name.is_empty()).ok_or_else(|| format!("{lease:?}"))
    });
    let second = beside(&first, &etcd);
    run(&first, &kubectl, "create deployment web --image=example.com/i:1 --replicas=3").ok();
    let pods = |server: &Server, wanted: usize| {
        eventually("the pods", PATIENCE, || {
            let listed = run(server, &kubectl, "get pods -l app=web -o name").ok();
            if listed.lines().count() == wanted { Ok(()) } else { Err(listed) }
        });
    };
    pods(&second, 3);
    for (server, value) in [(&first, "1"), (&second, "2"), (&first, "3")] {
        run(server, &kubectl, &format!("annotate deployment web --overwrite turn={value}")).ok();
    }
    // A server learns from etcd what the other one has written, a moment later.
    eventually("the last turn", PATIENCE, || {
        let turn = run(&second, &kubectl, "get deployment web -o jsonpath={.metadata.annotations.turn}").ok();
        if turn == "3" { Ok(()) } else { Err(turn) }
    });
    // What is decided by counting what is there is decided by one of them at a time.
    let same = &|index: usize| {
        let server = [&first, &second][index % 2];
        run(server, &kubectl, &format!("create service clusterip same{index} --tcp=80 --clusterip=10.96.7.7"))
            .code
    };
    let codes = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6).map(|index| scope.spawn(move || same(index))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<i32>>()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    // The leader goes without a word: the other one takes over when its lease has run out.
    let mut servers = [first, second];
    servers[0].kill();
    run(&servers[1], &kubectl, "scale deployment web --replicas=5").ok();
    pods(&servers[1], 5);
    eventually("another leader", PATIENCE, || {
        let now = run(&servers[1], &kubectl, LEASE).ok();
        if now == leader { Err(now) } else { Ok(()) }
    });
}
