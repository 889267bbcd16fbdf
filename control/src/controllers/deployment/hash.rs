//! The name of a template: `pod-template-hash`, and when two templates are the same.

use k8s_openapi::api::core::v1::PodTemplateSpec;
use sha2::{Digest, Sha256};

/// The label that tells the sets of one Deployment apart.
pub(super) const LABEL: &str = "pod-template-hash";

/// No vowels and no 0, 1, 3: a hash never spells a word.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// Ten characters for a template; `collisions` makes another name when the first is taken by another template.
pub(crate) fn of(template: &PodTemplateSpec, collisions: i32) -> String {
    let mut hasher = Sha256::new();
    hasher.update(serde_json::to_vec(template).unwrap_or_default());
    hasher.update(collisions.to_le_bytes());
    hasher
        .finalize()
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

/// Equal but for the label that the set's own template carries.
pub(crate) fn same_template(wanted: Option<&PodTemplateSpec>, of_set: Option<&PodTemplateSpec>) -> bool {
    let (Some(wanted), Some(of_set)) = (wanted, of_set) else { return false };
    let bare = |template: &PodTemplateSpec| {
        let mut template = template.clone();
        if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
            labels.remove(LABEL);
        }
        template
    };
    bare(wanted) == bare(of_set)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template(image: &str, hash: Option<&str>) -> PodTemplateSpec {
        let mut value = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
        if let Some(hash) = hash {
            value["metadata"]["labels"][LABEL] = json!(hash);
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_hash_depends_on_template_and_collisions() {
        assert_eq!(of(&template("a", None), 0), of(&template("a", None), 0));
        assert_ne!(of(&template("a", None), 0), of(&template("b", None), 0));
        assert_ne!(of(&template("a", None), 0), of(&template("a", None), 1));
        assert_eq!(of(&template("a", None), 0).len(), 10);
    }

    #[test]
    fn the_label_makes_no_difference() {
        assert!(same_template(Some(&template("a", None)), Some(&template("a", Some("x")))));
        assert!(!same_template(Some(&template("a", None)), Some(&template("b", Some("x")))));
    }
}
