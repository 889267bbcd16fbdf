//! Questions to the server in the form of objects: who am I, may I, whose token is this. They are answered when they
//! are created and never stored.

use super::Resource;
use super::row::Row;

/// The rows of all reviews, and of bindings, which are likewise only created.
pub(super) fn rows() -> Vec<Resource> {
    const AUTHENTICATION: &str = "authentication.k8s.io";
    const AUTHORIZATION: &str = "authorization.k8s.io";
    let asked = |row: Row| row.verbs(&["create"]).done();
    vec![
        asked(Row::namespaced("", "v1", "Binding", "bindings")),
        asked(Row::cluster(AUTHENTICATION, "v1", "SelfSubjectReview", "selfsubjectreviews")),
        // `kubectl auth whoami` of 1.27 asks for these, which only v1 replaced.
        asked(
            Row::cluster(AUTHENTICATION, "v1beta1", "SelfSubjectReview", "selfsubjectreviews")
                .schema(review()),
        ),
        asked(
            Row::cluster(AUTHENTICATION, "v1alpha1", "SelfSubjectReview", "selfsubjectreviews")
                .schema(review()),
        ),
        asked(Row::cluster(AUTHENTICATION, "v1", "TokenReview", "tokenreviews")),
        asked(Row::namespaced(AUTHORIZATION, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews")),
        asked(Row::cluster(AUTHORIZATION, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")),
        asked(Row::cluster(AUTHORIZATION, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews")),
        asked(Row::cluster(AUTHORIZATION, "v1", "SubjectAccessReview", "subjectaccessreviews")),
    ]
}

/// A review as its older versions had it.
fn review() -> serde_json::Value {
    serde_json::json!({"type": "object", "properties": {
        "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
        "status": {"type": "object", "properties": {"userInfo": {"type": "object", "properties": {
            "username": {"type": "string"}, "uid": {"type": "string"},
            "groups": {"type": "array", "items": {"type": "string"}},
            "extra": {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "string"}}},
        }}}},
    }})
}
