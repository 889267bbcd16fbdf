//! The two traits over a unix socket: how our kubelet drives containerd, or an engine in another process.

use crate::server::MAX_MESSAGE_BYTES;
use crate::v1::{image_service_client::ImageServiceClient, runtime_service_client::RuntimeServiceClient};
use crate::{ImageService, RuntimeService};
use hyper_util::rt::TokioIo;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// The two halves of one runtime.
pub type Services = (Arc<dyn RuntimeService>, Arc<dyn ImageService>);

/// Both services of the runtime that listens on `endpoint` (`unix:///run/x.sock` or a bare path).
///
/// The connection is made on first use and made again after a loss, so a runtime may restart under its kubelet.
pub fn connect(endpoint: &str) -> Result<Services, tonic::transport::Error> {
    let channel = channel(PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint)))?;
    let runtime = RuntimeServiceClient::new(channel.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let images = ImageServiceClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Ok((Arc::new(runtime), Arc::new(images)))
}

/// A channel to a plugin that listens on this socket.
pub fn plugin(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    channel(path)
}

/// A lazily connected channel; the URI is a formality that gRPC needs, the path is what is dialled.
fn channel(path: PathBuf) -> Result<Channel, tonic::transport::Error> {
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move { UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Ok(Endpoint::try_from("http://localhost")?.connect_with_connector_lazy(connector))
}
