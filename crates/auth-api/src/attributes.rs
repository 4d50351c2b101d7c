//! What is asked, and who answers.

use async_trait::async_trait;
use meta::selector::{FieldSelector, LabelSelector};

use crate::UserInfo;

/// One request as authorizers and admission see it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Attributes {
    /// Who asks.
    pub user: UserInfo,
    /// API verb (`get`, `list`, `watch`, `create` ...), or the lower-case HTTP method of a path request.
    pub verb: String,
    /// Namespace, empty when cluster-wide.
    pub namespace: String,
    /// API group, empty for core.
    pub api_group: String,
    /// API version.
    pub api_version: String,
    /// Resource, empty for path requests.
    pub resource: String,
    /// Subresource, may be empty.
    pub subresource: String,
    /// Object's name, may be empty.
    pub name: String,
    /// Whether this is a request on a resource (else on a path).
    pub resource_request: bool,
    /// The URL path.
    pub path: String,
    /// Field selector of a list, watch or deletecollection, when given and well-formed.
    pub field_selector: Option<FieldSelector>,
    /// Label selector, likewise.
    pub label_selector: Option<LabelSelector>,
}

impl Attributes {
    /// Whether the request only reads, as upstream counts it.
    pub fn is_read_only(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }

    /// `resource/subresource`, or the resource alone.
    pub fn combined_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

/// An authorizer's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Allowed; no further authorizer is asked.
    Allow,
    /// Denied; no further authorizer is asked.
    Deny,
    /// Somebody else may decide; denied when nobody does.
    NoOpinion,
}

/// An authorizer could not decide.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AuthorizerError {
    /// For people.
    pub message: String,
}

/// A rule on resources, as `SelfSubjectRulesReview` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceRule {
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
    /// API groups, `*` for all.
    pub api_groups: Vec<String>,
    /// Resources, `*` for all.
    pub resources: Vec<String>,
    /// Names; none means all.
    pub resource_names: Vec<String>,
}

/// A rule on paths.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NonResourceRule {
    /// Verbs.
    pub verbs: Vec<String>,
    /// Paths, `*` at the end matches the rest.
    pub urls: Vec<String>,
}

/// What a user may do in a namespace, as far as an authorizer can list it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Rules on resources.
    pub resource_rules: Vec<ResourceRule>,
    /// Rules on paths.
    pub non_resource_rules: Vec<NonResourceRule>,
    /// Whether the list may lack rules.
    pub incomplete: bool,
    /// Why it may.
    pub evaluation_error: String,
}

/// Decides whether a request may proceed.
#[async_trait]
pub trait Authorizer: Send + Sync {
    /// The decision and its reason (may be empty).
    ///
    /// # Errors
    /// The decision could not be made; the chain goes on and denies when nobody allows.
    async fn authorize(&self, attributes: &Attributes) -> Result<(Decision, String), AuthorizerError>;

    /// What the user may do in a namespace.
    async fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> Rules {
        Rules {
            incomplete: true,
            evaluation_error: "authorizer does not support listing rules".into(),
            ..Rules::default()
        }
    }
}
