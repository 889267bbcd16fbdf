//! Bearer tokens of browsers: their WebSockets carry no `Authorization`, so Kubernetes takes the token from among the
//! protocols that a request names, as `base64url.bearer.authorization.k8s.io.TOKEN`. From here on it is a bearer token
//! like any other, and no longer a protocol: neither the answer nor a node is to see it.

use super::{is_asked, protocols};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue, header};
use knarr_api::Status;

const PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// Moves the token to where tokens are looked for. A request that has one there keeps it.
///
/// # Errors
/// 401: two tokens, a token that is not base64 of text, or no protocol beside it that the answer could name.
pub(crate) fn claim(headers: &mut HeaderMap) -> Result<(), Status> {
    if !is_asked(headers) || headers.contains_key(header::AUTHORIZATION) {
        return Ok(());
    }
    let (tokens, others): (Vec<&str>, Vec<&str>) =
        protocols(headers).into_iter().partition(|name| name.starts_with(PREFIX));
    let token = match (tokens.as_slice(), others.is_empty()) {
        ([], _) => return Ok(()),
        ([token], false) => token.strip_prefix(PREFIX).unwrap_or_default(),
        _ => return Err(Status::unauthorized()),
    };
    let decoded = URL_SAFE_NO_PAD.decode(token).ok().and_then(|token| String::from_utf8(token).ok());
    let bearer = decoded.and_then(|token| HeaderValue::try_from(format!("Bearer {token}")).ok());
    let others = HeaderValue::try_from(others.join(",")).map_err(Status::internal)?;
    headers.insert(header::AUTHORIZATION, bearer.ok_or_else(Status::unauthorized)?);
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(protocols: &[&str], upgrade: &str) -> Result<(Option<String>, Option<String>), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONNECTION, "upgrade".parse().unwrap());
        headers.insert(header::UPGRADE, upgrade.parse().unwrap());
        for list in protocols {
            headers.append(header::SEC_WEBSOCKET_PROTOCOL, list.parse().unwrap());
        }
        claim(&mut headers).map_err(|status| status.code)?;
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok((text(header::AUTHORIZATION), text(header::SEC_WEBSOCKET_PROTOCOL)))
    }

    #[test]
    fn the_token_moves() {
        let token = "base64url.bearer.authorization.k8s.io.c2VjcmV0";
        let two = format!("a, {token}");
        let moved = Ok((Some("Bearer secret".to_owned()), Some("a,b".to_owned())));
        assert_eq!(claimed(&[&two, "b"], "websocket"), moved);
        assert_eq!(claimed(&["a"], "websocket"), Ok((None, Some("a".to_owned()))));
        assert_eq!(claimed(&[&two], "SPDY/3.1"), Ok((None, Some(two.clone()))));
        for bad in [token, "a,base64url.bearer.authorization.k8s.io.***", &format!("{two},{token}")] {
            assert_eq!(claimed(&[bad], "websocket"), Err(401), "{bad}");
        }
    }
}
