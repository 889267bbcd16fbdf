//! What the source of a COPY or ADD is: a path, a file of the web, or a git repository; and how a file of the web is
//! called.

use crate::web_file::percent_decode;

/// Kinds of sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Path,
    Web,
    Git,
}

/// BuildKit's rule: a URL is one of git's where its path ends with `.git`, or where git alone knows the scheme.
/// `user@host:path` is what ssh and git write.
pub(crate) fn kind(source: &str) -> Kind {
    match source.split_once("://") {
        Some(("http" | "https", rest)) => {
            let rest = rest.split(['?', '#']).next().unwrap_or_default();
            let path = rest.split_once('/').map_or("", |(_, path)| path);
            if path.ends_with(".git") { Kind::Git } else { Kind::Web }
        }
        Some(("git" | "ssh", _)) => Kind::Git,
        _ if is_scp(source) => Kind::Git,
        _ => Kind::Path,
    }
}

fn is_scp(source: &str) -> bool {
    let legal = |text: &str, more: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
    };
    let Some((user, rest)) = source.split_once('@') else { return false };
    rest.split_once(':').is_some_and(|(host, _)| legal(user, "-_") && legal(host, "-."))
}

/// The last part of the path. Whoever wants what the server would call it says so as the target.
pub(crate) fn file_name(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default().split_once('/').map_or("", |(_, path)| path);
    let decoded = String::from_utf8_lossy(&percent_decode(path)).into_owned();
    match decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default().trim() {
        "" => "__unnamed__".to_owned(),
        "." | ".." => "download".to_owned(),
        name if name.chars().any(char::is_control) => "download".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        for (source, expected) in [
            ("http://h/a.tar", Kind::Web),
            ("https://h/a.git?x=y#main", Kind::Git),
            ("https://h/a.git/b", Kind::Web),
            ("https://h.git", Kind::Web),
            ("git://h/a", Kind::Git),
            ("ssh://git@h/a", Kind::Git),
            ("git@h:a/b", Kind::Git),
            ("ftp://h/a", Kind::Path),
            ("a/http://b", Kind::Path),
            ("some@file", Kind::Path),
            ("we ird@h:x", Kind::Path),
            ("httpd.conf", Kind::Path),
        ] {
            assert_eq!(kind(source), expected, "{source}");
        }
    }

    #[test]
    fn names() {
        for (url, expected) in [
            ("http://h/a/b.tar?x=/y#/z", "b.tar"),
            ("http://h", "__unnamed__"),
            ("http://h/", "__unnamed__"),
            ("http://h?x=y/z", "__unnamed__"),
            ("http://h/dir/", "dir"),
            ("http://h/a%20b", "a b"),
            ("http://h/a%2Fb", "b"),
            ("http://h/a/..", "download"),
            ("http://h/%2e%2e", "download"),
            ("http://h/a%0Ab", "download"),
        ] {
            assert_eq!(file_name(url), expected, "{url}");
        }
    }
}
