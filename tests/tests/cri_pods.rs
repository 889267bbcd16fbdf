//! Pods through CRI: attributes, namespaces, name service, host ports, user namespaces, handlers, repeats and errors.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::engine::{Engine, container, pod};
use std::collections::{BTreeSet, HashMap};
use tonic::Code;

/// A pod's configuration with these namespaces.
fn with_namespaces(mut config: PodSandboxConfig, options: NamespaceOption) -> PodSandboxConfig {
    let security = LinuxSandboxSecurityContext { namespace_options: Some(options), ..Default::default() };
    config.linux = Some(LinuxPodSandboxConfig { security_context: Some(security), ..Default::default() });
    config
}

#[tokio::test]
async fn the_runtime_is_ready_and_says_what_it_can() {
    let mut engine = Engine::start().await;
    let version =
        engine.runtime.version(VersionRequest { version: "0.1.0".into() }).await.unwrap().into_inner();
    assert_eq!((version.version.as_str(), version.runtime_api_version.as_str()), ("0.1.0", "v1"));
    let status = engine.runtime.status(StatusRequest { verbose: true }).await.unwrap().into_inner();
    let conditions = status.status.unwrap().conditions;
    let ready = |name: &str| conditions.iter().any(|one| one.r#type == name && one.status);
    assert!(ready("RuntimeReady") && ready("NetworkReady"), "{conditions:?}");
    let default = status.runtime_handlers.iter().find(|handler| handler.name.is_empty()).unwrap();
    let features = default.features.unwrap();
    assert!(features.recursive_read_only_mounts && features.user_namespaces);
    assert!(status.features.unwrap().supplemental_groups_policy);
    let config = engine.runtime.runtime_config(RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(config.linux.unwrap().cgroup_driver(), CgroupDriver::Cgroupfs);
}

#[tokio::test]
async fn a_pod_keeps_its_attributes_and_leaves_nothing() {
    let mut engine = Engine::start().await;
    let mut config = pod(&engine, "web");
    config.labels = HashMap::from([("foo".into(), "bar".into())]);
    config.annotations = HashMap::from([("abc".into(), "d\u{e9}f\n".into())]);
    config.dns_config = Some(DnsConfig {
        servers: vec!["10.10.10.10".into()],
        searches: vec!["example.com".into()],
        options: vec!["ndots:8".into()],
    });
    let id = engine.run_pod(&config).await.unwrap();
    assert_eq!(engine.run_pod(&config).await.unwrap(), id, "asking again finds the same pod");
    let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: false };
    let status =
        engine.runtime.pod_sandbox_status(request.clone()).await.unwrap().into_inner().status.unwrap();
    assert_eq!((&status.labels, &status.annotations), (&config.labels, &config.annotations));
    assert!(status.network.unwrap().ip.starts_with("10."));
    let main = engine.run(&id, &config, container("main", &["sleep", "1000"])).await.unwrap();
    assert_eq!(engine.output(&main, "hostname").await, "web");
    let resolv = engine.output(&main, "cat /etc/resolv.conf").await;
    assert_eq!(resolv, "search example.com\nnameserver 10.10.10.10\noptions ndots:8");
    let stop = StopPodSandboxRequest { pod_sandbox_id: id.clone() };
    engine.runtime.stop_pod_sandbox(stop).await.unwrap();
    let status =
        engine.runtime.pod_sandbox_status(request.clone()).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.state(), PodSandboxState::SandboxNotready);
    engine.remove_pod(&id).await.unwrap();
    assert_eq!(engine.runtime.pod_sandbox_status(request).await.unwrap_err().code(), Code::NotFound);
    engine.leaves_nothing();
}

#[tokio::test]
async fn twenty_pods_at_once_have_their_own_addresses_and_leave_nothing() {
    let mut engine = Engine::start().await;
    let configs: Vec<_> = (0..20).map(|number| pod(&engine, &format!("pod{number}"))).collect();
    let runs = configs.iter().map(|config| {
        let (mut runtime, config) = (engine.runtime.clone(), config.clone());
        tokio::spawn(async move {
            let request = RunPodSandboxRequest { config: Some(config), ..Default::default() };
            runtime.run_pod_sandbox(request).await.unwrap().into_inner().pod_sandbox_id
        })
    });
    let runs: Vec<_> = runs.collect();
    let mut addresses = std::collections::BTreeSet::new();
    let mut ids = Vec::new();
    for run in runs {
        let pod_sandbox_id = run.await.unwrap();
        ids.push(pod_sandbox_id.clone());
        let request = PodSandboxStatusRequest { pod_sandbox_id, verbose: false };
        let status = engine.runtime.pod_sandbox_status(request).await.unwrap().into_inner().status.unwrap();
        addresses.insert(status.network.unwrap().ip);
    }
    assert_eq!(addresses.len(), 20);
    assert_eq!(engine.traces().links, 20);
    engine.kill();
    engine.serve().await;
    for id in ids {
        engine.remove_pod(&id).await.unwrap();
    }
    engine.leaves_nothing();
}

#[tokio::test]
async fn root_in_a_user_namespace_is_somebody_else_outside() {
    let mut engine = Engine::start().await;
    let map = IdMapping { host_id: 100_000, container_id: 0, length: 65536 };
    let user = |mode: NamespaceMode, maps: Vec<IdMapping>| NamespaceOption {
        userns_options: Some(UserNamespace { mode: mode as i32, uids: maps.clone(), gids: maps }),
        ..Default::default()
    };
    let options = user(NamespaceMode::Pod, vec![map]);
    let config = with_namespaces(pod(&engine, "user"), options.clone());
    let id = engine.run_pod(&config).await.unwrap();
    let mut main = container("main", &["sleep", "1000"]);
    let security = LinuxContainerSecurityContext {
        namespace_options: Some(NamespaceOption { pid: NamespaceMode::Container as i32, ..options }),
        capabilities: Some(Capability { add_capabilities: vec!["NET_ADMIN".into()], ..Default::default() }),
        ..Default::default()
    };
    main.linux = Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() });
    let main = engine.run(&id, &config, main).await.unwrap();
    let fields = engine.output(&main, "cat /proc/self/uid_map").await;
    assert_eq!(fields.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    assert_eq!(
        engine.output(&main, "id -u; stat -c %u /bin/sh; touch /new; stat -c %u /new").await,
        "0\n0\n0"
    );
    // Its own network is its own to change.
    assert_eq!(engine.exec(&main, "ip link set lo down && ip link set lo up").await.unwrap().exit_code, 0);
    for (mode, maps) in [
        (NamespaceMode::Pod, vec![map, map]),
        (NamespaceMode::Pod, vec![IdMapping { container_id: 1, ..map }]),
        (NamespaceMode::Container, vec![]),
        (NamespaceMode::Target, vec![]),
    ] {
        let config = with_namespaces(pod(&engine, "wrong"), user(mode, maps));
        assert_eq!(engine.run_pod(&config).await.unwrap_err().code(), Code::InvalidArgument);
    }
    engine.remove_pod(&id).await.unwrap();
    assert_eq!(engine.traces().pods, 0);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_by_name() {
    let mut engine = Engine::start().await;
    let config = pod(&engine, "pod");
    let request = RunPodSandboxRequest { config: Some(config.clone()), runtime_handler: "nothing".into() };
    let error = engine.runtime.run_pod_sandbox(request).await.unwrap_err();
    assert!(error.message().contains("no runtime for \"nothing\" is configured"), "{error}");
    let mut sysctl = config.clone();
    sysctl.linux.as_mut().unwrap().sysctls = HashMap::from([("vm.swappiness".into(), "1".into())]);
    assert!(engine.run_pod(&sysctl).await.unwrap_err().message().contains("vm.swappiness"));
    let mut slice = config.clone();
    slice.linux.as_mut().unwrap().cgroup_parent = "kubepods.slice".into();
    assert!(engine.run_pod(&slice).await.unwrap_err().message().contains("systemd"));
    assert!(
        !std::path::Path::new("/sys/fs/cgroup/memory/kubepods.slice").exists(),
        "a slice that nobody owns"
    );
    let none = RunPodSandboxRequest::default();
    assert_eq!(engine.runtime.run_pod_sandbox(none).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(engine.traces().pods, 0);
}

#[tokio::test]
async fn the_ipc_of_the_host_is_shared_only_when_asked_for() {
    let mut engine = Engine::start().await;
    let host = std::fs::read_link("/proc/self/ns/ipc").unwrap().display().to_string();
    for (name, ipc, same) in [("host", NamespaceMode::Node, true), ("own", NamespaceMode::Pod, false)] {
        let options =
            NamespaceOption { ipc: ipc as i32, pid: NamespaceMode::Container as i32, ..Default::default() };
        let config = with_namespaces(pod(&engine, name), options.clone());
        let id = engine.run_pod(&config).await.unwrap();
        let mut main = container("main", &["sleep", "1000"]);
        let security =
            LinuxContainerSecurityContext { namespace_options: Some(options), ..Default::default() };
        main.linux = Some(LinuxContainerConfig { security_context: Some(security), ..Default::default() });
        let main = engine.run(&id, &config, main).await.unwrap();
        let seen = engine.output(&main, "readlink /proc/self/ns/ipc; grep -c mqueue /proc/mounts").await;
        assert_eq!(seen.starts_with(&host), same, "{name}: {seen}");
        assert!(seen.ends_with("\n1"), "{seen}");
    }
}

/// Pods of the next test, so many of them at a time.
const MANY: [std::ops::Range<usize>; 2] = [0..15, 15..30];

#[tokio::test]
async fn many_pods_come_and_go_at_once_and_the_next_engine_has_them_all() {
    let mut engine = Engine::start().await;
    let mut made = Vec::new();
    for numbers in MANY {
        let begun = numbers.map(|number| {
            let (mut client, config) = (engine.client.clone(), pod(&engine, &format!("many-{number}")));
            async move {
                let id = client.run_pod(&config).await?;
                let sleeper = container("main", &["sleep", "1000"]);
                let main = client.create(&id, &config, sleeper).await?;
                client.start(&main).await?;
                Ok::<_, tonic::Status>((id, main))
            }
        });
        made.extend(futures_util::future::try_join_all(begun).await.unwrap());
    }
    let seen = seen(&mut engine).await;
    assert_eq!((seen.0.len(), seen.1.len(), seen.2.len()), (30, 30, 30), "pods, addresses, containers");
    engine.kill();
    engine.serve().await;
    assert_eq!(self::seen(&mut engine).await, seen, "nothing of them has changed");
    let gone = made.iter().map(|(id, main)| {
        let (mut client, id, main) = (engine.client.clone(), id.clone(), main.clone());
        async move {
            client.stop_container(&main, 0).await?;
            client.remove_container(&main).await?;
            client.remove_pod(&id).await
        }
    });
    futures_util::future::try_join_all(gone).await.unwrap();
    engine.leaves_nothing();
}

/// Pods that are ready, their addresses, and since when each container runs.
async fn seen(engine: &mut Engine) -> (BTreeSet<String>, BTreeSet<String>, BTreeSet<(String, i64)>) {
    let (mut pods, mut addresses, mut containers) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for pod in engine.pods(&[]).await.unwrap() {
        assert_eq!(pod.state(), PodSandboxState::SandboxReady);
        addresses.insert(engine.pod_status(&pod.id).await.unwrap().network.unwrap_or_default().ip);
        pods.insert(pod.id);
    }
    for one in engine.containers(&[]).await.unwrap() {
        let status = engine.status(&one.id).await.unwrap();
        assert_eq!(status.state(), ContainerState::ContainerRunning);
        containers.insert((one.id, status.started_at));
    }
    (pods, addresses, containers)
}
