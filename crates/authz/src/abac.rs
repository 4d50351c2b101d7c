//! ABAC: a file with one policy per line (`--authorization-policy-file`).

use async_trait::async_trait;
use auth_api::{
    Attributes, Authorizer, AuthorizerError, Decision, NonResourceRule, ResourceRule, Rules, UserInfo, groups,
};
use serde::Deserialize;
use serde_json::Value;

/// One line's policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

/// The policies of a file.
pub struct Abac(Vec<Policy>);

impl Abac {
    /// Reads a file's text: versioned policies, or those without a version of old.
    ///
    /// # Errors
    /// A line that is none, by number.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut policies = Vec::new();
        for (i, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let policy = parse(line).map_err(|e| format!("error reading policy file: line {}: {line}: {e}", i + 1))?;
            policies.push(policy);
        }
        Ok(Self(policies))
    }
}

fn parse(line: &str) -> Result<Policy, String> {
    let tree: Value = serde_json::from_str(line).map_err(|e| e.to_string())?;
    let mut policy = match (tree.get("apiVersion").and_then(Value::as_str), tree.get("kind").and_then(Value::as_str)) {
        (None, None) => {
            let mut policy: Policy = serde_json::from_value(tree).map_err(|e| e.to_string())?;
            if policy.user.is_empty() && policy.group.is_empty() {
                policy.group = groups::AUTHENTICATED.into();
            }
            // Of old, what was not named was everything, paths included.
            if policy.namespace.is_empty() && policy.resource.is_empty() {
                policy.non_resource_path = "*".into();
            }
            for field in [&mut policy.namespace, &mut policy.resource, &mut policy.api_group] {
                if field.is_empty() {
                    "*".clone_into(field);
                }
            }
            policy
        }
        (Some("abac.authorization.kubernetes.io/v1beta1"), Some("Policy")) => {
            serde_json::from_value(tree.get("spec").cloned().unwrap_or_default()).map_err(|e| e.to_string())?
        }
        (version, kind) => {
            return Err(format!(
                "no kind {:?} is registered for version {:?}",
                kind.unwrap_or(""),
                version.unwrap_or("")
            ));
        }
    };
    // Everybody is everybody who is known.
    if policy.user == "*" || policy.group == "*" {
        policy.user.clear();
        policy.group = groups::AUTHENTICATED.into();
    }
    Ok(policy)
}

impl Policy {
    fn is_for(&self, user: &UserInfo) -> bool {
        (self.user.is_empty() || self.user == user.name)
            && (self.group.is_empty() || user.in_group(&self.group))
            && !(self.user.is_empty() && self.group.is_empty())
    }

    fn allows(&self, of: &Attributes) -> bool {
        let fits = |wanted: &str, is: &str| wanted == "*" || wanted == is;
        if !self.is_for(&of.user) || (self.readonly && !of.is_read_only()) {
            return false;
        }
        if of.resource_request {
            return fits(&self.namespace, &of.namespace)
                && fits(&self.resource, &of.resource)
                && fits(&self.api_group, &of.api_group);
        }
        match self.non_resource_path.strip_suffix('*') {
            Some(prefix) => of.path.starts_with(prefix.trim_end_matches('*')),
            None => !self.non_resource_path.is_empty() && self.non_resource_path == of.path,
        }
    }

    fn verbs(&self) -> Vec<String> {
        let verbs: &[&str] = if self.readonly { &["get", "list", "watch"] } else { &["*"] };
        verbs.iter().map(|v| (*v).to_owned()).collect()
    }
}

#[async_trait]
impl Authorizer for Abac {
    async fn authorize(&self, attributes: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        if self.0.iter().any(|p| p.allows(attributes)) {
            return Ok((Decision::Allow, String::new()));
        }
        Ok((Decision::NoOpinion, "No policy matched.".into()))
    }

    async fn rules_for(&self, user: &UserInfo, namespace: &str) -> Rules {
        let mut rules = Rules::default();
        for policy in self.0.iter().filter(|p| p.is_for(user)) {
            if !policy.resource.is_empty() && (policy.namespace == "*" || policy.namespace == namespace) {
                rules.resource_rules.push(ResourceRule {
                    verbs: policy.verbs(),
                    api_groups: vec![policy.api_group.clone()],
                    resources: vec![policy.resource.clone()],
                    resource_names: Vec::new(),
                });
            }
            if !policy.non_resource_path.is_empty() {
                let urls = vec![policy.non_resource_path.clone()];
                rules.non_resource_rules.push(NonResourceRule { verbs: policy.verbs(), urls });
            }
        }
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
# comment
{"user":"alice"}
{"user":"kubelet","resource":"pods","readonly":true}
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"user":"bob","namespace":"projectCaribou","resource":"pods","apiGroup":"*","readonly":true}}
{"apiVersion":"abac.authorization.kubernetes.io/v1beta1","kind":"Policy","spec":{"group":"*","readonly":true,"nonResourcePath":"/healthz*"}}
"#;

    #[tokio::test]
    async fn lines_allow() {
        let abac = Abac::parse(FILE).expect("policies");
        let ask = |user: &str, verb: &str, namespace: &str, resource: &str| Attributes {
            user: UserInfo::new(user, &[]),
            verb: verb.into(),
            namespace: namespace.into(),
            resource: resource.into(),
            resource_request: true,
            ..Attributes::default()
        };
        for (attributes, allowed) in [
            (ask("alice", "delete", "x", "nodes"), true),
            (ask("kubelet", "get", "x", "pods"), true),
            (ask("kubelet", "create", "x", "pods"), false),
            (ask("bob", "get", "projectCaribou", "pods"), true),
            (ask("bob", "get", "default", "pods"), false),
            (ask("carol", "get", "default", "pods"), false),
        ] {
            let decision = abac.authorize(&attributes).await.expect("decided").0;
            assert_eq!(decision == Decision::Allow, allowed, "{attributes:?}");
        }
        let path = |user: UserInfo| Attributes {
            user,
            verb: "get".into(),
            path: "/healthz/x".into(),
            ..Attributes::default()
        };
        let known = abac.authorize(&path(UserInfo::new("carol", &[]))).await.expect("decided").0;
        assert_eq!(known, Decision::Allow);
        let unknown = abac.authorize(&path(UserInfo::anonymous())).await.expect("decided").0;
        assert_eq!(unknown, Decision::NoOpinion);
        assert!(Abac::parse("{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}").is_err());
    }
}
