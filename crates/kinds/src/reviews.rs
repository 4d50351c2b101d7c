//! Create-only reviews of `authentication.k8s.io` and `authorization.k8s.io`, computed by the API server.

use std::sync::Arc;

use registry::{Backing, KindRow, Plain, Verbs};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// The rows of both groups.
pub fn rows() -> Vec<KindRow> {
    let review = |group: &str, kind: &str, plural: &str| {
        KindRow::new(group, "v1", kind, plural, Arc::new(Plain)).backing(Backing::Review, Verbs::CREATE)
    };
    vec![
        review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews").cluster_scoped(),
        review(AUTHENTICATION, "TokenReview", "tokenreviews").cluster_scoped(),
        review(AUTHORIZATION, "LocalSubjectAccessReview", "localsubjectaccessreviews"),
        review(AUTHORIZATION, "SelfSubjectAccessReview", "selfsubjectaccessreviews").cluster_scoped(),
        review(AUTHORIZATION, "SelfSubjectRulesReview", "selfsubjectrulesreviews").cluster_scoped(),
        review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews").cluster_scoped(),
    ]
}
