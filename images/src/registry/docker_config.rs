//! Credentials as `docker login` and `podman login` keep them: config.json with `auths`, `credHelpers`, `credsStore`.

use crate::credentials::Credentials;
use crate::error::{Error, Result};
use crate::registry::credential_helper;
use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// How Docker Hub is called in these files.
pub(super) const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
}

impl ConfigFile {
    /// The program that keeps the credentials of a registry, if one does.
    pub(super) fn helper(&self, registry: &str) -> Option<&str> {
        let own = self.cred_helpers.get(registry).or_else(|| self.cred_helpers.get(server(registry)));
        own.or(Some(&self.creds_store)).map(String::as_str).filter(|name| !name.is_empty())
    }
}

/// How a registry is called in these files.
pub(super) fn server(registry: &str) -> &str {
    if registry == "docker.io" { DOCKER_HUB } else { registry }
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Auth")
    }
}

/// The credentials for one repository of a registry, where the file has any. A missing file has none. Blocks: a
/// helper program may ask somebody.
pub(crate) fn lookup(path: &Path, registry: &str, repository: &str) -> Result<Option<Credentials>> {
    let bytes = match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| Error::path("read", path, e))?,
    };
    let config: ConfigFile =
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    let kept = config.helper(registry).map(|helper| credential_helper::get(helper, server(registry)));
    match kept.transpose()?.flatten() {
        None => from_auths(&config, registry, repository),
        found => Ok(found),
    }
}

/// The longest key that covers the repository: `registry/a/b`, `registry/a`, `registry`.
fn from_auths(config: &ConfigFile, registry: &str, repository: &str) -> Result<Option<Credentials>> {
    let mut name = format!("{registry}/{repository}");
    loop {
        if let Some(auth) = config.auths.iter().find_map(|(key, auth)| (bare(key) == name).then_some(auth)) {
            return decode(auth).map(Some);
        }
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None => return Ok(None),
        }
    }
}

/// Keys may be URLs.
pub(super) fn bare(key: &str) -> &str {
    if key == DOCKER_HUB {
        return "docker.io";
    }
    let host = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    host.strip_suffix("/v1").or(host.strip_suffix("/v2")).unwrap_or(host)
}

fn decode(auth: &Auth) -> Result<Credentials> {
    let mut credentials = Credentials {
        username: auth.username.clone(),
        password: auth.password.clone(),
        registry_token: auth.registrytoken.clone(),
        identity_token: auth.identitytoken.clone(),
    };
    if !auth.auth.is_empty() {
        let invalid = || Error::invalid("config.json: auth is not base64 of USER:PASSWORD");
        let bytes = base64::engine::general_purpose::STANDARD.decode(&auth.auth).map_err(|_| invalid())?;
        let text = String::from_utf8(bytes).map_err(|_| invalid())?;
        let (user, password) = text.split_once(':').ok_or_else(invalid)?;
        credentials.username = user.to_owned();
        credentials.password = password.trim_end_matches('\0').to_owned();
    }
    Ok(credentials)
}

/// Where Docker's and podman's logins are kept on this machine: `$REGISTRY_AUTH_FILE`, `$DOCKER_CONFIG/config.json` or
/// `~/.docker/config.json`, `/run/containers/UID/auth.json`, in this order.
pub fn login_files() -> Vec<PathBuf> {
    files(|name| std::env::var_os(name).map(PathBuf::from))
}

fn files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let docker = variable("DOCKER_CONFIG").or_else(|| variable("HOME").map(|home| home.join(".docker")));
    let runtime = variable("XDG_RUNTIME_DIR")
        .unwrap_or_else(|| PathBuf::from(format!("/run/containers/{}", rustix::process::getuid().as_raw())));
    let podman = if runtime.starts_with("/run/containers") { runtime } else { runtime.join("containers") };
    let files = [
        variable("REGISTRY_AUTH_FILE"),
        docker.map(|dir| dir.join("config.json")),
        Some(podman.join("auth.json")),
    ];
    files.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str, registry: &str, repository: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        lookup(&path, registry, repository)
            .unwrap()
            .map(|found| format!("{}:{}", found.username, found.password))
    }

    #[test]
    fn finds_the_longest_match() {
        // user:pass and hub:secret
        let text = r#"{"auths":{"r.io":{"auth":"dXNlcjpwYXNz"},"r.io/team":{"username":"team","password":"p:w"},
            "https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="}}}"#;
        assert_eq!(user(text, "r.io", "x/y").as_deref(), Some("user:pass"));
        assert_eq!(user(text, "r.io", "team/y").as_deref(), Some("team:p:w"));
        assert_eq!(user(text, "docker.io", "library/busybox").as_deref(), Some("hub:secret"));
        assert_eq!(user(text, "other.io", "x"), None);
    }

    #[test]
    fn where_logins_are_kept() {
        let none = files(|_| None);
        assert_eq!(none.len(), 1, "only podman's place: {none:?}");
        let home = files(|name| (name == "HOME").then(|| PathBuf::from("/root")));
        assert_eq!(home[0], Path::new("/root/.docker/config.json"));
    }

    #[test]
    fn broken_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(lookup(&path, "r.io", "x").unwrap(), None, "no file, no credentials");
        for bad in ["{", r#"{"auths":{"r.io":{"auth":"!!"}}}"#, r#"{"credHelpers":{"r.io":"../x"}}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(lookup(&path, "r.io", "x").is_err(), "{bad}");
        }
    }
}
