//! Role-based access control.

mod escalation;
mod index;
mod rule;

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{
    Attributes, Authorizer, AuthorizerError, Decision, Lookup, NonResourceRule, ResourceRule, Rules, UserInfo,
};

pub use escalation::{Escalation, Write};
pub use index::{Index, RoleRef};
pub use rule::{Rule, join_verbs, missing, rules_of};

use crate::feed::{Progress, feed};

const GROUP: &str = "rbac.authorization.k8s.io";
const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// Allows what roles bound to the user allow; never denies.
pub struct RbacAuthorizer {
    index: Arc<Index>,
    progress: Progress,
}

impl RbacAuthorizer {
    /// Starts following roles and bindings.
    pub fn start(lookup: &Arc<dyn Lookup>, shutdown: &rt::Shutdown) -> Self {
        let index = Arc::new(Index::default());
        let progress = Progress::new(RESOURCES.len());
        for resource in RESOURCES {
            feed(lookup, (GROUP, "v1", resource), index.clone(), progress.clone(), shutdown.child());
        }
        Self { index, progress }
    }

    /// Waits until all roles and bindings are known.
    pub async fn synced(&self) {
        self.progress.synced().await;
    }

    /// The index, for rules of a user or a role.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// All rules of a user in a namespace, and the errors of bindings whose role is missing.
    pub fn policy_rules(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        self.index.visit(user, namespace, |_, found| {
            match found {
                Ok(rule) => rules.push(rule.clone()),
                Err(error) => errors.push(error),
            }
            true
        });
        (rules, errors)
    }
}

/// Errors as upstream's aggregate prints them: one bare, several in brackets, each once.
fn aggregate(mut errors: Vec<String>) -> String {
    let mut seen = Vec::new();
    errors.retain(|e| {
        !seen.contains(e) && {
            seen.push(e.clone());
            true
        }
    });
    match errors.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[async_trait]
impl Authorizer for RbacAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        let (mut allowed_by, mut errors) = (None, Vec::new());
        self.index.visit(&attributes.user, &attributes.namespace, |source, found| {
            match found {
                Ok(rule) if rule.allows(attributes) => allowed_by = Some(source()),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
            allowed_by.is_none()
        });
        Ok(match allowed_by {
            Some(source) => (Decision::Allow, format!("RBAC: allowed by {source}")),
            None if errors.is_empty() => (Decision::NoOpinion, String::new()),
            None => (Decision::NoOpinion, format!("RBAC: {}", aggregate(errors))),
        })
    }

    async fn rules_for(&self, user: &UserInfo, namespace: &str) -> Rules {
        let (rules, errors) = self.policy_rules(user, namespace);
        let mut all = Rules::default();
        for rule in rules {
            if !rule.resources.is_empty() {
                all.resource_rules.push(ResourceRule {
                    verbs: rule.verbs.clone(),
                    api_groups: rule.api_groups,
                    resources: rule.resources,
                    resource_names: rule.resource_names,
                });
            }
            if !rule.non_resource_urls.is_empty() {
                all.non_resource_rules.push(NonResourceRule { verbs: rule.verbs, urls: rule.non_resource_urls });
            }
        }
        if !errors.is_empty() {
            all.evaluation_error = aggregate(errors);
        }
        all
    }
}
