//! A file behind a URL, for an import. Who serves it is asked as a registry is: with patience, through proxies, and
//! never out of TLS.

use crate::error::{Error, Result};
use crate::registry::auth::Authenticator;
use crate::registry::download::body_stream;
use crate::registry::exchange::{Attempting, Call, Exchange, origin};
use crate::registry::hosts::{Endpoint, TlsSettings};
use crate::registry::transport::full;
use crate::store::parts::Parts;
use futures_util::StreamExt;
use http::{Method, Uri};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

/// Fetches all of it into a file that goes when it is dropped.
pub(crate) async fn fetch(parts: &Parts, url: &str) -> Result<NamedTempFile> {
    let exchange = Exchange { transport: parts.transport.clone(), auth: Authenticator::new(None) };
    let (endpoint, target, attempts) = (server_of(url)?, url.to_owned(), Attempting::Patiently);
    let call =
        Call { endpoint: &endpoint, method: Method::GET, target, scope: "", headers: Vec::new(), attempts };
    let response = exchange.call(&call, &|| full("")).await.map_err(|error| error.context(url))?;
    let mut body = body_stream(response.into_body(), 0, parts.transport.patience());
    let file = parts.temporary_file()?;
    let failed = |e| Error::path("write", file.path(), e);
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(failed)?);
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| error.context(url))?;
        writer.write_all(&piece).await.map_err(failed)?;
    }
    writer.flush().await.map_err(failed)?;
    Ok(file)
}

/// The host of a URL, as somebody to be asked.
fn server_of(url: &str) -> Result<Endpoint> {
    let wrong = || Error::invalid(format!("invalid URL {url:?}"));
    let base = origin(&url.parse::<Uri>().map_err(|_| wrong())?).ok_or_else(wrong)?;
    Ok(Endpoint {
        base,
        pull: true,
        resolve: false,
        push: false,
        tls: TlsSettings::default(),
        headers: Vec::new(),
        mirror: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_asked() {
        assert_eq!(server_of("http://h:8080/a/b.tar?x").unwrap().base, "http://h:8080");
        assert_eq!(server_of("https://h/a").unwrap().base, "https://h:443");
        assert!(server_of("http://").is_err() && server_of("/a/b").is_err());
    }
}
