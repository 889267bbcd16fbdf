//! Logins to registries, kept where Docker and podman keep theirs, so that each of the tools finds what another one wrote.
//!
//! Credentials are kept only after the registry has accepted them. The file is replaced as a whole, is readable by its
//! owner alone, and keeps every field that is not ours.

use crate::credentials::Credentials;
use crate::error::{Error, ErrorKind, Result};
use crate::registry::credential_helper;
use crate::registry::docker_config::{ConfigFile, bare, login_files, server};
use base64::Engine as _;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Keeps credentials for a registry (`127.0.0.1:5000`, `docker.io`), in the file this user's logins are kept in or by the
/// helper that the file names. Answers the file.
pub fn keep_login(registry: &str, credentials: &Credentials) -> Result<PathBuf> {
    let path = file()?;
    keep(&path, registry, credentials)?;
    Ok(path)
}

/// Forgets the credentials for a registry. Whether there were any.
pub fn forget_login(registry: &str) -> Result<bool> {
    forget(&file()?, registry)
}

/// The first of those that are read.
fn file() -> Result<PathBuf> {
    login_files()
        .into_iter()
        .next()
        .ok_or_else(|| Error::invalid("HOME is not set: no place for credentials"))
}

fn keep(path: &Path, registry: &str, credentials: &Credentials) -> Result<()> {
    let mut document = read(path)?;
    let server = server(registry);
    if let Some(helper) = helper(&document, path, registry)? {
        return credential_helper::store(&helper, server, credentials);
    }
    let pair = format!("{}:{}", credentials.username, credentials.password);
    let auth = json!({"auth": base64::engine::general_purpose::STANDARD.encode(pair)});
    let auths = document.entry("auths").or_insert_with(|| json!({}));
    let auths = auths.as_object_mut().ok_or_else(|| not_an_object(path, "auths"))?;
    auths.retain(|key, _| bare(key) != registry);
    auths.insert(server.to_owned(), auth);
    replace(path, &document)
}

fn forget(path: &Path, registry: &str) -> Result<bool> {
    let mut document = read(path)?;
    let erased = match helper(&document, path, registry)? {
        Some(helper) => credential_helper::erase(&helper, server(registry))?,
        None => false,
    };
    let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) else { return Ok(erased) };
    let before = auths.len();
    auths.retain(|key, _| bare(key) != registry);
    if auths.len() == before {
        return Ok(erased);
    }
    replace(path, &document)?;
    Ok(true)
}

/// The program that keeps this registry's credentials, if one does.
fn helper(document: &Map<String, Value>, path: &Path, registry: &str) -> Result<Option<String>> {
    let config: ConfigFile = serde_json::from_value(Value::Object(document.clone()))
        .map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    Ok(config.helper(registry).map(str::to_owned))
}

fn read(path: &Path) -> Result<Map<String, Value>> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Map::new()),
        Err(error) => Err(Error::path("read", path, error)),
        Ok(bytes) => {
            serde_json::from_slice(&bytes).map_err(|e| Error::invalid(format!("{}: {e}", path.display())))
        }
    }
}

fn not_an_object(path: &Path, field: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("{}: {field} is no object", path.display()))
}

/// Written beside the old file and renamed over it.
fn replace(path: &Path, document: &Map<String, Value>) -> Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    made.map_err(|e| Error::path("mkdir", directory, e))?;
    let text = serde_json::to_vec_pretty(document)
        .map_err(|e| Error::invalid(format!("{}: {e}", path.display())))?;
    let beside = path.with_extension(format!("{}.new", std::process::id()));
    let write = || {
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|error| {
        // The rest of an attempt; its own error is the one to tell.
        let _ = std::fs::remove_file(&beside);
        Error::path("write", path, error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::docker_config::lookup;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn logins_are_found_again_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/config.json");
        for registry in ["127.0.0.1:5000", "docker.io"] {
            keep(&path, registry, &Credentials::basic("user", "first")).unwrap();
            keep(&path, registry, &Credentials::basic("user", "p:w")).unwrap();
            let found = lookup(&path, registry, "library/busybox").unwrap().unwrap();
            assert_eq!((found.username.as_str(), found.password.as_str()), ("user", "p:w"));
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(std::fs::read_to_string(&path).unwrap().contains("https://index.docker.io/v1/"));
        assert!(forget(&path, "docker.io").unwrap());
        assert!(!forget(&path, "docker.io").unwrap(), "it is forgotten already");
        assert!(lookup(&path, "127.0.0.1:5000", "x").unwrap().is_some(), "the other one stays");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing lies beside it");
    }

    #[test]
    fn what_is_not_ours_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let before = r#"{"psFormat":"x","auths":{"https://r.io/v1/":{"auth":"b2xkOm9sZA=="},"s.io":{}}}"#;
        std::fs::write(&path, before).unwrap();
        keep(&path, "r.io", &Credentials::basic("new", "new")).unwrap();
        let after: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let expected = json!({"psFormat": "x", "auths": {"r.io": {"auth": "bmV3Om5ldw=="}, "s.io": {}}});
        assert_eq!(after, expected);
        for bad in ["[]", r#"{"auths":[]}"#] {
            std::fs::write(&path, bad).unwrap();
            assert!(keep(&path, "r.io", &Credentials::basic("a", "b")).is_err(), "{bad}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), bad);
        }
    }
}
