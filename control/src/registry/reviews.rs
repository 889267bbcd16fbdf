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
        asked(Row::cluster(AUTHENTICATION, "v1", "TokenReview", "tokenreviews")),
        asked(Row::namespaced(AUTHORIZATION, "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews")),
        asked(Row::cluster(AUTHORIZATION, "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews")),
        asked(Row::cluster(AUTHORIZATION, "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews")),
        asked(Row::cluster(AUTHORIZATION, "v1", "SubjectAccessReview", "subjectaccessreviews")),
    ]
}
