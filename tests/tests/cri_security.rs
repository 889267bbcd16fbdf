//! What a container must not reach, tried from inside one that is root: the processes, sockets and files that keep its
//! pod and the others.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::census;
use knarr_tests::engine::{Engine, container, file_holds, pod};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

/// Root of a container that shares namespaces with the host: as near as a pod gets without being privileged.
async fn neighbour(engine: &mut Engine, options: NamespaceOption) -> String {
    let mut config = pod(engine, "near");
    config.hostname = String::new();
    let security =
        LinuxSandboxSecurityContext { namespace_options: Some(options.clone()), ..Default::default() };
    config.linux = Some(LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() });
    let id = engine.run_pod(&config).await.unwrap();
    let mut main = container("main", &["sleep", "1000"]);
    let security = LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
    main.linux = Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() });
    engine.run(&id, &config, main).await.unwrap()
}

#[tokio::test]
async fn a_container_that_sees_all_processes_reaches_none_of_the_monitors_files() {
    let mut engine = Engine::start().await;
    let options = NamespaceOption { pid: NamespaceMode::Node as i32, ..Default::default() };
    let main = neighbour(&mut engine, options).await;
    let monitors = census::processes(&engine, "knarr-monitor");
    assert!(!monitors.is_empty());
    for (pid, line) in monitors {
        assert!(
            engine.output(&main, &format!("cat /proc/{pid}/comm")).await.starts_with("knarr-m"),
            "{line}"
        );
        for path in ["cwd/monitor.sock", "cwd/", "root/", "fd/", "mem", "environ"] {
            let said =
                engine.exec(&main, &format!("ls -l /proc/{pid}/{path} && cat /proc/{pid}/{path}")).await;
            let said = said.unwrap();
            assert_ne!(said.exit_code, 0, "{path}: {said:?}");
        }
    }
    let socket = engine.path("state/cri.sock");
    assert_ne!(engine.exec(&main, &format!("ls {}", socket.display())).await.unwrap().exit_code, 0);
}

#[tokio::test]
async fn a_container_sees_nothing_of_other_pods_and_their_logs() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "other");
    let other = engine.run_pod(&config).await.unwrap();
    let talks = container("talks", &["sh", "-c", "echo secret; sleep 1000"]);
    let talks = engine.run(&other, &config, talks).await.unwrap();
    let log = engine.path("logs/other/talks.log");
    file_holds(&log, "secret");
    let main = neighbour(&mut engine, NamespaceOption::default()).await;
    let mounts = engine.output(&main, "cat /proc/self/mountinfo").await;
    for foreign in [other.as_str(), &talks, &engine.path("logs").display().to_string()] {
        assert!(!mounts.contains(foreign), "{foreign} in {mounts}");
    }
    assert_ne!(engine.exec(&main, &format!("cat {}", log.display())).await.unwrap().exit_code, 0);
    let found = engine.exec(&main, "grep -rl secret /var /run /etc /dev/termination-log 2>/dev/null").await;
    assert_eq!(String::from_utf8_lossy(&found.unwrap().stdout), "");
}

/// What a container on the host's network could ask: its loopback is ours.
#[tokio::test]
async fn streaming_answers_a_neighbour_nothing_without_a_token() {
    let mut engine = Engine::start().await;
    let main = neighbour(&mut engine, NamespaceOption::default()).await;
    let cmd = vec!["id".into()];
    let request = ExecRequest { container_id: main, cmd, stdout: true, ..Default::default() };
    let url = engine.runtime.exec(request).await.unwrap().into_inner().url;
    let address = url.trim_start_matches("http://").split('/').next().unwrap();
    assert!(address.starts_with("127.0.0.1:"), "{url}");
    for path in ["", "exec/", "exec/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "attach/x", "portforward/x"] {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET /{path} HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 404"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_the_engine_keeps_is_roots_alone() {
    let mut engine = Engine::start().await;
    let main = neighbour(&mut engine, NamespaceOption::default()).await;
    for path in ["state/cri.sock", "data/engine/sandboxes", "data/engine/containers"] {
        let file = std::fs::metadata(engine.path(path)).unwrap();
        assert_eq!((file.uid(), file.permissions().mode() & 0o077), (0, 0), "{path}");
    }
    for pod in std::fs::read_dir(engine.path("state/pods")).unwrap() {
        let socket = std::fs::metadata(pod.unwrap().path().join("monitor.sock")).unwrap();
        assert_eq!((socket.uid(), socket.permissions().mode() & 0o077), (0, 0));
    }
    assert_eq!(engine.exec(&main, "true").await.unwrap().exit_code, 0);
}
