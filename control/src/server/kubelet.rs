//! The connection to the agent of a node: HTTPS to the kubelet API that the node announces in its status, with the
//! server's client certificate.
//!
//! The agent's serving certificate is not verified, as in Kubernetes without `--kubelet-certificate-authority`: the
//! agent proves nothing by it that the network does not. The agent, in turn, verifies ours.

use super::{Server, tls};
use crate::pki::Identity;
use knarr_api::Status;
use rustls::pki_types::ServerName;
use serde_json::Value;
use std::net::IpAddr;
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
}

impl Kubelets {
    pub(crate) fn new(identity: &Identity) -> anyhow::Result<Self> {
        Ok(Self { connector: TlsConnector::from(Arc::new(tls::kubelet_client(identity)?)) })
    }

    /// Connects to the agent at `address`.
    pub(crate) async fn connect(&self, address: IpAddr, port: u16) -> Result<TlsStream<TcpStream>, Status> {
        let connect = async {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            self.connector.connect(ServerName::IpAddress(address.into()), stream).await
        };
        let failed = |why: String| {
            Status::internal(format!("error dialing backend: dial tcp {address}:{port}: {why}"))
        };
        match tokio::time::timeout(CONNECT_TIMEOUT, connect).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed("i/o timeout".to_owned())),
        }
    }
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
            Status::internal(format!(
                "no preferred addresses found; known addresses: {}",
                node_object["status"]["addresses"]
            ))
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
