//! Where the links of a proxied page lead. What the target says of itself begins at its own root; the client knows
//! that root under the path of the proxy subresource, so links get this path in front of theirs. Links to other
//! hosts and relative ones are right as they are.

/// The names of one target: what it calls itself, and what its client calls it.
pub(super) struct Links {
    /// Path of the proxy subresource, without a slash at its end; safe within an attribute of HTML.
    pub(super) prefix: String,
    /// `host:port` as the target knows itself.
    pub(super) target: String,
    /// `host:port` by which the client reached this server, if it said so.
    pub(super) client: Option<String>,
}

impl Links {
    /// The link as the client must follow it; none if it stays as it is.
    pub(super) fn rewrite(&self, link: &str) -> Option<String> {
        let (origin, path) = split_origin(link);
        let host = origin.map(|origin| origin.rsplit('/').next().unwrap_or_default());
        let of_client = host.is_some() && host == self.client.as_deref();
        let foreign = host.is_some_and(|host| host != self.target) && !of_client;
        if foreign || !path.starts_with('/') {
            return None;
        }
        // The client's own name for this server still leads here; the target's leads nowhere outside the cluster.
        let origin = origin.filter(|_| of_client).unwrap_or_default();
        let prefix = if self.is_below(path) { "" } else { &self.prefix };
        let rewritten = format!("{origin}{prefix}{path}");
        (rewritten != link).then_some(rewritten)
    }

    fn is_below(&self, path: &str) -> bool {
        let rest = path.strip_prefix(&*self.prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
    }
}

/// `scheme://host` or `//host`, and what follows it.
fn split_origin(link: &str) -> (Option<&str>, &str) {
    let scheme = ["http://", "https://", "//"].into_iter().find(|scheme| {
        link.get(..scheme.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(scheme))
    });
    let Some(scheme) = scheme else { return (None, link) };
    let host = link.get(scheme.len()..).unwrap_or_default();
    let end = scheme.len() + host.find(['/', '?', '#']).unwrap_or(host.len());
    (link.get(..end), link.get(end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_through_the_proxy() {
        let client = Some("localhost:8001".to_owned());
        let links = Links { prefix: "/p/proxy".into(), target: "10.0.0.1:80".into(), client };
        for (link, expected) in [
            ("/a", Some("/p/proxy/a")),
            ("/", Some("/p/proxy/")),
            ("/a/?b=/c#d", Some("/p/proxy/a/?b=/c#d")),
            ("http://10.0.0.1:80/a", Some("/p/proxy/a")),
            ("HTTPS://10.0.0.1:80/a", Some("/p/proxy/a")),
            ("//10.0.0.1:80/a", Some("/p/proxy/a")),
            ("http://10.0.0.1:80/p/proxy/a", Some("/p/proxy/a")),
            ("http://localhost:8001/a", Some("http://localhost:8001/p/proxy/a")),
            ("/p/proxyish", Some("/p/proxy/p/proxyish")),
            ("/p/proxy", None),
            ("/p/proxy/a", None),
            ("http://localhost:8001/p/proxy/a", None),
            ("http://10.0.0.1:80", None),
            ("http://10.0.0.1:81/a", None),
            ("http://example.com/a", None),
            ("//example.com/a", None),
            ("http:///a", None),
            ("a/b", None),
            ("", None),
            ("#top", None),
            ("?q=/a", None),
            ("mailto:a@b/c", None),
            ("é/ü", None),
        ] {
            assert_eq!(links.rewrite(link).as_deref(), expected, "{link}");
        }
    }
}
