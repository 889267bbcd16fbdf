//! The name server on the real kernel: BusyBox's resolver in a pod, an upstream in the "world".

use super::*;
use crate::dns::zone::Range;
use crate::engine::network::cidr::Cidr;
use crate::network_lab::{Lab, Pod};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record};
use serde_json::json;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket as StdUdpSocket};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// An upstream that answers 203.0.113.9 to everything, until the namespace ends.
fn upstream_in(world: &Pod) {
    let socket = world.inside(|| StdUdpSocket::bind("0.0.0.0:53").unwrap());
    std::thread::spawn(move || {
        let mut buffer = [0; 1500];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            let query = Message::from_vec(&buffer[..length]).unwrap();
            let mut answer = reply::status(&query, ResponseCode::NoError);
            let name = query.queries[0].name().clone();
            answer.add_answer(Record::from_rdata(name, 60, RData::A(A(Ipv4Addr::new(203, 0, 113, 9)))));
            socket.send_to(&answer.to_vec().unwrap(), client).unwrap();
        }
    });
}

fn zone() -> Arc<Zone> {
    let service = json!({
        "metadata": {"namespace": "default", "name": "web"}, "spec": {"clusterIPs": ["10.96.0.10"]},
    });
    let range = Cidr::parse("10.96.0.0/16").unwrap();
    Arc::new(Zone::new(
        "cluster.local",
        &[Range::Four(range)],
        &[Arc::new(serde_json::from_value(service).unwrap())],
        &[],
    ))
}

/// A lab whose name server runs at the bridge's address, bound before that address exists; and one pod.
async fn start(lab: &Lab, servers: &str) -> (Pod, watch::Sender<Option<Arc<Zone>>>) {
    use crate::engine::network::{PodAttachment, PodNetwork};
    let resolv_conf = lab.config().data_dir.with_extension("resolv.conf");
    fs::write(&resolv_conf, servers).unwrap();
    let address: SocketAddr = "10.42.0.1:53".parse().unwrap();
    let (publish, zone) = watch::channel(Some(zone()));
    let upstream = Upstream::new(&resolv_conf, vec![address.ip()]);
    let server = Server::bind(&[address], zone, upstream, "cluster.local").unwrap();
    tokio::spawn(server.run());
    let network = crate::engine::network::bridge::BridgeNetwork::new(lab.config()).unwrap();
    let pod = Pod::new();
    let attachment = PodAttachment {
        sandbox_id: "pod".into(),
        namespace: "default".into(),
        name: "pod".into(),
        uid: "pod".into(),
        netns: pod.netns(),
        host_ports: vec![],
        annotations: Default::default(),
    };
    network.setup(&attachment).await.unwrap();
    (pod, publish)
}

/// What BusyBox's nslookup prints in the pod; it asks for A and AAAA.
async fn lookup(pod: &Arc<Pod>, name: &'static str) -> String {
    let pod = pod.clone();
    let script = move || pod.shell(&format!("busybox nslookup {name} 10.42.0.1 2>&1 || true"));
    tokio::task::spawn_blocking(script).await.unwrap()
}

#[test]
fn a_resolver_in_a_pod_finds_services_and_the_world() {
    Lab::run(|lab| async move {
        upstream_in(&lab.world());
        let (pod, publish) = start(&lab, &format!("nameserver {}\n", lab.world_address())).await;
        let pod = Arc::new(pod);
        assert!(lookup(&pod, "web.default.svc.cluster.local").await.contains("10.96.0.10"));
        assert!(lookup(&pod, "10.96.0.10").await.contains("web.default.svc.cluster.local"));
        assert!(lookup(&pod, "example.com").await.contains("203.0.113.9"));
        assert!(lookup(&pod, "nobody.default.svc.cluster.local").await.contains("NXDOMAIN"));
        publish.send_replace(None);
        assert!(lookup(&pod, "web.default.svc.cluster.local").await.contains("SERVFAIL"));
    });
}

/// When the only name server listed is ourselves, or none answers, the client hears so; we do not ask ourselves.
#[test]
fn nobody_to_ask_is_servfail() {
    Lab::run(|lab| async move {
        let (pod, _publish) = start(&lab, "nameserver 10.42.0.1\n").await;
        assert!(lookup(&Arc::new(pod), "example.com").await.contains("SERVFAIL"));
    });
}

/// What this process has open, as `socket:[NUMBER]`.
fn open_sockets() -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc/self/fd").unwrap();
    entries.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).collect()
}

fn socket_of(descriptor: &impl AsRawFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).unwrap()
}

/// A server that ends closes its sockets at once, also while it waits for an upstream that never answers. (Binding the
/// address again would not show it: a child of another test has them all until it executes its program.)
#[test]
fn sockets_are_closed_at_once() {
    Lab::run(|lab| async move {
        let address: SocketAddr = "127.0.0.1:5300".parse().unwrap();
        let resolv_conf = lab.config().data_dir.with_extension("resolv.conf");
        fs::write(&resolv_conf, format!("nameserver {}\n", lab.world_address())).unwrap();
        let _silent = lab.world().inside(|| StdUdpSocket::bind("0.0.0.0:53").unwrap());
        let (_publish, zone) = watch::channel(Some(zone()));
        let upstream = Upstream::new(&resolv_conf, vec![]);
        let server = Server::bind(&[address], zone, upstream, "cluster.local").unwrap();
        let sockets = [socket_of(&server.udp[0]), socket_of(&server.tcp[0])];
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut query = Message::query();
        let name = hickory_proto::rr::Name::from_ascii("example.com.").unwrap();
        query.add_query(hickory_proto::op::Query::query(name, hickory_proto::rr::RecordType::A));
        client.send_to(&query.to_vec().unwrap(), address).await.unwrap();
        assert!(sockets.iter().all(|socket| open_sockets().contains(socket)));
        let _ = timeout(Duration::from_millis(50), server.run()).await;
        assert!(!sockets.iter().any(|socket| open_sockets().contains(socket)));
    });
}

/// Two questions on one TCP stream.
#[test]
fn tcp_streams_carry_many_questions() {
    Lab::run(|lab| async move {
        let (_pod, _publish) = start(&lab, "").await;
        let mut stream = TcpStream::connect("10.42.0.1:53").await.unwrap();
        for _ in 0..2 {
            let mut query = Message::query();
            let name = hickory_proto::rr::Name::from_ascii("web.default.svc.cluster.local.").unwrap();
            query.add_query(hickory_proto::op::Query::query(name, hickory_proto::rr::RecordType::A));
            let bytes = query.to_vec().unwrap();
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
            let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut answer).await.unwrap();
            let answer = Message::from_vec(&answer).unwrap();
            assert_eq!(answer.metadata.id, query.metadata.id);
            assert_eq!(answer.answers[0].data, RData::A(A(Ipv4Addr::new(10, 96, 0, 10))));
        }
    });
}

/// The whole way: a service at the API server becomes a name, and none when it is deleted.
#[test]
fn names_follow_the_cluster() {
    Lab::run(|lab| async move {
        let api = crate::scripted_api::ScriptedApi::default();
        let address: SocketAddr = "127.0.0.1:5300".parse().unwrap();
        let shutdown = tokio_util::sync::CancellationToken::new();
        let task =
            tokio::spawn(crate::dns::run(Some(api.client()), vec![address], lab.config(), shutdown.clone()));
        let code = || async {
            let mut query = Message::query();
            let name = hickory_proto::rr::Name::from_ascii("new.default.svc.cluster.local.").unwrap();
            query.add_query(hickory_proto::op::Query::query(name, hickory_proto::rr::RecordType::A));
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let mut buffer = [0; 512];
            socket.send_to(&query.to_vec().unwrap(), address).await.unwrap();
            // Asked again, as resolvers do: the server may not have begun, and datagrams may be lost.
            let heard = timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await.ok()?;
            Some(Message::from_vec(&buffer[..heard.ok()?]).unwrap().metadata.response_code)
        };
        let until = |wanted| async move {
            while code().await != Some(wanted) {
                tokio::task::yield_now().await;
            }
        };
        until(ResponseCode::NXDomain).await;
        let service = json!({"metadata": {"name": "new"}, "spec": {"clusterIP": "10.96.0.20"}});
        api.put("/api/v1/services", service);
        until(ResponseCode::NoError).await;
        api.delete("/api/v1/services", "new");
        until(ResponseCode::NXDomain).await;
        shutdown.cancel();
        task.await.unwrap().unwrap();
    });
}
