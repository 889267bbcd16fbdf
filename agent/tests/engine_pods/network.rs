//! Pods with a network of their own.

use super::lab::{self, Lab};
use knarr_cri::RuntimeService;
use knarr_cri::v1::*;
use std::io::{Read, Write};
use std::net::TcpStream;

/// A pod with all namespaces of its own.
fn own_network(lab: &Lab, name: &str) -> PodSandboxConfig {
    let mut config = lab.pod(name);
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options.as_mut().unwrap().network = NamespaceMode::Pod as i32;
    config.hostname = format!("{name}-host");
    config
}

async fn address(lab: &Lab, pod: &str) -> String {
    let request = PodSandboxStatusRequest { pod_sandbox_id: pod.into(), verbose: false };
    lab.engine.pod_sandbox_status(request).await.unwrap().status.unwrap().network.unwrap().ip
}

/// What a web server answers, once it answers.
async fn fetch(lab: &Lab, address: &str) -> String {
    lab.eventually(async || {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok().map(|_| text)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_has_an_address_a_name_and_name_servers() {
    lab::with(async |lab| {
        let mut config = own_network(&lab, "net");
        config.dns_config = Some(DnsConfig {
            servers: vec!["10.10.10.10".into()],
            searches: vec!["example.org".into()],
            options: vec!["ndots:8".into()],
        });
        let host_port = lab.host_port();
        config.port_mappings = vec![PortMapping { container_port: 80, host_port, ..Default::default() }];
        let pod = lab.run_pod(config).await.unwrap();
        let facts = ["sh", "-c", "hostname; cat /etc/hostname /etc/resolv.conf"];
        let output = lab.output(&pod, lab.container("facts", &facts)).await;
        assert_eq!(
            output,
            "net-host\nnet-host\nsearch example.org\nnameserver 10.10.10.10\noptions ndots:8\n"
        );
        let serve = "mkdir /www; echo served > /www/index.html; exec httpd -f -p 80 -h /www";
        lab.run(&pod, lab.container("web", &["sh", "-c", serve])).await;
        let ip = address(&lab, &pod).await;
        assert!(fetch(&lab, &format!("{ip}:80")).await.ends_with("served\n"));
        assert!(fetch(&lab, &format!("127.0.0.1:{host_port}")).await.ends_with("served\n"));
        let neighbour = lab.container("neighbour", &["wget", "-q", "-O", "-", "http://127.0.0.1/index.html"]);
        assert_eq!(lab.output(&pod, neighbour).await, "served\n");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pod_gives_its_address_back() {
    lab::with(async |lab| {
        let pod = lab.run_pod(own_network(&lab, "first")).await.unwrap();
        let ip = address(&lab, &pod).await;
        for _ in 0..2 {
            let stop = StopPodSandboxRequest { pod_sandbox_id: pod.clone() };
            lab.engine.stop_pod_sandbox(stop).await.unwrap();
        }
        let request = PodSandboxStatusRequest { pod_sandbox_id: pod.clone(), verbose: false };
        let status = lab.engine.pod_sandbox_status(request).await.unwrap().status.unwrap();
        assert_eq!(status.state(), PodSandboxState::SandboxNotready);
        assert!(!lab.path("state/pods").join(&pod).join("ns/net").exists());
        assert!(!ip.is_empty());
    })
    .await;
}

/// A client that lost patience asks again. The first request is still under way then; if it fails, the second answers
/// for itself, and not that the name is taken by what is not there any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_does_not_inherit_the_failure_of_the_first() {
    lab::with(async |lab| {
        let with_port = |name: &str| {
            let mut config = own_network(&lab, name);
            let host_port = lab.host_port();
            config.port_mappings = vec![PortMapping { container_port: 80, host_port, ..Default::default() }];
            config
        };
        let holder = lab.run_pod(with_port("holder")).await.unwrap();
        let (first, second) = tokio::join!(lab.run_pod(with_port("late")), lab.run_pod(with_port("late")));
        for answer in [first, second] {
            let error = answer.unwrap_err();
            assert!(error.message().contains("failed to setup network for sandbox"), "{error}");
        }
        lab.engine.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: holder }).await.unwrap();
        let (first, second) = tokio::join!(lab.run_pod(with_port("late")), lab.run_pod(with_port("late")));
        assert_eq!(first.unwrap(), second.unwrap(), "while the first succeeds, the second has its answer");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_sets_its_own_sysctls_and_no_others() {
    lab::with(async |lab| {
        let mut config = own_network(&lab, "sysctls");
        let sysctls = [("kernel.shm_rmid_forced", "1"), ("net.ipv4.ip_unprivileged_port_start", "0"), ("fs.mqueue.msg_max", "100")];
        config.linux.as_mut().unwrap().sysctls =
            sysctls.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let pod = lab.run_pod(config.clone()).await.unwrap();
        let script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/fs/mqueue/msg_max";
        assert_eq!(lab.output(&pod, lab.container("c", &["sh", "-c", script])).await, "1\n0\n100\n");
        config.metadata.as_mut().unwrap().attempt = 1;
        config.linux.as_mut().unwrap().sysctls = [("kernel.core_pattern".to_owned(), "x".to_owned())].into();
        let error = lab.run_pod(config).await.unwrap_err();
        assert!(error.message().contains("not in a separate kernel namespace"), "{error}");
    })
    .await;
}
