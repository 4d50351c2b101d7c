//! `--authorization-config`: `apiserver.config.k8s.io AuthorizationConfiguration`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::union::Member;
use crate::webhook::{Webhook, WebhookOptions};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct One {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<Hook>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Hook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: String,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: String,
    cache_unauthorized_requests: Option<bool>,
    timeout: String,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: Connection,
    match_conditions: Vec<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Connection {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    expression: String,
}

/// Reads the file's text: the authorizers in order.
///
/// # Errors
/// What is wrong, with its place.
pub fn parse(text: &str) -> Result<Vec<Member>, String> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if file.kind != "AuthorizationConfiguration" || !known.contains(&file.api_version) {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    if file.authorizers.is_empty() {
        return Err("authorizers: Required value: at least one authorization mode must be defined".into());
    }
    let (mut members, mut kinds, mut names) = (Vec::new(), Vec::new(), Vec::new());
    for (i, one) in file.authorizers.into_iter().enumerate() {
        let at = format!("authorizers[{i}]");
        if one.name.is_empty() {
            return Err(format!("{at}.name: Required value"));
        }
        if let Some(wrong) = meta::names::dns1123_subdomain(&one.name).first() {
            return Err(format!(
                "{at}.name: Invalid value: {:?}: authorizer name is invalid, must be a valid DNS1123 subdomain: {wrong}",
                one.name
            ));
        }
        if names.contains(&one.name) {
            return Err(format!("{at}.name: Duplicate value: {:?}", one.name));
        }
        if one.kind != "Webhook" && kinds.contains(&one.kind) {
            return Err(format!("{at}.type: Duplicate value: {:?}", one.kind));
        }
        if one.kind != "Webhook" && one.webhook.is_some() {
            return Err(format!("{at}.webhook: Invalid value: may only be specified when type=Webhook"));
        }
        members.push(match (one.kind.as_str(), one.webhook) {
            ("Webhook", Some(hook)) => Member::Webhook(Arc::new(webhook(hook, &one.name, &format!("{at}.webhook"))?)),
            ("Webhook", None) => return Err(format!("{at}.webhook: Required value: required when type=Webhook")),
            ("AlwaysAllow", _) => Member::AlwaysAllow,
            ("AlwaysDeny", _) => Member::AlwaysDeny,
            ("Node", _) => Member::Node,
            ("RBAC", _) => Member::Rbac,
            (other, _) => {
                return Err(format!(
                    "{at}.type: Unsupported value: {other:?}: supported values: \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \
                     \"RBAC\", \"Webhook\""
                ));
            }
        });
        kinds.push(one.kind);
        names.push(one.name);
    }
    Ok(members)
}

fn webhook(hook: Hook, name: &str, at: &str) -> Result<Webhook, String> {
    let duration = |name: &str, text: &str, absent: u64| match text {
        "" => Ok(Duration::from_secs(absent)),
        text => meta::time::parse_go_duration(text)
            .filter(|d| !d.is_zero())
            .ok_or_else(|| format!("{at}.{name}: Invalid value: {text:?}: must be a positive duration")),
    };
    let timeout = duration("timeout", &hook.timeout, 0)?;
    if timeout.is_zero() || timeout > Duration::from_secs(30) {
        return Err(format!("{at}.timeout: Invalid value: {:?}: must be > 0s and <= 30s", hook.timeout));
    }
    if !matches!(hook.subject_access_review_version.as_str(), "v1" | "v1beta1") {
        let version = &hook.subject_access_review_version;
        return Err(format!(
            "{at}.subjectAccessReviewVersion: Unsupported value: {version:?}: supported values: \"v1\", \"v1beta1\""
        ));
    }
    let conditions: Vec<String> = hook.match_conditions.into_iter().map(|c| c.expression).collect();
    if hook.match_condition_subject_access_review_version != "v1" && !conditions.is_empty() {
        return Err(format!("{at}.matchConditionSubjectAccessReviewVersion: Required value: must be v1"));
    }
    let deny_on_failure = match hook.failure_policy.as_str() {
        "Deny" => true,
        "NoOpinion" => false,
        other => {
            return Err(format!(
                "{at}.failurePolicy: Unsupported value: {other:?}: supported values: \"Deny\", \"NoOpinion\""
            ));
        }
    };
    let file = match (hook.connection_info.kind.as_str(), hook.connection_info.kube_config_file) {
        ("KubeConfigFile", Some(file)) => file,
        ("KubeConfigFile", None) => return Err(format!("{at}.connectionInfo.kubeConfigFile: Required value")),
        (other, _) => {
            return Err(format!(
                "{at}.connectionInfo.type: Unsupported value: {other:?}: supported values: \"KubeConfigFile\" \
                 (InClusterConfig is for servers in pods)"
            ));
        }
    };
    let kept = |cached: Option<bool>, ttl: Duration| if cached == Some(false) { Duration::ZERO } else { ttl };
    let options = WebhookOptions {
        name: name.to_owned(),
        version: hook.subject_access_review_version,
        authorized_ttl: kept(hook.cache_authorized_requests, duration("authorizedTTL", &hook.authorized_ttl, 300)?),
        unauthorized_ttl: kept(
            hook.cache_unauthorized_requests,
            duration("unauthorizedTTL", &hook.unauthorized_ttl, 30)?,
        ),
        timeout,
        deny_on_failure,
        conditions,
    };
    Webhook::new(&file, options).map_err(|e| format!("{at}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(authorizers: &str) -> String {
        format!(
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: {authorizers}\n"
        )
    }

    #[test]
    fn files_are_checked() {
        let kinds = parse(&file("[{type: Node, name: a}, {type: RBAC, name: b}]")).expect("a configuration");
        assert!(matches!(kinds[..], [Member::Node, Member::Rbac]));
        let hook = "timeout: 3s, subjectAccessReviewVersion: v1, matchConditionSubjectAccessReviewVersion: v1";
        let connection = "connectionInfo: {type: KubeConfigFile, kubeConfigFile: /nonexistent}";
        let with = |more: &str| file(&format!("[{{type: Webhook, name: w, webhook: {{{hook}, {more}}}}}]"));
        for (text, wanted) in [
            (file("[]"), "at least one authorization mode"),
            (file("[{type: ABAC, name: a}]"), "Unsupported value: \"ABAC\""),
            (file("[{type: RBAC, name: a}, {type: Node, name: a}]"), "authorizers[1].name: Duplicate value"),
            (file("[{type: RBAC, name: a}, {type: RBAC, name: b}]"), "authorizers[1].type: Duplicate value"),
            (file("[{type: Webhook, name: a}]"), "required when type=Webhook"),
            (file("[{type: Webhook, name: a, webhook: {}}]"), "timeout: Invalid value"),
            (with(&format!("failurePolicy: Maybe, {connection}")), "failurePolicy: Unsupported value"),
            (with("failurePolicy: Deny, connectionInfo: {type: InClusterConfig}"), "connectionInfo.type"),
            (with(&format!("failurePolicy: Deny, {connection}")), "/nonexistent"),
        ] {
            let error = parse(&text).err().unwrap_or_else(|| panic!("accepted {text}"));
            assert!(error.contains(wanted), "{error} is not {wanted}");
        }
    }
}
