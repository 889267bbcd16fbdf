//! Registry credentials out of `imagePullSecrets`: both forms of Docker's configuration file.

use base64::Engine as _;
use k8s_openapi::api::core::v1::Secret;
use knarr_cri::v1::AuthConfig;
use serde_json::Value;

/// Every entry that fits the image's registry, the most specific first.
pub(super) fn for_image<'a>(secrets: impl Iterator<Item = &'a Secret>, image: &str) -> Vec<AuthConfig> {
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for secret in secrets {
        for (registry, entry) in entries(secret) {
            if let Some(rank) = matches(&registry, image) {
                found.push((rank, auth(&registry, &entry)));
            }
        }
    }
    found.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    found.into_iter().map(|(_, auth)| auth).collect()
}

fn entries(secret: &Secret) -> Vec<(String, Value)> {
    let Some(data) = &secret.data else { return Vec::new() };
    let parse = |key: &str| data.get(key).and_then(|bytes| serde_json::from_slice::<Value>(&bytes.0).ok());
    let modern = parse(".dockerconfigjson").map(|mut config| config["auths"].take());
    match modern.or_else(|| parse(".dockercfg")) {
        Some(Value::Object(entries)) => entries.into_iter().collect(),
        _ => Vec::new(),
    }
}

/// How specifically a registry key fits an image; `None` when it does not.
fn matches(key: &str, image: &str) -> Option<usize> {
    let key = key.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let key = key.trim_end_matches("/v1").trim_end_matches("/v2");
    let first = image.split('/').next().unwrap_or_default();
    let has_registry = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let image = if has_registry { image.to_string() } else { format!("docker.io/{image}") };
    let key = if key == "index.docker.io" { "docker.io" } else { key };
    let rest = image.strip_prefix(key)?;
    (rest.is_empty() || rest.starts_with(['/', ':', '@'])).then_some(key.len())
}

fn auth(registry: &str, entry: &Value) -> AuthConfig {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_string();
    let mut auth = AuthConfig {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        server_address: registry.to_string(),
        ..Default::default()
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).unwrap_or_default();
    if let Some((user, password)) = String::from_utf8_lossy(&decoded).split_once(':') {
        auth.username = user.to_string();
        auth.password = password.to_string();
    }
    auth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_registry_wins() {
        let config =
            r#"{"auths":{"r.io":{"auth":"YTpi"},"r.io/team":{"username":"u","password":"p"},"other":{}}}"#;
        let secret: Secret = serde_json::from_value(serde_json::json!({"data":
            {".dockerconfigjson": base64::engine::general_purpose::STANDARD.encode(config)}}))
        .unwrap();
        let found = for_image(std::iter::once(&secret), "r.io/team/x:1");
        let users: Vec<_> = found.iter().map(|auth| auth.username.as_str()).collect();
        assert_eq!(users, ["u", "a"]);
        assert!(for_image(std::iter::once(&secret), "busybox").is_empty());
    }
}
