//! `/containerLogs/NAMESPACE/POD/CONTAINER`: a container's log as its client wants it, to its end or for as long as the
//! container runs.

use super::log_chain;
use super::log_file::{LogFile, Watch};
use super::log_lines::Filter;
use super::log_query::LogQuery;
use super::query::Query;
use super::respond::{Body, Refusal, full, typed};
use super::{Shared, containers};
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use knarr_cri::{RuntimeService, v1};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// How often a follower looks whether its container still runs while no output comes.
const STATE_CHECK: Duration = Duration::from_secs(1);

/// Blocks on their way to the client.
const QUEUE: usize = 4;

pub(super) async fn answer(
    shared: &Shared,
    namespace: &str,
    pod_name: &str,
    container: &str,
    query: &Query,
) -> Result<Response<Body>, Refusal> {
    let query = LogQuery::parse(query, Timestamp::now())?;
    let pod = containers::pod(shared, namespace, pod_name)?;
    if !containers::is_declared(&pod, container) {
        let message = format!("container {container:?} not found in pod {pod_name:?}");
        return Err(Refusal::not_found(message));
    }
    let (id, path) = find(shared, &pod, pod_name, container, query.previous).await?;
    let Some(path) = path else { return Ok(plain(full(Bytes::new()))) };
    let files = match log_chain::open(&path, &query).await {
        Ok(files) => files.into(),
        Err(error) => return Err(Refusal::internal(format!("failed to open log file {path:?}: {error}"))),
    };
    let (sender, blocks) = mpsc::channel(QUEUE);
    let reader = Reader { files, filter: Filter::new(&query), blocks: sender };
    tokio::spawn(reader.run(path, query.follow.then(|| Follow { runtime: shared.runtime.clone(), id })));
    Ok(plain(BodyExt::boxed(StreamBody::new(ReceiverStream::new(blocks)))))
}

fn plain(body: Body) -> Response<Body> {
    typed(StatusCode::OK, "text/plain", body)
}

/// The container and its log; no log where the pod asked for none.
async fn find(
    shared: &Shared,
    pod: &Pod,
    pod_name: &str,
    container: &str,
    previous: bool,
) -> Result<(String, Option<PathBuf>), Refusal> {
    let found = containers::of_name(shared, pod, container).await?;
    let wanted = match previous {
        // Not the one before the latest: a container that waits to be started again has ended last.
        true => {
            let ended = containers::ended_last(pod, container);
            found.into_iter().find(|candidate| Some(candidate.id.as_str()) == ended)
        }
        false => found.into_iter().next(),
    };
    let Some(found) = wanted else {
        return Err(Refusal::bad_request(if previous {
            format!("previous terminated container {container:?} in pod {pod_name:?} not found")
        } else {
            let reason = waiting_reason(pod, container);
            format!("container {container:?} in pod {pod_name:?} is waiting to start: {reason}")
        }));
    };
    let request = v1::ContainerStatusRequest { container_id: found.id.clone(), verbose: false };
    let status = shared.runtime.container_status(request).await?.status.unwrap_or_default();
    Ok((found.id, (!status.log_path.is_empty()).then(|| status.log_path.into())))
}

fn waiting_reason(pod: &Pod, container: &str) -> String {
    let waiting = containers::status(pod, container)
        .and_then(|status| status.state.as_ref())
        .and_then(|state| state.waiting.as_ref());
    match waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or("ContainerCreating") {
        "ErrImagePull" => "image can't be pulled",
        "ImagePullBackOff" => "trying and failing to pull image",
        reason => reason,
    }
    .to_owned()
}

/// Whom to ask whether more can come.
struct Follow {
    runtime: Arc<dyn RuntimeService>,
    id: String,
}

impl Follow {
    async fn is_running(&self) -> bool {
        let request = v1::ContainerStatusRequest { container_id: self.id.clone(), verbose: false };
        let status = self.runtime.container_status(request).await;
        let state = status.ok().and_then(|response| response.status).map(|status| status.state());
        state == Some(v1::ContainerState::ContainerRunning)
    }
}

struct Reader {
    /// Not empty; the first one is being read, the last one is still written to.
    files: VecDeque<LogFile>,
    filter: Filter,
    blocks: mpsc::Sender<io::Result<Frame<Bytes>>>,
}

impl Reader {
    /// A read error in the middle breaks the answer off, which the client sees as such.
    async fn run(mut self, path: PathBuf, follow: Option<Follow>) {
        let read = match follow {
            None => self.read_to_end().await.map(drop),
            Some(follow) => self.follow(&path, follow).await,
        };
        if let Err(error) = read {
            // Also the way in which a client that has gone ends this task.
            let _ = self.blocks.send(Err(error)).await;
        }
    }

    /// False when the client wants no more.
    async fn read_to_end(&mut self) -> io::Result<bool> {
        loop {
            let mut block = Vec::new();
            let Self { files, filter, blocks } = self;
            let Some(log) = files.front_mut() else { return Ok(true) };
            let more = log.read_lines(|line| filter.take(line, &mut block)).await?;
            let wanted = block.is_empty() || blocks.send(Ok(Frame::data(block.into()))).await.is_ok();
            if filter.is_done() || !wanted {
                return Ok(false);
            }
            if !more && files.len() < 2 {
                return Ok(true);
            }
            if !more {
                files.pop_front();
            }
        }
    }

    /// Goes on over rotations; ends when the container has ended and everything is read.
    async fn follow(&mut self, path: &Path, follow: Follow) -> io::Result<()> {
        let mut watch = Watch::new(path)?;
        loop {
            // Asked before reading: what was written until the end is then read below.
            let running = follow.is_running().await;
            let rotated = match self.files.back() {
                Some(last) => last.is_rotated().await,
                None => false,
            };
            if !self.read_to_end().await? {
                return Ok(());
            }
            if let (true, Some(last)) = (rotated, self.files.back()) {
                self.files = log_chain::since(path, last).await?.into();
                continue;
            }
            if !running {
                return Ok(());
            }
            self.wait_for_more(&mut watch).await;
        }
    }

    /// Reads what comes until it is time to look at the container again.
    async fn wait_for_more(&mut self, watch: &mut Watch) {
        tokio::select! {
            () = watch.changed() => {}
            () = tokio::time::sleep(STATE_CHECK) => {}
            () = self.blocks.closed() => {}
        }
    }
}
