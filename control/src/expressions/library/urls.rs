//! Addresses of pages: `url(self.endpoint).getScheme() == 'https'`. Absolute ones and absolute paths.

use super::{Arguments, Method, Outcome, argument, fault, flag, methods, of_text, opaque, text, words};
use cel::common::types::{CelList, CelMap, CelMapKey, CelString};
use cel::common::value::{CowVal, Val};
use cel::{DeclarationError, Env, ExecutionError};
use http::Uri;
use std::collections::HashMap;

#[derive(Debug, Clone, PartialEq)]
struct Url {
    scheme: String,
    /// With the port.
    host: String,
    path: String,
    query: String,
}

opaque!(Url, URL, "kubernetes.URL");

pub(super) fn extend(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_type(URL.to_owned())?;
    of_text(env, &[("isURL", &[], |all| flag(read(text(&all, 0)?).is_some())), ("url", &[], url)])?;
    let own: &[Method<'_>] = &[
        ("getScheme", &[], |all| words(own(&all)?.scheme.clone())),
        ("getHost", &[], |all| words(own(&all)?.host.clone())),
        ("getHostname", &[], |all| words(own(&all)?.name_and_port().0)),
        ("getPort", &[], |all| words(own(&all)?.name_and_port().1)),
        ("getEscapedPath", &[], |all| words(own(&all)?.path.clone())),
        ("getQuery", &[], |all| Ok(CowVal::owned(own(&all)?.parameters()))),
    ];
    methods(env, &URL, own)
}

fn own<'a>(all: &'a [CowVal<'_, '_>]) -> Result<&'a Url, ExecutionError> {
    argument::<Url>(all, 0)
}

fn read(text: &str) -> Option<Url> {
    if let Some((scheme, query)) = opaque(text) {
        return Some(Url { scheme, host: String::new(), path: String::new(), query });
    }
    let uri: Uri = allowed(text.split('#').next()?)?.parse().ok()?;
    let absolute = uri.scheme_str().is_some() || text.starts_with('/');
    absolute.then(|| Url {
        scheme: uri.scheme_str().unwrap_or_default().to_owned(),
        host: uri
            .authority()
            .map(|authority| without_user(authority.as_str()).to_owned())
            .unwrap_or_default(),
        // Where the text has no path there is none, whatever is asked for then.
        path: if text.ends_with('/') || uri.path() != "/" { uri.path().to_owned() } else { String::new() },
        query: uri.query().unwrap_or_default().to_owned(),
    })
}

/// `mailto:somebody@example.com`: a scheme and something that only that knows. The scheme and the query.
fn opaque(text: &str) -> Option<(String, String)> {
    let (scheme, rest) = text.split_once(':')?;
    let mut bytes = scheme.bytes();
    let letter = bytes.next().is_some_and(|first| first.is_ascii_alphabetic());
    let word = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    let printed = !text.bytes().any(|byte| byte.is_ascii_control());
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    (letter && word && printed && !rest.starts_with('/')).then(|| (scheme.to_lowercase(), query.to_owned()))
}

/// The text with what must not stand in a path or a query in place of itself; nothing if it cannot stand there at all.
fn allowed(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("://").unwrap_or(("", text));
    let place = rest.find(['/', '?']).map_or(text.len(), |at| text.len() - rest.len() + at);
    let (authority, rest) = text.split_at(place);
    let mut written = authority.to_owned();
    for byte in rest.bytes() {
        match byte {
            byte if byte.is_ascii_control() => return None,
            b' ' | b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | 128.. => {
                written.push_str(&format!("%{byte:02X}"));
            }
            byte => written.push(byte.into()),
        }
    }
    Some(written)
}

fn without_user(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

fn url<'b, 'v>(all: Arguments<'b, 'v>) -> Outcome<'b, 'v> {
    let given = text(&all, 0)?;
    match read(given) {
        Some(read) => Ok(CowVal::owned(read)),
        None => fault(
            "url",
            format!(
                "URL parse error during conversion from string: parse {given:?}: invalid URI for request"
            ),
        ),
    }
}

impl Url {
    fn name_and_port(&self) -> (String, String) {
        let (name, port) = match self.host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
            _ => (self.host.as_str(), ""),
        };
        let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        (name.to_owned(), port.to_owned())
    }

    /// Every value of each parameter.
    fn parameters<'v>(&self) -> CelMap<'v> {
        let mut values: HashMap<String, Vec<Box<dyn Val + 'v>>> = HashMap::new();
        for part in self.query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decoded = |text: &str| crate::server::percent_decode(text, true).unwrap_or_default();
            values.entry(decoded(name)).or_default().push(Box::new(CelString::from(decoded(value))));
        }
        let list = |(name, values): (String, Vec<Box<dyn Val + 'v>>)| {
            let key = CelMapKey::from(name);
            (key, Box::new(CelList::from(values)) as Box<dyn Val + 'v>)
        };
        CelMap::from(values.into_iter().map(list).collect::<HashMap<_, _>>())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{all_hold, holds};

    #[test]
    fn pages() {
        all_hold(&[
            "isURL('https://example.com:80/path?a=1') && isURL('/a/path') && !isURL('example') && !isURL('../x')",
            "url('https://u:p@example.com:80/').getScheme() == 'https'",
            "url('https://u:p@example.com:80/').getHost() == 'example.com:80'",
            "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80'",
            "url('https://example.com').getPort() == '' && url('https://example.com').getEscapedPath() == ''",
            "url('https://example.com/path%20with').getEscapedPath() == '/path%20with'",
            "url('https://example.com/?k1=a&k2=b&k2=c%20d').getQuery() == {'k1': ['a'], 'k2': ['b', 'c d']}",
            "url('/path').getScheme() == '' && url('/path').getHost() == ''",
        ]);
        all_hold(&[
            "url('https://example.com/with space/').getEscapedPath() == '/with%20space/'",
            "url('/p?key with=a value').getQuery() == {'key with': ['a value']}",
            "isURL('mailto:a@example.com') && url('MAILTO:a?b=c').getScheme() == 'mailto' && !isURL('1a:b')",
            "url('mailto:a?b=c').getQuery() == {'b': ['c']} && url('https:://kubernetes.io/').getHost() == ''",
        ]);
        assert!(holds("url('nothing').getPort() == ''").is_err());
    }
}
