//! One file per CRI call (a list call and its streaming twin share one). A call checks what it is given, does its
//! work through `lifecycle`, `images` or plain look-ups, and shapes the answer; nothing else lives here.

pub(crate) mod attach;
pub(crate) mod checkpoint_container;
pub(crate) mod checkpoint_pod;
pub(crate) mod container_stats;
pub(crate) mod container_status;
pub(crate) mod create_container;
pub(crate) mod exec;
pub(crate) mod exec_sync;
pub(crate) mod get_container_events;
pub(crate) mod image_fs_info;
pub(crate) mod image_status;
pub(crate) mod list_container_stats;
pub(crate) mod list_containers;
pub(crate) mod list_images;
pub(crate) mod list_metric_descriptors;
pub(crate) mod list_pod_sandbox;
pub(crate) mod list_pod_sandbox_metrics;
pub(crate) mod list_pod_sandbox_stats;
pub(crate) mod pod_sandbox_stats;
pub(crate) mod pod_sandbox_status;
pub(crate) mod port_forward;
pub(crate) mod pull_image;
pub(crate) mod remove_container;
pub(crate) mod remove_image;
pub(crate) mod remove_pod_sandbox;
pub(crate) mod reopen_container_log;
pub(crate) mod restore_pod;
pub(crate) mod run_pod_sandbox;
pub(crate) mod runtime_config;
pub(crate) mod start_container;
pub(crate) mod status;
pub(crate) mod stop_container;
pub(crate) mod stop_pod_sandbox;
pub(crate) mod update_container_resources;
pub(crate) mod update_pod_sandbox_resources;
pub(crate) mod update_runtime_config;
pub(crate) mod version;

use knarr_cri::{MessageStream, Status};
use std::collections::HashMap;

/// Entries per message of a streamed list: some hundreds of bytes each, far below any message limit.
const CHUNK: usize = 256;

/// A list as a stream of messages; an empty list is one empty message.
fn in_chunks<T, M>(items: Vec<T>, wrap: impl Fn(Vec<T>) -> M) -> MessageStream<M>
where
    T: Clone,
    M: Send + 'static,
{
    let messages: Vec<Result<M, Status>> = if items.is_empty() {
        vec![Ok(wrap(items))]
    } else {
        items.chunks(CHUNK).map(|chunk| Ok(wrap(chunk.to_vec()))).collect()
    };
    Box::pin(futures_util::stream::iter(messages))
}

/// Every label the selector names is there with that value.
fn labels_match(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// An id of a filter: any, or a prefix of it.
fn id_matches(id: &str, wanted: &str) -> bool {
    wanted.is_empty() || id.starts_with(wanted)
}
