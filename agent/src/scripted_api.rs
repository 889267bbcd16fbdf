//! The little of the Kubernetes API that informers use, for tests: lists, and watches that a test feeds.
//!
//! It is spoken to through an ordinary `kube::Client`, so the reflectors, their decoding and their reconnecting run
//! as they do against a real server.

use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Objects by path and name, and the watches that are open.
#[derive(Clone, Default)]
pub(crate) struct ScriptedApi {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    revision: u64,
    objects: BTreeMap<(String, String), Value>,
    watches: Vec<(String, UnboundedSender<Bytes>)>,
    /// Every event with its revision, for watches that resume.
    log: Vec<(u64, String, Bytes)>,
}

impl ScriptedApi {
    pub(crate) fn client(&self) -> kube::Client {
        kube::Client::new(self.clone(), "default")
    }

    /// Creates or changes an object of the collection at `path`.
    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        object["metadata"]["namespace"] = "default".into();
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        let known = state.objects.insert((path.to_owned(), name), object.clone()).is_some();
        state.tell(path, if known { "MODIFIED" } else { "ADDED" }, object);
    }

    pub(crate) fn delete(&self, path: &str, name: &str) {
        let mut state = self.state.lock().unwrap();
        state.revision += 1;
        let mut object = state.objects.remove(&(path.to_owned(), name.to_owned())).unwrap();
        object["metadata"]["resourceVersion"] = state.revision.to_string().into();
        state.tell(path, "DELETED", object);
    }

    /// Ends all watches, as a server that restarts does.
    pub(crate) fn hang_up(&self) {
        self.state.lock().unwrap().watches.clear();
    }
}

impl State {
    fn tell(&mut self, path: &str, kind: &str, object: Value) {
        let mut line = serde_json::to_vec(&json!({"type": kind, "object": object})).unwrap();
        line.push(b'\n');
        let line = Bytes::from(line);
        self.log.push((self.revision, path.to_owned(), line.clone()));
        self.watches.retain(|(watched, watch)| watched != path || watch.send(line.clone()).is_ok());
    }

    fn answer(&mut self, path: &str, query: &str) -> Response<BoxBody<Bytes, Infallible>> {
        if query.contains("watch=") {
            let (sender, receiver) = unbounded_channel();
            let since = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")?.parse().ok());
            let missed = self.log.iter().filter(|(at, of, _)| Some(*at) > since && of == path);
            missed.for_each(|(_, _, line)| sender.send(line.clone()).unwrap());
            self.watches.push((path.to_owned(), sender));
            let lines = UnboundedReceiverStream::new(receiver).map(|line| Ok(Frame::data(line)));
            return Response::new(BodyExt::boxed(StreamBody::new(lines)));
        }
        let items: Vec<&Value> =
            self.objects.iter().filter(|((at, _), _)| at == path).map(|(_, item)| item).collect();
        let list = json!({"metadata": {"resourceVersion": self.revision.to_string()}, "items": items});
        Response::new(BodyExt::boxed(Full::new(Bytes::from(list.to_string()))))
    }
}

impl tower::Service<Request<Body>> for ScriptedApi {
    type Response = Response<BoxBody<Bytes, Infallible>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let response = self.state.lock().unwrap().answer(path, query);
        async move { Ok(response) }.boxed()
    }
}
