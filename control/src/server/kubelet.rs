//! The connection to the agent of a node: HTTPS to the kubelet API that the node announces in its status, with the
//! server's client certificate. Pods and services are reached from here too, but are shown no certificate.
//!
//! The agent's serving certificate is not verified, as in Kubernetes without `--kubelet-certificate-authority`: the
//! agent proves nothing by it that the network does not. The agent, in turn, verifies ours.

use super::{Server, tls};
use crate::pki::Identity;
use knarr_api::Status;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where a kubelet listens that does not say so.
const DEFAULT_PORT: u16 = 10_250;

/// How the server introduces itself to agents.
pub(crate) struct Kubelets {
    connector: TlsConnector,
    /// For those who are no agents: shows no certificate, and verifies none.
    anonymous: TlsConnector,
}

impl Kubelets {
    pub(crate) fn new(identity: &Identity) -> anyhow::Result<Self> {
        Ok(Self {
            connector: TlsConnector::from(Arc::new(tls::kubelet_client(identity)?)),
            anonymous: TlsConnector::from(Arc::new(tls::anonymous_client()?)),
        })
    }

    /// Connects to the agent at `address`, or says why that cannot be done.
    pub(crate) async fn connect(&self, address: IpAddr, port: u16) -> Result<TlsStream<TcpStream>, String> {
        within(async { handshake(&self.connector, address, dial(address, port).await?).await })
            .await
            .map_err(|why| undialed(address, port, &why))
    }

    /// Connects to a pod or a service over TLS.
    pub(crate) async fn connect_service(
        &self,
        address: IpAddr,
        port: u16,
    ) -> Result<TlsStream<TcpStream>, Status> {
        within(async { handshake(&self.anonymous, address, dial(address, port).await?).await })
            .await
            .map_err(|why| unreachable_service(address, port, &why))
    }
}

/// Connects to a pod or a service.
pub(crate) async fn connect_plainly(address: IpAddr, port: u16) -> Result<TcpStream, Status> {
    within(dial(address, port)).await.map_err(|why| unreachable_service(address, port, &why))
}

fn unreachable_service(address: IpAddr, port: u16, why: &std::io::Error) -> Status {
    Status::unavailable(format!("error trying to reach service: {}", undialed(address, port, why)))
}

/// What people know from Kubernetes, which says it in Go's words.
fn undialed(address: IpAddr, port: u16, why: &std::io::Error) -> String {
    let known = match why.kind() {
        ErrorKind::ConnectionRefused => "connect: connection refused",
        ErrorKind::ConnectionReset => "connect: connection reset by peer",
        ErrorKind::HostUnreachable => "connect: no route to host",
        ErrorKind::NetworkUnreachable => "connect: network is unreachable",
        ErrorKind::TimedOut if why.raw_os_error().is_some() => "connect: connection timed out",
        _ => "",
    };
    let why = if known.is_empty() { why.to_string() } else { known.to_owned() };
    format!("dial tcp {}: {why}", SocketAddr::new(address, port))
}

async fn dial(address: IpAddr, port: u16) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect((address, port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn handshake(
    connector: &TlsConnector,
    address: IpAddr,
    stream: TcpStream,
) -> std::io::Result<TlsStream<TcpStream>> {
    connector.connect(ServerName::IpAddress(address.into()), stream).await
}

async fn within<T>(connect: impl Future<Output = std::io::Result<T>>) -> std::io::Result<T> {
    let late = || std::io::Error::new(ErrorKind::TimedOut, "i/o timeout");
    tokio::time::timeout(CONNECT_TIMEOUT, connect).await.unwrap_or_else(|_| Err(late()))
}

impl Server {
    /// Address and port of the agent that runs on a node.
    pub(crate) async fn kubelet_address(&self, node: &str) -> Result<(IpAddr, u16), Status> {
        let found = self.store.get(&format!("core/nodes/{node}")).await.map_err(Status::internal)?;
        let node_object = found.ok_or_else(|| Status::not_found("", "nodes", node))?.object();
        let port =
            node_object.pointer("/status/daemonEndpoints/kubeletEndpoint/Port").and_then(Value::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok()).unwrap_or(DEFAULT_PORT);
        let address = internal_address(&node_object).ok_or_else(|| {
            let known = node_object.pointer("/status/addresses").filter(|known| known.is_array());
            let known = known.map_or_else(|| "[]".to_owned(), Value::to_string);
            Status::unexplained(format!("no preferred addresses found; known addresses: {known}"))
        })?;
        Ok((address, port))
    }
}

fn internal_address(node: &Value) -> Option<IpAddr> {
    let addresses = node.pointer("/status/addresses")?.as_array()?;
    let of = |kind: &str| addresses.iter().find(|address| address["type"] == kind);
    let address = of("InternalIP").or_else(|| of("ExternalIP"))?;
    address["address"].as_str()?.parse().ok()
}
