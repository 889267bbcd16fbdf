//! Credentials as `docker login` and `podman login` keep them: config.json with `auths`, `credHelpers`, `credsStore`.

use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use base64::Engine as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use tokio::io::AsyncWriteExt;

/// How Docker Hub is called in these files.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// What a helper answers as the name when the secret is a refresh token.
const TOKEN_USER: &str = "<token>";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigFile {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: String,
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

/// What a helper program answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

/// The credentials for one repository of a registry, where the file has any. A missing file has none.
pub(crate) async fn lookup(path: &Path, registry: &str, repository: &str) -> Result<Option<Credentials>> {
    let bytes = match tokio::fs::read(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| Error::path("read", path, e))?,
    };
    let config: ConfigFile =
        serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    let server = if registry == "docker.io" { DOCKER_HUB } else { registry };
    let helper = config.cred_helpers.get(registry).or_else(|| config.cred_helpers.get(server));
    match helper.or(Some(&config.creds_store)).filter(|name| !name.is_empty()) {
        Some(helper) => match ask_helper(helper, server).await? {
            None => from_auths(&config, registry, repository),
            found => Ok(found),
        },
        None => from_auths(&config, registry, repository),
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
fn bare(key: &str) -> &str {
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

/// Runs `docker-credential-NAME get`. A helper that knows nothing says so on its output.
async fn ask_helper(name: &str, server: &str) -> Result<Option<Credentials>> {
    if name.contains('/') {
        return Err(Error::invalid(format!("config.json: invalid credential helper {name:?}")));
    }
    let program = format!("docker-credential-{name}");
    let failed = |e: std::io::Error| Error::io(&program, e);
    let mut child = tokio::process::Command::new(&program)
        .arg("get")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(server.as_bytes()).await.map_err(failed)?;
    }
    let output = tokio::time::timeout(std::time::Duration::from_secs(30), child.wait_with_output()).await;
    let output = output
        .map_err(|_| Error::new(ErrorKind::Unavailable, format!("{program}: no answer within 30 seconds")))?
        .map_err(failed)?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if words.contains("credentials not found") {
            return Ok(None);
        }
        return Err(Error::new(ErrorKind::Unauthorized, format!("{program}: {words}")));
    }
    let answer: HelperAnswer =
        serde_json::from_slice(&output.stdout).map_err(|e| Error::invalid(format!("{program}: {e}")))?;
    Ok(Some(if answer.username == TOKEN_USER {
        Credentials { identity_token: answer.secret, ..Credentials::default() }
    } else {
        Credentials::basic(answer.username, answer.secret)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn user(text: &str, registry: &str, repository: &str) -> Option<String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, text).unwrap();
        lookup(&path, registry, repository)
            .await
            .unwrap()
            .map(|found| format!("{}:{}", found.username, found.password))
    }

    #[tokio::test]
    async fn finds_the_longest_match() {
        // user:pass and hub:secret
        let text = r#"{"auths":{"r.io":{"auth":"dXNlcjpwYXNz"},"r.io/team":{"username":"team","password":"p:w"},
            "https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="}}}"#;
        assert_eq!(user(text, "r.io", "x/y").await.as_deref(), Some("user:pass"));
        assert_eq!(user(text, "r.io", "team/y").await.as_deref(), Some("team:p:w"));
        assert_eq!(user(text, "docker.io", "library/busybox").await.as_deref(), Some("hub:secret"));
        assert_eq!(user(text, "other.io", "x").await, None);
    }

    #[tokio::test]
    async fn broken_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(lookup(&path, "r.io", "x").await.unwrap(), None, "no file, no credentials");
        for bad in ["{", r#"{"auths":{"r.io":{"auth":"!!"}}}"#, r#"{"credHelpers":{"r.io":"../x"}}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(lookup(&path, "r.io", "x").await.is_err(), "{bad}");
        }
    }
}
