//! Offers an implementation of the two traits on a unix socket, for crictl, critest or a foreign kubelet.

use crate::any_authority;
use crate::deadlines::Deadlines;
use crate::v1::{image_service_server::ImageServiceServer, runtime_service_server::RuntimeServiceServer};
use crate::{ImageService, RuntimeService};
use std::future::Future;
use std::sync::Arc;
use tokio::net::UnixListener;

/// Largest message either side accepts, in bytes (containerd's figure; a node with many pods needs more than 4 MiB).
pub const MAX_MESSAGE_BYTES: usize = 80 << 20;

/// The bridge from a tonic server to a trait object (a foreign trait cannot be implemented for `Arc` itself).
pub(crate) struct Served<T: ?Sized>(pub(crate) Arc<T>);

/// Serves both services on `listener` until `shutdown` resolves; calls under way are finished first.
pub async fn serve(
    listener: UnixListener,
    runtime: Arc<dyn RuntimeService>,
    images: Arc<dyn ImageService>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let runtime = RuntimeServiceServer::new(Served(runtime))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let images = ImageServiceServer::new(Served(images))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    tonic::transport::Server::builder()
        .layer(tower::layer::layer_fn(Deadlines::of))
        .add_service(runtime)
        .add_service(images)
        .serve_with_incoming_shutdown(any_authority::incoming(listener), shutdown)
        .await
}
