//! The gRPC health check: one unary call of `grpc.health.v1.Health/Check`. Its two messages are one field each, so
//! they are spelled out here instead of generated.

use std::time::Duration;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
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

/// Asks the server at `ip:port` whether `service` is served.
pub(super) async fn check(ip: &str, port: u16, service: &str, timeout: Duration) -> Result<(), String> {
    match tokio::time::timeout(timeout, ask(ip, port, service)).await {
        Ok(Ok(SERVING)) => Ok(()),
        Ok(Ok(_)) => Err("service unhealthy (responded with \"NOT_SERVING\")".to_string()),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!(
            "timeout: failed to connect service \"{ip}:{port}\" within {timeout:?}: context deadline exceeded"
        )),
    }
}

async fn ask(ip: &str, port: u16, service: &str) -> Result<i32, String> {
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_string() };
    let endpoint =
        Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| error.to_string())?;
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| error.to_string())?;
    let request = tonic::Request::new(HealthCheckRequest { service: service.to_string() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec: ProstCodec<HealthCheckRequest, HealthCheckResponse> = ProstCodec::default();
    let answer = client.unary(request, path, codec).await.map_err(|status| status.message().to_string())?;
    Ok(answer.into_inner().status)
}
