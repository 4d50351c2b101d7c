//! The policy file: which requests are recorded, and how much of them.

use auth_api::Attributes;
use serde::Deserialize;

use super::trail::Stage;

/// How much is recorded; more includes less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize, serde::Serialize)]
pub(crate) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// `audit.k8s.io/v1 Policy`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Policy {
    api_version: String,
    kind: String,
    #[serde(default)]
    #[allow(dead_code, reason = "allowed in the file, of no meaning")]
    metadata: serde_json::Value,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Rule {
    level: Option<Level>,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<GroupResources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct GroupResources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

/// What the policy says about a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub level: Level,
    pub omit_stages: Vec<Stage>,
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy.
    pub fn parse(text: &str) -> Result<Self, String> {
        let policy: Self = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
        if policy.api_version != "audit.k8s.io/v1" || policy.kind != "Policy" {
            return Err(format!("no kind {:?} is registered for version {:?}", policy.kind, policy.api_version));
        }
        if policy.rules.is_empty() {
            return Err("loaded illegal policy with 0 rules".to_owned());
        }
        for (i, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|problem| format!("rules[{i}]{problem}"))?;
        }
        Ok(policy)
    }

    /// The first rule that matches decides.
    pub fn evaluate(&self, attributes: &Attributes) -> Wanted {
        let Some(rule) = self.rules.iter().find(|r| r.matches(attributes)) else { return Wanted::default() };
        let mut omit_stages = self.omit_stages.clone();
        omit_stages.extend(&rule.omit_stages);
        Wanted {
            level: rule.level.unwrap_or_default(),
            omit_stages,
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        if self.level.is_none() {
            return Err(".level: Required value".to_owned());
        }
        let resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if !self.non_resource_urls.is_empty() && resources {
            return Err(
                ".nonResourceURLs: Invalid value: rules cannot apply to both regular resources and non-resource URLs"
                    .to_owned(),
            );
        }
        for url in &self.non_resource_urls {
            if url != "*" && !url.starts_with('/') {
                return Err(format!(
                    ".nonResourceURLs: Invalid value: {url:?}: non-resource URL rules must begin with a '/' character"
                ));
            }
            if url != "*" && url.trim_end_matches('*').contains('*') {
                return Err(format!(
                    ".nonResourceURLs: Invalid value: {url:?}: non-resource URL wildcards '*' must be the final character of \
                     the rule"
                ));
            }
        }
        match self.resources.iter().find(|r| r.resources.is_empty() && !r.resource_names.is_empty()) {
            Some(_) => Err(".resources: Invalid value: using resourceNames requires at least one resource".to_owned()),
            None => Ok(()),
        }
    }

    fn matches(&self, of: &Attributes) -> bool {
        let has = |list: &[String], what: &str| list.iter().any(|l| l == what);
        if !self.users.is_empty() && !has(&self.users, &of.user.name)
            || !self.user_groups.is_empty() && !of.user.groups.iter().any(|g| has(&self.user_groups, g))
            || !self.verbs.is_empty() && !has(&self.verbs, &of.verb)
        {
            return false;
        }
        if !self.namespaces.is_empty() || !self.resources.is_empty() {
            return of.resource_request
                && (self.namespaces.is_empty() || has(&self.namespaces, &of.namespace))
                && (self.resources.is_empty() || self.resources.iter().any(|r| r.matches(of)));
        }
        if self.non_resource_urls.is_empty() {
            return true;
        }
        let matches = |url: &String| match url.strip_suffix('*') {
            Some(prefix) => of.path.starts_with(prefix.trim_end_matches('*')),
            None => *url == of.path,
        };
        !of.resource_request && self.non_resource_urls.iter().any(matches)
    }
}

impl GroupResources {
    fn matches(&self, of: &Attributes) -> bool {
        if self.group != of.api_group && self.group != "*" {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || self.resource_names.contains(&of.name);
        let combined = of.combined_resource();
        let matches = |resource: &String| {
            resource == "*"
                || *resource == combined
                || resource.strip_prefix("*/").is_some_and(|sub| !sub.is_empty() && sub == of.subresource)
                || resource.strip_suffix("/*").is_some_and(|main| main == of.resource)
        };
        named && self.resources.iter().any(matches)
    }
}
