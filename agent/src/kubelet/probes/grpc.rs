//! The gRPC health check: one unary call of `grpc.health.v1.Health/Check`. Its two messages are one field each, so
//! they are spelled out here instead of generated.

use crate::kubelet::images::go_duration;
use std::time::Duration;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_prost::ProstCodec;

/// SERVING in the health protocol.
const SERVING: i32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Between two attempts to reach a server that is not there (yet).
const AGAIN: Duration = Duration::from_millis(100);

/// Asks the server at `ip:port` whether `service` is served; refusals in the kubelet's words.
pub(super) async fn check(ip: &str, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
    let end = tokio::time::Instant::now() + timeout;
    let given = go_duration(timeout);
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
    let endpoint =
        Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|error| error.to_string())?;
    let Ok(channel) = tokio::time::timeout_at(end, reach(&endpoint)).await else {
        return Err(format!(
            "timeout: failed to connect service \"{host}:{port}\" within {given}: context deadline exceeded"
        ));
    };
    match tokio::time::timeout_at(end, ask(channel, service)).await {
        Ok(Ok(SERVING)) => Ok(()),
        Ok(Ok(other)) => Err(format!("service unhealthy (responded with {:?})", name(other))),
        Ok(Err(status)) if status.code() == Code::Unimplemented => Err(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Ok(Err(status)) if status.code() != Code::DeadlineExceeded => {
            Err(format!("error: health rpc probe failed: {}", status.message()))
        }
        _ => Err(format!("timeout: health rpc did not complete within {given}: context deadline exceeded")),
    }
}

/// A server that refuses may be about to come: it has until the probe's time is over.
async fn reach(endpoint: &Endpoint) -> Channel {
    loop {
        match endpoint.connect().await {
            Ok(channel) => return channel,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn ask(channel: Channel, service: &str) -> Result<i32, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_string() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    Ok(client.unary(request, path, codec).await?.into_inner().status)
}

/// As the protocol calls an answer.
fn name(status: i32) -> String {
    match status {
        0 => "UNKNOWN".to_string(),
        2 => "NOT_SERVING".to_string(),
        3 => "SERVICE_UNKNOWN".to_string(),
        other => other.to_string(),
    }
}
