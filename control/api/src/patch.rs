//! The four patch types of the Kubernetes API, as functions over JSON.
//!
//! JSON patch and merge patch need nothing but the object. Strategic merge and server-side apply must know of each
//! list whether it is replaced or merged, and by which key: a [`PatchSchema`] tells them.

pub mod apply;
pub mod field_set;
pub mod json;
pub mod merge;
pub mod strategic;

use std::sync::Arc;

/// What merging must know about the fields of one object type.
pub trait PatchSchema: Send + Sync {
    /// The field `name`; `None` for one that the schema does not know. In a map with arbitrary keys (labels,
    /// resource limits) every name answers with the schema of the map's values.
    fn field(&self, name: &str) -> Option<PatchField>;
}

/// How one field is merged.
#[derive(Clone, Default)]
pub struct PatchField {
    /// `x-kubernetes-patch-strategy` contains `merge`: a list is merged instead of replaced.
    pub merge: bool,
    /// `x-kubernetes-patch-strategy` contains `replace`: a map is replaced instead of merged.
    pub replace: bool,
    /// `x-kubernetes-patch-merge-key`; lists of objects only.
    pub merge_key: Option<Arc<str>>,
    /// For server-side apply: how a list, or a map, is owned.
    pub ownership: Ownership,
    /// Each element of a list is owned as a whole.
    pub atomic_elements: bool,
    /// An object that lacks it has it all the same, as an empty one: what comes into it is no new field.
    pub always: bool,
    /// Schema of the value: of an object its fields, of a list its elements, of a map its values. `None` for scalars
    /// and for content that no schema describes.
    pub child: Option<Arc<dyn PatchSchema>>,
}

/// `x-kubernetes-list-type` and `x-kubernetes-map-type`: the unit that one field manager owns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Ownership {
    /// The default of the type: a map (or struct) field by field, a list as one.
    #[default]
    Default,
    /// The whole value.
    Atomic,
    /// Every scalar of the list.
    Set,
    /// Every element of the list, known by these keys (with their defaults, as `protocol: TCP`).
    Map(Vec<(Arc<str>, Option<serde_json::Value>)>),
}

impl std::fmt::Debug for PatchField {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut output = formatter.debug_struct("PatchField");
        output
            .field("merge", &self.merge)
            .field("replace", &self.replace)
            .field("merge_key", &self.merge_key);
        output.field("ownership", &self.ownership).field("child", &self.child.is_some()).finish()
    }
}

/// A patch that cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch itself is malformed: 400.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit this object: 422.
    #[error("{0}")]
    Inapplicable(String),
}

/// Why a patch is none, as Go's decoder says it of a value that has to become another type.
fn unusable(patch: &serde_json::Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", crate::json_kind(patch))
}
