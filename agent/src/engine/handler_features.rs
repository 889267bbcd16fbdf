//! What the runtime behind a handler can do, asked of the runtime itself (`RUNTIME features`) once.

use super::core::Core;
use knarr_runtime::spec::Features;

/// The features that CRI knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HandlerFeatures {
    /// Mounts that are read-only with everything below them.
    pub(crate) recursive_read_only: bool,
    /// User namespaces, with volumes that show the pod's ids.
    pub(crate) user_namespaces: bool,
}

impl HandlerFeatures {
    /// From the runtime's own words.
    fn of(features: &Features) -> Self {
        let linux = features.linux.as_ref();
        let namespaces = linux.is_some_and(|linux| linux.namespaces.iter().any(|name| name == "user"));
        let idmap = linux
            .and_then(|linux| linux.mount_extensions.as_ref())
            .and_then(|extensions| extensions.idmap.as_ref())
            .is_some_and(|idmap| idmap.enabled == Some(true));
        Self {
            recursive_read_only: features.mount_options.iter().any(|option| option == "rro"),
            user_namespaces: namespaces && idmap,
        }
    }
}

/// Asks; a runtime that does not answer has none of them.
pub(crate) async fn of_handler(core: &Core, handler: &str) -> HandlerFeatures {
    let Ok(runtime) = core.runtime(handler) else { return HandlerFeatures::default() };
    match runtime.features().await {
        Ok(features) => HandlerFeatures::of(features),
        Err(error) => {
            tracing::warn!("runtime handler {handler:?}: asking for its features: {error:#}");
            HandlerFeatures::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn both_namespaces_and_idmapped_mounts_are_needed() {
        let features = |linux: serde_json::Value, options: &[&str]| {
            let json = json!({"linux": linux, "mountOptions": options});
            HandlerFeatures::of(&serde_json::from_value(json).unwrap())
        };
        let idmap = json!({"idmap": {"enabled": true}});
        let all = features(json!({"namespaces": ["user"], "mountExtensions": idmap}), &["ro", "rro"]);
        assert_eq!(all, HandlerFeatures { recursive_read_only: true, user_namespaces: true });
        assert_eq!(features(json!({"namespaces": ["user"]}), &["ro"]), HandlerFeatures::default());
        assert_eq!(features(json!({"mountExtensions": idmap}), &[]), HandlerFeatures::default());
    }
}
