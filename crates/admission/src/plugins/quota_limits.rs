//! `limitedResources` of ResourceQuota's configuration: what nobody may consume without a quota that covers it.

use std::collections::BTreeSet;
use std::sync::Arc;

use component_helpers::quota::{Evaluator, resources};
use meta::{Object, Status};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::plugin::{Deps, Request};
use crate::pod::{items, text};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Configuration {
    limited_resources: Vec<Limited>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Limited {
    api_group: String,
    resource: String,
    match_contains: Vec<String>,
    match_scopes: Vec<Value>,
}

/// What is limited.
#[derive(Debug, Default)]
pub(super) struct Limits(Vec<Limited>);

/// Whether an object is in the scope of one requirement.
fn is_in(evaluator: &Evaluator, requirement: &Value, object: &Object) -> bool {
    let mut quota = Object::default();
    quota.set(&["spec", "scopeSelector", "matchExpressions"], json!([requirement]));
    evaluator.in_scope(&quota, object)
}

/// The scopes that a quota asks for, as requirements.
fn scopes(quota: &Object) -> Vec<Value> {
    let null = Value::Null;
    let spec = quota.get(&["spec"]).unwrap_or(&null);
    let plain = items(spec, "scopes").map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let selected = spec.get("scopeSelector").into_iter().flat_map(|s| items(s, "matchExpressions")).cloned();
    plain.chain(selected).collect()
}

impl Limits {
    /// As configured.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub(super) fn new(deps: &Deps) -> Result<Self, String> {
        let kinds = [
            ("apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"),
            ("resourcequota.admission.k8s.io/v1beta1", "Configuration"),
            ("resourcequota.admission.k8s.io/v1alpha1", "Configuration"),
        ];
        let found: Option<Configuration> = deps.settings.configs.typed("ResourceQuota", &kinds)?;
        let limits = found.unwrap_or_default().limited_resources;
        if let Some(at) = limits.iter().position(|limit| limit.resource.is_empty()) {
            return Err(format!("limitedResources[{at}].resource: Required value"));
        }
        Ok(Self(limits))
    }

    /// Whether nothing is.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses an object that consumes what is limited where no quota covers it.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn check(
        &self,
        request: &Request<'_>,
        evaluator: &Evaluator,
        object: &Object,
        quotas: &[Arc<Object>],
    ) -> Result<(), Status> {
        let own =
            |limit: &&Limited| limit.resource == request.resource.resource && limit.api_group == request.resource.group;
        let usage = evaluator.usage(object, rt::time::unix_seconds());
        let contains =
            |limit: &Limited, name: &str| limit.match_contains.iter().any(|part| name.contains(part.as_str()));
        let consumed = usage.iter().filter(|(_, quantity)| quantity.sign() > 0).map(|(name, _)| name);
        let mut uncovered: BTreeSet<&String> =
            consumed.filter(|name| self.0.iter().filter(own).any(|limit| contains(limit, name))).collect();
        let mut open: Vec<&Value> =
            self.0.iter().flat_map(|limit| &limit.match_scopes).filter(|s| is_in(evaluator, s, object)).collect();
        for quota in quotas {
            let matching: Vec<Value> = scopes(quota).into_iter().filter(|s| is_in(evaluator, s, object)).collect();
            open.retain(|limit| !matching.iter().any(|s| text(s, &["scopeName"]) == text(limit, &["scopeName"])));
            if evaluator.matches(quota, object) {
                let covered = evaluator.matching(&resources(quota.get(&["status", "hard"])));
                uncovered.retain(|name| !covered.contains(*name));
            }
        }
        if !uncovered.is_empty() {
            let names: Vec<&str> = uncovered.iter().map(|name| name.as_str()).collect();
            let cause = format!("insufficient quota to consume: {}", names.join(","));
            return Err(request.forbidden(Some(object), cause));
        }
        if open.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = open
            .iter()
            .map(|s| {
                let values: Vec<&str> = items(s, "values").filter_map(Value::as_str).collect();
                format!("{{{} {} [{}]}}", text(s, &["scopeName"]), text(s, &["operator"]), values.join(" "))
            })
            .collect();
        let cause = format!("insufficient quota to match these scopes: [{}]", shown.join(" "));
        Err(request.forbidden(Some(object), cause))
    }
}
