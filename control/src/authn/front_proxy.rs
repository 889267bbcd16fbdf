//! Users whom another API server vouches for: it shows a certificate of the authority that signs such servers and
//! nobody else, and says in headers for whom it asks. From anybody else these headers mean nothing.

use super::{AUTHENTICATED, User};
use crate::server::percent_decode;
use http::{HeaderMap, HeaderName};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Who a certificate of that authority must be for.
pub(crate) const NAME: &str = "front-proxy-client";
/// Names of the headers, as they are announced to those who read them.
pub(crate) const USER: &str = "X-Remote-User";
pub(crate) const GROUP: &str = "X-Remote-Group";
pub(crate) const EXTRA: &str = "X-Remote-Extra-";

/// The other end of a connection has shown a certificate of the authority for such servers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Vouches;

/// Whether a certificate, which has been verified, is for a server that may vouch.
pub(crate) fn may_vouch(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    let named =
        |name: &x509_parser::x509::AttributeTypeAndValue<'_>| name.as_str().is_ok_and(|name| name == NAME);
    certificate.subject().iter_common_name().any(named)
}

/// The user whom the headers name.
pub(crate) fn user(headers: &HeaderMap) -> Option<User> {
    let text =
        |value: &http::HeaderValue| value.to_str().ok().filter(|text| !text.is_empty()).map(str::to_owned);
    let name = headers.get(USER).and_then(text)?;
    let mut groups: Vec<String> = headers.get_all(GROUP).iter().filter_map(text).collect();
    if name != "system:anonymous" && !groups.iter().any(|group| group == AUTHENTICATED) {
        groups.push(AUTHENTICATED.to_owned());
    }
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (header, value) in headers {
        let Some(key) = header.as_str().strip_prefix("x-remote-extra-") else { continue };
        if let (Some(key), Some(value)) = (percent_decode(key, false), text(value)) {
            extra.entry(key).or_default().push(value);
        }
    }
    Some(User { name, groups, uid: String::new(), extra })
}

/// Names `user` in the headers of a request; what the request said of that itself is forgotten.
pub(crate) fn vouch(headers: &mut HeaderMap, user: &User) {
    let said: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-remote-")).cloned().collect();
    said.iter().for_each(|name| drop(headers.remove(name)));
    let mut add = |name: &str, value: &str| {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value.parse()) {
            headers.append(name, value);
        }
    };
    add(USER, &user.name);
    user.groups.iter().for_each(|group| add(GROUP, group));
    for (key, values) in &user.extra {
        values.iter().for_each(|value| add(&format!("{EXTRA}{}", encoded(key)), value));
    }
}

/// A key as the end of a header's name: what may not stand there is written as `%2F`.
fn encoded(key: &str) -> String {
    key.bytes().fold(String::new(), |mut text, byte| {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_goes_through_the_headers_whole() {
        let extra = BTreeMap::from([("example.com/role".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let user = User { extra, ..User::new("amy", &["dev"]) };
        let mut headers = HeaderMap::new();
        headers.insert("x-remote-user", "eve".parse().unwrap());
        headers.insert("x-remote-group", "system:masters".parse().unwrap());
        vouch(&mut headers, &user);
        assert_eq!(super::user(&headers), Some(user));
        assert_eq!(headers.get("x-remote-extra-example.com%2frole").unwrap(), "a");
        vouch(&mut headers, &User::anonymous());
        assert_eq!(super::user(&headers), Some(User::anonymous()));
        assert_eq!(super::user(&HeaderMap::new()), None);
    }
}
