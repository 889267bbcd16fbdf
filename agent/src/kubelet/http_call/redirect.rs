//! Where a redirected request goes on: to another path or port of the same host. Other hosts are not asked, since a
//! container must not have the node ask whom it likes: the redirect itself is the answer then.

use super::HttpCall;
use http::Uri;

/// The request to make next; none where the answer stands.
pub(super) fn next(from: &HttpCall, status: u16, location: Option<&str>) -> Result<Option<HttpCall>, String> {
    let location = location.and_then(|text| text.split('#').next()).unwrap_or_default();
    if !matches!(status, 301 | 302 | 303 | 307 | 308) || location.is_empty() {
        return Ok(None);
    }
    let to = match location.strip_prefix("//") {
        Some(rest) => elsewhere(from, &format!("{}://{rest}", from.scheme()))?,
        None if location.contains("://") => elsewhere(from, location)?,
        None => HttpCall { path: resolved(&from.path, location), ..from.clone() },
    };
    Ok(Some(to).filter(|to| to.host == from.host))
}

/// The request to a whole address. A Host header was meant for the address before.
fn elsewhere(from: &HttpCall, address: &str) -> Result<HttpCall, String> {
    let uri: Uri =
        address.parse().map_err(|error| format!("failed to parse Location header {address:?}: {error}"))?;
    let https = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        other => return Err(format!("unsupported protocol scheme {:?}", other.unwrap_or_default())),
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_string();
    let kept = |(name, _): &&(String, String)| !name.eq_ignore_ascii_case("host");
    let headers = from.headers.iter().filter(kept).cloned().collect();
    Ok(HttpCall { https, host, port, path, agent: from.agent, headers })
}

/// A path as seen from another.
fn resolved(from: &str, location: &str) -> String {
    let path = from.split('?').next().unwrap_or_default();
    if location.starts_with('/') {
        return location.to_string();
    }
    if location.starts_with('?') {
        return format!("{path}{location}");
    }
    let mut folders: Vec<&str> = path.rsplit_once('/').map_or("", |(folder, _)| folder).split('/').collect();
    let mut rest = location;
    while let Some((step, after)) = rest.split_once('/').filter(|(step, _)| matches!(*step, "." | "..")) {
        if step == ".." && folders.len() > 1 {
            folders.pop();
        }
        rest = after;
    }
    format!("{}/{rest}", folders.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(path: &str) -> HttpCall {
        let headers = vec![("Host".to_owned(), "web".to_owned()), ("X-A".to_owned(), "b".to_owned())];
        HttpCall {
            https: false,
            host: "10.0.0.9".into(),
            port: 8080,
            path: path.into(),
            agent: "kube-probe",
            headers,
        }
    }

    fn url(path: &str, location: &str) -> Option<String> {
        next(&call(path), 302, Some(location)).unwrap().map(|call| call.url())
    }

    #[test]
    fn the_same_host_is_asked_on() {
        let to = |path| Some(format!("http://10.0.0.9:8080{path}"));
        assert_eq!(url("/a/b?c", "/healthz?d"), to("/healthz?d"));
        assert_eq!(url("/a/b?c", "d#e"), to("/a/d"));
        assert_eq!(url("/a/b?c", "../d"), to("/d"));
        assert_eq!(url("/a", "../../d"), to("/d"));
        assert_eq!(url("/a/b?c", "?d"), to("/a/b?d"));
        assert_eq!(url("/", "//10.0.0.9/x").as_deref(), Some("http://10.0.0.9:80/x"));
        let other = next(&call("/"), 307, Some("https://10.0.0.9/x")).unwrap().unwrap();
        assert_eq!((other.url().as_str(), other.headers.len()), ("https://10.0.0.9:443/x", 1));
    }

    #[test]
    fn everything_else_is_the_answer() {
        assert_eq!(url("/", "http://0.0.0.0/"), None);
        assert_eq!(next(&call("/"), 302, None), Ok(None));
        assert_eq!(next(&call("/"), 304, Some("/x")), Ok(None));
        assert!(next(&call("/"), 302, Some("ftp://10.0.0.9/")).is_err());
    }
}
