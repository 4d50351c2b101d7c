//! One policy rule: does it allow a request, does it cover another rule.

use auth_api::Attributes;
use serde::{Deserialize, Serialize};

use meta::Object;

/// A `PolicyRule` of a role.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Rule {
    /// API groups, `*` for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Resources, `*` for all, `*/scale` for a subresource of all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Names; none means all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths, `*` at the end for the rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub non_resource_urls: Vec<String>,
    /// Verbs, `*` for all.
    pub verbs: Vec<String>,
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == wanted)
}

fn has_or_star(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn path_covers(owner: &str, path: &str) -> bool {
    owner == path || owner.strip_suffix('*').is_some_and(|_| path.starts_with(owner.trim_end_matches('*')))
}

/// The rules of a Role or ClusterRole; a malformed list counts as none.
pub fn rules_of(role: &Object) -> Vec<Rule> {
    let rules = role.body.get("rules").cloned().unwrap_or_default();
    serde_json::from_value::<Option<Vec<Rule>>>(rules).ok().flatten().unwrap_or_default()
}

impl Rule {
    /// The rule that allows everything on resources, and the one on paths.
    pub fn full_authority() -> [Rule; 2] {
        let every = || vec!["*".to_owned()];
        [
            Rule { api_groups: every(), resources: every(), verbs: every(), ..Rule::default() },
            Rule { non_resource_urls: every(), verbs: every(), ..Rule::default() },
        ]
    }

    /// Whether the rule allows a request.
    pub fn allows(&self, attributes: &Attributes) -> bool {
        if !has_or_star(&self.verbs, &attributes.verb) {
            return false;
        }
        if !attributes.resource_request {
            return self.non_resource_urls.iter().any(|url| path_covers(url, &attributes.path));
        }
        has_or_star(&self.api_groups, &attributes.api_group)
            && self.matches_resource(&attributes.resource, &attributes.subresource)
            && (self.resource_names.is_empty() || has(&self.resource_names, &attributes.name))
    }

    fn matches_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|wanted| match wanted.split_once('/') {
            None => wanted == "*" || (subresource.is_empty() && wanted == resource),
            Some((head, tail)) => !subresource.is_empty() && tail == subresource && (head == "*" || head == resource),
        })
    }

    /// The same permissions as rules of one group, resource, name and verb each.
    pub fn breakdown(&self) -> Vec<Rule> {
        let one = |text: &String| vec![text.clone()];
        let mut out = Vec::new();
        for group in &self.api_groups {
            for resource in &self.resources {
                for verb in &self.verbs {
                    let rule =
                        Rule { api_groups: one(group), resources: one(resource), verbs: one(verb), ..Rule::default() };
                    if self.resource_names.is_empty() {
                        out.push(rule);
                    } else {
                        out.extend(self.resource_names.iter().map(|n| Rule { resource_names: one(n), ..rule.clone() }));
                    }
                }
            }
        }
        for url in &self.non_resource_urls {
            out.extend(self.verbs.iter().map(|v| Rule {
                non_resource_urls: one(url),
                verbs: one(v),
                ..Rule::default()
            }));
        }
        out
    }

    /// Whether this rule covers another, which has at most one item per field.
    fn covers(&self, other: &Rule) -> bool {
        let resource_covered = |wanted: &String| {
            has_or_star(&self.resources, wanted)
                || wanted.split_once('/').is_some_and(|(_, sub)| has(&self.resources, &format!("*/{sub}")))
        };
        other.verbs.iter().all(|v| has_or_star(&self.verbs, v))
            && other.api_groups.iter().all(|g| has_or_star(&self.api_groups, g))
            && other.resources.iter().all(resource_covered)
            && other.non_resource_urls.iter().all(|p| self.non_resource_urls.iter().any(|o| path_covers(o, p)))
            && (self.resource_names.is_empty()
                || (!other.resource_names.is_empty()
                    && other.resource_names.iter().all(|n| has(&self.resource_names, n))))
    }

    /// The rule as error messages show it.
    pub fn compact(&self) -> String {
        let parts: Vec<String> = [
            ("APIGroups", &self.api_groups),
            ("Resources", &self.resources),
            ("NonResourceURLs", &self.non_resource_urls),
            ("ResourceNames", &self.resource_names),
            ("Verbs", &self.verbs),
        ]
        .iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", go_list(list)))
        .collect();
        format!("{{{}}}", parts.join(", "))
    }
}

/// A list of strings as Go's `%q` prints it: `["a" "b"]`.
pub(crate) fn go_list(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// What of `wanted` is not covered by `owned`, broken down.
pub fn missing(owned: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let parts = wanted.iter().flat_map(Rule::breakdown);
    parts.filter(|part| !owned.iter().any(|rule| rule.covers(part))).collect()
}

/// Joins broken-down rules that differ in their verb only.
pub fn join_verbs(rules: Vec<Rule>) -> Vec<Rule> {
    let mut joined: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut Rule| {
            rule.non_resource_urls.is_empty()
                && other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
                && other.non_resource_urls.is_empty()
        };
        match joined.iter_mut().find(same) {
            Some(other) => other.verbs.extend(rule.verbs),
            None => joined.push(rule),
        }
    }
    joined
}
