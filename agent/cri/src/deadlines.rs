//! A caller says how long it waits (`grpc-timeout`). Past that, it is told that its time is over, in the words and with
//! the code of every other gRPC server: the server below would say that the call was cancelled, and a kubelet that hears
//! it before its own clock takes that for somebody's wish. What is here decides first, for it stands nearer to the call.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::Status;
use tonic::codegen::Service;
use tonic::codegen::http::{HeaderMap, Request, Response};

/// A service whose calls end with their callers' patience.
#[derive(Debug, Clone)]
pub(crate) struct Deadlines<S>(S);

impl<S> Deadlines<S> {
    pub(crate) fn of(service: S) -> Self {
        Self(service)
    }
}

impl<S, Sent, Answered> Service<Request<Sent>> for Deadlines<S>
where
    S: Service<Request<Sent>, Response = Response<Answered>>,
    S::Future: Send + 'static,
    Answered: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Sent>) -> Self::Future {
        let patience = patience(request.headers());
        let call = self.0.call(request);
        let Some(patience) = patience else { return Box::pin(call) };
        let call = tokio::time::timeout(patience, call);
        Box::pin(async move {
            let over = || Ok(Status::deadline_exceeded("context deadline exceeded").into_http());
            call.await.unwrap_or_else(|_| over())
        })
    }
}

/// At most eight digits and a unit. What is written in another way is no limit.
fn patience(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Never answers.
    struct Silent;

    impl Service<Request<()>> for Silent {
        type Response = Response<String>;
        type Error = std::convert::Infallible;
        type Future = std::future::Pending<Result<Self::Response, Self::Error>>;

        fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _request: Request<()>) -> Self::Future {
            std::future::pending()
        }
    }

    #[tokio::test]
    async fn who_waited_long_enough_is_told_so() {
        let request = Request::builder().header("grpc-timeout", "2m").body(()).unwrap();
        let Ok(answer) = Deadlines::of(Silent).call(request).await;
        assert_eq!(answer.headers()["grpc-status"], "4");
        assert_eq!(Status::from_header_map(answer.headers()).unwrap().message(), "context deadline exceeded");
    }

    #[test]
    fn patience_is_read() {
        let of = |text: &str| {
            patience(&HeaderMap::from_iter([("grpc-timeout".parse().unwrap(), text.parse().unwrap())]))
        };
        assert_eq!(of("2H"), Some(Duration::from_secs(7200)));
        assert_eq!([of("3M"), of("4S")], [180, 4].map(|seconds| Some(Duration::from_secs(seconds))));
        assert_eq!([of("5000u"), of("5m"), of("5000000n")], [Some(Duration::from_millis(5)); 3]);
        assert_eq!([of(""), of("5"), of("S"), of("-1S"), of("+1S"), of("123456789S"), of("1é")], [None; 7]);
    }
}
