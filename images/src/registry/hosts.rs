//! Where a registry is really reached: mirrors, certificates and plain HTTP, from `hosts.toml` as containerd has it.
//!
//! `HOSTS_DIR/HOST[:PORT]/hosts.toml` (or `HOST_PORT_`, or `_default`) lists hosts to try in order; the registry
//! itself comes last. Plain HTTP is spoken only on loopback, or where this file or an option says so.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// One place to send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `https://host/v2`, without a slash at the end.
    pub(crate) base: String,
    pub(crate) pull: bool,
    pub(crate) resolve: bool,
    pub(crate) push: bool,
    pub(crate) tls: TlsSettings,
    pub(crate) headers: Vec<(String, String)>,
    /// Mirrors are asked on behalf of a registry (`?ns=`) and never see its credentials.
    pub(crate) mirror: bool,
}

/// What makes a TLS connection special.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct TlsSettings {
    pub(crate) roots: Vec<PathBuf>,
    /// Certificate and key.
    pub(crate) clients: Vec<(PathBuf, PathBuf)>,
    pub(crate) skip_verify: bool,
}

#[derive(Debug, Default, Deserialize)]
struct HostsFile {
    server: Option<String>,
    #[serde(flatten)]
    own: HostTable,
    #[serde(default)]
    host: toml::Table,
}

#[derive(Debug, Default, Deserialize)]
struct HostTable {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMany>,
    client: Option<toml::Value>,
    #[serde(default)]
    skip_verify: bool,
    #[serde(default)]
    override_path: bool,
    #[serde(default)]
    header: toml::Table,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// Every endpoint of a registry, in the order in which they are to be tried.
pub(crate) fn endpoints(
    hosts_dir: Option<&Path>,
    registry: &str,
    plain_http: &[String],
) -> Result<Vec<Endpoint>> {
    let server = default_server(registry, plain_http);
    let Some((path, text)) = hosts_dir.map_or(Ok(None), |dir| find(dir, registry))? else {
        return Ok(vec![endpoint(&server, &HostTable::default(), Path::new(""), false)?]);
    };
    let named = |error: Error| error.context(path.display());
    let file: HostsFile = toml::from_str(&text).map_err(|e| named(Error::invalid(e.message())))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut endpoints = Vec::new();
    for (url, table) in &file.host {
        let table: HostTable =
            table.clone().try_into().map_err(|e: toml::de::Error| named(Error::invalid(e.message())))?;
        endpoints.push(endpoint(url, &table, directory, true).map_err(named)?);
    }
    let own = file.server.unwrap_or(server);
    endpoints.push(endpoint(&own, &file.own, directory, false).map_err(named)?);
    Ok(endpoints)
}

fn find(dir: &Path, registry: &str) -> Result<Option<(PathBuf, String)>> {
    let underscored = registry.split_once(':').map(|(host, port)| format!("{host}_{port}_"));
    let names = [Some(registry.to_owned()), underscored, Some("_default".to_owned())];
    for name in names.into_iter().flatten() {
        let path = dir.join(name).join("hosts.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => return Ok(Some((path, text))),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) => {}
            Err(error) => return Err(Error::path("read", &path, error)),
        }
    }
    Ok(None)
}

fn default_server(registry: &str, plain_http: &[String]) -> String {
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let plain = is_loopback(registry) || plain_http.iter().any(|known| known == registry);
    format!("{}://{host}", if plain { "http" } else { "https" })
}

/// `localhost`, 127.0.0.0/8 and ::1, with or without a port.
pub(crate) fn is_loopback(registry: &str) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn endpoint(url: &str, table: &HostTable, directory: &Path, mirror: bool) -> Result<Endpoint> {
    let url = if url.contains("://") { url.to_owned() } else { format!("https://{url}") };
    let parsed: http::Uri = url.parse().map_err(|e| Error::invalid(format!("host {url:?}: {e}")))?;
    if !matches!(parsed.scheme_str(), Some("http" | "https")) {
        return Err(Error::invalid(format!("host {url:?}: scheme must be http or https")));
    }
    let path = parsed.path().trim_end_matches('/');
    let version = if table.override_path || path.ends_with("/v2") { "" } else { "/v2" };
    let authority = parsed.authority().map(ToString::to_string).unwrap_or_default();
    let base = format!("{}://{authority}{path}{version}", parsed.scheme_str().unwrap_or("https"));
    let can = |what: &str| {
        table
            .capabilities
            .as_ref()
            .map_or(!mirror || what != "push", |known| known.iter().any(|given| given == what))
    };
    Ok(Endpoint {
        base,
        pull: can("pull"),
        resolve: can("resolve"),
        push: can("push"),
        tls: tls(table, directory)?,
        headers: headers(table)?,
        mirror,
    })
}

fn tls(table: &HostTable, directory: &Path) -> Result<TlsSettings> {
    let roots = match &table.ca {
        None => Vec::new(),
        Some(OneOrMany::One(path)) => vec![directory.join(path)],
        Some(OneOrMany::Many(paths)) => paths.iter().map(|path| directory.join(path)).collect(),
    };
    let pair = |value: &toml::Value| match value {
        toml::Value::String(both) => Some((directory.join(both), directory.join(both))),
        toml::Value::Array(pair) => match &pair[..] {
            [toml::Value::String(cert), toml::Value::String(key)] => {
                Some((directory.join(cert), directory.join(key)))
            }
            _ => None,
        },
        _ => None,
    };
    let invalid = || Error::invalid("client: expected a file or [CERTIFICATE, KEY]");
    let clients = match &table.client {
        None => Vec::new(),
        Some(toml::Value::Array(list)) if list.iter().any(toml::Value::is_array) => {
            list.iter().map(|value| pair(value).ok_or_else(invalid)).collect::<Result<_>>()?
        }
        Some(value) => vec![pair(value).ok_or_else(invalid)?],
    };
    Ok(TlsSettings { roots, clients, skip_verify: table.skip_verify })
}

fn headers(table: &HostTable) -> Result<Vec<(String, String)>> {
    let mut headers = Vec::new();
    for (name, value) in &table.header {
        let values = match value {
            toml::Value::String(one) => vec![one.clone()],
            toml::Value::Array(many) => {
                many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
            }
            _ => return Err(Error::invalid(format!("header {name}: expected a string or a list"))),
        };
        headers.extend(values.into_iter().map(|value| (name.clone(), value)));
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_file() {
        let cases = [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("quay.io", "https://quay.io/v2"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("localhost", "http://localhost/v2"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/v2"),
            ("plain:80", "http://plain:80/v2"),
            ("localhost.evil.com", "https://localhost.evil.com/v2"),
        ];
        for (registry, base) in cases {
            let endpoints = endpoints(None, registry, &["plain:80".to_owned()]).unwrap();
            assert_eq!(endpoints.iter().map(|endpoint| endpoint.base.as_str()).collect::<Vec<_>>(), [base]);
        }
    }

    #[test]
    fn mirrors_come_first() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("docker.io")).unwrap();
        let text = r#"
server = "https://registry-1.docker.io"
[host."http://127.0.0.1:5001"]
capabilities = ["pull", "resolve"]
[host."https://mirror.example/prefix/v2"]
override_path = true
ca = "ca.pem"
client = [["a.pem", "a.key"]]
skip_verify = true
[host."https://mirror.example/prefix/v2".header]
x-one = "1"
"#;
        std::fs::write(dir.path().join("docker.io/hosts.toml"), text).unwrap();
        let found = endpoints(Some(dir.path()), "docker.io", &[]).unwrap();
        let bases: Vec<&str> = found.iter().map(|endpoint| endpoint.base.as_str()).collect();
        let expected = [
            "http://127.0.0.1:5001/v2",
            "https://mirror.example/prefix/v2",
            "https://registry-1.docker.io/v2",
        ];
        assert_eq!(bases, expected);
        assert!(!found[0].push && found[0].mirror && found[2].push && !found[2].mirror);
        assert_eq!(found[1].tls.roots, [dir.path().join("docker.io/ca.pem")]);
        assert_eq!(found[1].headers, [("x-one".to_owned(), "1".to_owned())]);
        assert!(found[1].tls.skip_verify);
        std::fs::write(dir.path().join("docker.io/hosts.toml"), "server = 1").unwrap();
        let error = endpoints(Some(dir.path()), "docker.io", &[]).unwrap_err();
        assert!(error.to_string().contains("hosts.toml"), "{error}");
    }
}
