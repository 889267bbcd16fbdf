//! Pods whose parent is a slice of systemd's, as kubelets with the cgroup driver `systemd` ask for: containers are scopes in
//! there, made, changed and taken away by systemd. It has to be the first process: the virtual machine has it.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::bins;
use knarr_tests::engine::{Engine, PATIENCE, container, pod};
use knarr_tests::eventually::eventually;
use knarr_tests::skip::skip;
use std::path::{Path, PathBuf};
use std::process::Command;

const SLICE: &str = "/knarrlab.slice/knarrlab-pod1.slice";

fn property(unit: &str, name: &str) -> String {
    let mut show = Command::new("systemctl");
    bins::run(show.args(["show", "--value", "-p", name, unit])).ok().trim().to_owned()
}

fn limited(bytes: i64) -> LinuxContainerResources {
    LinuxContainerResources { memory_limit_in_bytes: bytes, ..Default::default() }
}

#[tokio::test]
async fn containers_of_a_pod_in_a_slice_are_scopes() {
    let booted = std::env::var_os("KNARR_VM").is_some() && Path::new("/run/systemd/system").exists();
    if !booted {
        return skip(
            "containers_of_a_pod_in_a_slice_are_scopes",
            "systemd is not the first process here (it is in the virtual machine)",
        );
    }
    let mut engine = Engine::start_with("systemd_cgroup = true", &[]).await;
    let told = engine.runtime.runtime_config(RuntimeConfigRequest {}).await.unwrap().into_inner();
    assert_eq!(told.linux.unwrap().cgroup_driver(), CgroupDriver::Systemd);
    let mut config = pod(&engine, "sliced");
    // The end of the path is its name.
    config.linux.get_or_insert_default().cgroup_parent = "knarrlab-pod1.slice".into();
    let sandbox = engine.run_pod(&config).await.unwrap();
    let mut wanted = container("main", &["sleep", "1000"]);
    wanted.linux.get_or_insert_default().resources = Some(limited(64 << 20));
    let id = engine.run(&sandbox, &config, wanted).await.unwrap();

    let unit = format!("knarr-{id}.scope");
    assert_eq!(property(&unit, "ControlGroup"), format!("{SLICE}/{unit}"));
    assert_eq!(property(&unit, "MemoryMax"), (64 << 20).to_string());
    let group = PathBuf::from(format!("/sys/fs/cgroup{SLICE}/{unit}"));
    assert!(!std::fs::read_to_string(group.join("cgroup.procs")).unwrap().is_empty());
    let request = ContainerStatsRequest { container_id: id.clone() };
    let stats = engine.runtime.container_stats(request).await.unwrap().into_inner().stats.unwrap();
    assert!(stats.memory.unwrap().usage_bytes.unwrap().value > 0);

    let request = UpdateContainerResourcesRequest {
        container_id: id.clone(),
        linux: Some(limited(96 << 20)),
        ..Default::default()
    };
    engine.runtime.update_container_resources(request).await.unwrap();
    assert_eq!(property(&unit, "MemoryMax"), (96 << 20).to_string());
    engine.remove_pod(&sandbox).await.unwrap();
    eventually("the scope is gone", PATIENCE, || match property(&unit, "LoadState") {
        state if state == "not-found" && !group.exists() => Ok(()),
        state => Err(state),
    });

    config.metadata.get_or_insert_default().name = "nowhere".into();
    config.linux.get_or_insert_default().cgroup_parent = "a--b.slice".into();
    let refused = engine.run_pod(&config).await.unwrap_err();
    assert!(refused.message().contains("invalid slice name"), "{refused}");
}
