//! Nobody may grant more than they hold: checks before roles and bindings are written.

use std::sync::Arc;

use auth_api::{Attributes, Authorizer, Decision, UserInfo, groups};
use meta::{GroupResource, Object, Status};
use serde_json::Value;

use super::rule::{Rule, go_list, join_verbs, missing, rules_of};
use super::{GROUP, RbacAuthorizer, RoleRef};

/// Answers whether a user may write a role or a binding as it stands.
pub struct Escalation {
    rbac: Arc<RbacAuthorizer>,
    authorizer: Arc<dyn Authorizer>,
}

/// Who wants to write what. `old` is the stored object on update.
pub struct Write<'a> {
    /// Who.
    pub user: &'a UserInfo,
    /// `roles`, `clusterroles`, `rolebindings` or `clusterrolebindings`.
    pub resource: &'a str,
    /// The request's namespace, empty for cluster-scoped kinds.
    pub namespace: &'a str,
    /// The object to be stored.
    pub object: &'a Object,
    /// The stored object on update.
    pub old: Option<&'a Object>,
}

/// Whether only owner references and finalizers differ, as the garbage collector's updates.
fn only_gc_fields(object: &Object, old: &Object) -> bool {
    let rest = |object: &Object| {
        let mut body = object.body.clone();
        if let Some(Value::Object(metadata)) = body.get_mut("metadata") {
            for field in ["ownerReferences", "finalizers", "managedFields", "resourceVersion"] {
                metadata.remove(field);
            }
        }
        body
    };
    rest(object) == rest(old)
}

fn is_aggregated(role: &Object) -> bool {
    let selectors = role.get(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_array);
    selectors.is_some_and(|list| !list.is_empty())
}

impl Escalation {
    /// `authorizer` is the whole chain: it is asked for the verbs `escalate` and `bind`.
    pub fn new(rbac: Arc<RbacAuthorizer>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    /// Checks a create or update; other resources pass.
    ///
    /// # Errors
    /// 403 in upstream's words, or 404 when a binding's role does not exist.
    pub async fn check(&self, write: &Write<'_>) -> Result<(), Status> {
        if write.user.in_group(groups::MASTERS) || write.old.is_some_and(|old| only_gc_fields(write.object, old)) {
            return Ok(());
        }
        match write.resource {
            "roles" | "clusterroles" => self.check_role(write).await,
            "rolebindings" | "clusterrolebindings" => self.check_binding(write).await,
            _ => Ok(()),
        }
    }

    async fn authorized(&self, write: &Write<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let attributes = Attributes {
            user: write.user.clone(),
            verb: verb.to_owned(),
            namespace: write.namespace.to_owned(),
            api_group: GROUP.to_owned(),
            api_version: "*".to_owned(),
            resource: resource.to_owned(),
            name: name.to_owned(),
            resource_request: true,
            ..Attributes::default()
        };
        matches!(self.authorizer.authorize(&attributes).await, Ok((Decision::Allow, _)))
    }

    async fn check_role(&self, write: &Write<'_>) -> Result<(), Status> {
        if self.authorized(write, "escalate", write.resource, write.object.name()).await {
            return Ok(());
        }
        let refuse = |message: String| {
            Status::forbidden(&GroupResource::new(GROUP, write.resource), write.object.name(), message)
        };
        self.confirm(write, &rules_of(write.object)).map_err(refuse)?;
        let aggregated = is_aggregated(write.object) || write.old.is_some_and(is_aggregated);
        if aggregated && self.confirm(write, &Rule::full_authority()).is_err() {
            return Err(refuse("must have cluster-admin privileges to use the aggregationRule".into()));
        }
        Ok(())
    }

    async fn check_binding(&self, write: &Write<'_>) -> Result<(), Status> {
        let reference = write.object.body.get("roleRef").cloned().unwrap_or_default();
        let role: RoleRef = serde_json::from_value(reference).unwrap_or_default();
        let resource = match role.kind.as_str() {
            "ClusterRole" => "clusterroles",
            _ => "roles",
        };
        if self.authorized(write, "bind", resource, &role.name).await {
            return Ok(());
        }
        let rules = self.rbac.index().role_rules(&role, write.namespace).map_err(|_| {
            let kind = if resource == "roles" { "role" } else { "clusterrole" };
            Status::not_found(&GroupResource::new(GROUP, kind), &role.name)
        })?;
        self.confirm(write, &rules).map_err(|message| {
            Status::forbidden(&GroupResource::new(GROUP, write.resource), write.object.name(), message)
        })
    }

    fn confirm(&self, write: &Write<'_>, wanted: &[Rule]) -> Result<(), String> {
        let (held, errors) = self.rbac.policy_rules(write.user, write.namespace);
        let lacking = missing(&held, wanted);
        if lacking.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = join_verbs(lacking).iter().map(Rule::compact).collect();
        lines.sort();
        lines.dedup();
        let mut message = format!(
            "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
            write.user.name,
            go_list(&write.user.groups),
            lines.join("\n")
        );
        if !errors.is_empty() {
            message.push_str(&format!("; resolution errors: [{}]", super::aggregate(errors)));
        }
        Err(message)
    }
}
