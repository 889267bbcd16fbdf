//! Calls to etcd: one channel over all members, each call a method.

use super::super::StoreError;
use super::EtcdTls;
use super::messages::{
    CompactionRequest, CompactionResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
    WatchCreateRequest, WatchRequest, WatchResponse,
};
use futures_util::StreamExt as _;
use http::uri::PathAndQuery;
use std::time::Duration;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A member that does not answer within this is tried again by whoever asked.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A member that vanished without a word is found out by this.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A watch may bring many objects at once.
const MAX_MESSAGE: usize = 64 << 20;

#[derive(Debug, Clone)]
pub(super) struct Client {
    channel: Channel,
}

/// A call that had no effect, or whose effect is unknown.
pub(super) fn failure(status: &Status) -> StoreError {
    StoreError::Unavailable(format!("etcd: {}", status.message()))
}

/// What the files say.
fn configured(tls: &EtcdTls) -> Result<ClientTlsConfig, String> {
    let read = |path: &std::path::Path| {
        std::fs::read(path).map_err(|error| format!("read {}: {error}", path.display()))
    };
    let config = match &tls.ca {
        Some(ca) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?)),
        None => ClientTlsConfig::new().with_native_roots(),
    };
    Ok(match &tls.identity {
        Some((certificate, key)) => config.identity(Identity::from_pem(read(certificate)?, read(key)?)),
        None => config,
    })
}

impl Client {
    /// Over the members at these URLs; connects when first used.
    pub(super) fn new(urls: &[String], tls: &EtcdTls) -> Result<Self, StoreError> {
        let fault = |why: String| StoreError::Unavailable(format!("etcd: {why}"));
        let secured = configured(tls).map_err(fault)?;
        let endpoint = |url: &String| {
            let of_url = |error: tonic::transport::Error| fault(format!("{url}: {error}"));
            let endpoint = Endpoint::from_shared(url.clone()).map_err(of_url)?;
            let endpoint = match url.split_once("://") {
                Some(("http", _)) => endpoint,
                Some(("https", _)) => endpoint.tls_config(secured.clone()).map_err(of_url)?,
                _ => return Err(fault(format!("{url}: want http:// or https://"))),
            };
            Ok(endpoint
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(CONNECT_TIMEOUT))
        };
        let endpoints: Vec<Endpoint> = urls.iter().map(endpoint).collect::<Result<_, _>>()?;
        if endpoints.is_empty() {
            return Err(fault("no endpoints".to_owned()));
        }
        Ok(Self { channel: Channel::balance_list(endpoints.into_iter()) })
    }

    async fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let called = async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec = ProstCodec::<Q, A>::default();
            grpc.unary(Request::new(message), PathAndQuery::from_static(path), codec).await
        };
        match tokio::time::timeout(CALL_TIMEOUT, called).await {
            Ok(answered) => answered.map(tonic::Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded("no member answered in time")),
        }
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(super) async fn transaction(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        self.call("/etcdserverpb.KV/Txn", request).await
    }

    /// Compacting twice is no failure.
    pub(super) async fn compact(&self, revision: i64) -> Result<(), Status> {
        let request = CompactionRequest { revision };
        match self.call::<_, CompactionResponse>("/etcdserverpb.KV/Compact", request).await {
            Err(status) if status.code() == Code::OutOfRange => Ok(()),
            other => other.map(drop),
        }
    }

    /// Follows a range for as long as the stream is held.
    pub(super) async fn watch(&self, create: WatchCreateRequest) -> Result<Streaming<WatchResponse>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
        let first = WatchRequest { create: Some(create) };
        // The stream of requests stays open: its end would end the watch.
        let requests = futures_util::stream::iter([first]).chain(futures_util::stream::pending());
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        grpc.streaming(Request::new(requests), path, codec).await.map(tonic::Response::into_inner)
    }
}
