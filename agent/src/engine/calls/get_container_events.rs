//! GetContainerEvents: what happens to containers and pods, as it happens.

use crate::engine::core::Core;
use futures_util::StreamExt;
use knarr_cri::MessageStream;
use knarr_cri::v1::ContainerEventResponse;
use tokio_stream::wrappers::BroadcastStream;

/// A listener that was too slow goes on with the next event that is still there.
pub(crate) fn call(core: &Core) -> MessageStream<ContainerEventResponse> {
    let events = BroadcastStream::new(core.events.subscribe());
    Box::pin(events.filter_map(|event| async { event.ok().map(Ok) }))
}
