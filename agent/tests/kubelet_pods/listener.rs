//! What probes and hooks of a pod on the host's network talk to: web servers that write down what they were asked, and a
//! gRPC health service whose answer can be changed.

use futures_util::future::BoxFuture;
use std::convert::Infallible;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic_prost::ProstCodec;

/// Heads of requests, in lower case.
#[derive(Clone, Default)]
pub(crate) struct Heads(Arc<Mutex<Vec<String>>>);

impl Heads {
    /// Whether some request has all of these in its head.
    pub(crate) fn some_has(&self, parts: &[&str]) -> bool {
        let heads = self.0.lock().unwrap();
        heads.iter().any(|head| parts.iter().all(|part| head.contains(part)))
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, heads: &Heads) {
    let mut head = vec![0; 4096];
    let length = stream.read(&mut head).await.unwrap_or(0);
    heads.0.lock().unwrap().push(String::from_utf8_lossy(&head[..length]).to_lowercase());
    // A client that has gone needs no answer.
    drop(stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await);
    drop(stream.shutdown().await);
}

/// A web server on every address of the machine; its port.
pub(crate) async fn web(heads: Heads) -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer(stream, &heads).await;
        }
    });
    port
}

/// The same with TLS and a certificate that nobody knows.
pub(crate) async fn secure_web(heads: Heads) -> u16 {
    let made = rcgen::generate_simple_self_signed(["nobody.example".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let tls = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = tls.accept(stream).await {
                answer(stream, &heads).await;
            }
        }
    });
    port
}

/// `grpc.health.v1.Health` for the service `knarr`.
#[derive(Clone)]
pub(crate) struct Health(Arc<AtomicI32>);

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

impl Health {
    /// Serves on every address of the machine; its port.
    pub(crate) async fn serve() -> (Health, u16) {
        let health = Health(Arc::new(AtomicI32::new(1)));
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tonic::transport::Server::builder().add_service(health.clone());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (health, port)
    }

    /// From now on it says NOT_SERVING.
    pub(crate) fn fail(&self) {
        self.0.store(2, Ordering::Relaxed);
    }
}

impl NamedService for Health {
    const NAME: &'static str = "grpc.health.v1.Health";
}

impl tower::Service<http::Request<tonic::body::Body>> for Health {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let method = self.clone();
        let mut grpc = Grpc::new(ProstCodec::<Answer, Question>::default());
        Box::pin(async move { Ok(grpc.unary(method, request).await) })
    }
}

impl UnaryService<Question> for Health {
    type Response = Answer;
    type Future = BoxFuture<'static, Result<tonic::Response<Answer>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<Question>) -> Self::Future {
        let known = request.into_inner().service == "knarr";
        let status = self.0.load(Ordering::Relaxed);
        Box::pin(async move {
            if known {
                Ok(tonic::Response::new(Answer { status }))
            } else {
                Err(tonic::Status::not_found("unknown"))
            }
        })
    }
}
