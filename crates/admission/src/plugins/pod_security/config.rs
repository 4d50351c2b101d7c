//! `PodSecurityConfiguration`: defaults for namespaces without labels, and who is exempt.

use std::collections::BTreeSet;
use std::sync::Arc;

use meta::field::{Error, Path};
use meta::names;
use serde::Deserialize;
use serde_json::Value;

use super::PodSecurity;
use super::level::{LevelVersion, Policy, parse_level, parse_version};
use crate::plugin::{Deps, Plugin};
use crate::pod::text;

/// Who is exempt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Exemptions {
    pub(super) users: BTreeSet<String>,
    pub(super) namespaces: BTreeSet<String>,
    classes: BTreeSet<String>,
}

impl Exemptions {
    /// Whether the pods of such a spec have an exempt runtime class.
    pub(super) fn has_class(&self, spec: &Value) -> bool {
        let class = text(spec, &["runtimeClassName"]);
        !class.is_empty() && self.classes.contains(class)
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Configuration {
    defaults: Defaults,
    exemptions: Exempt,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Exempt {
    usernames: Vec<String>,
    namespaces: Vec<String>,
    runtime_classes: Vec<String>,
}

/// One mode; what is not said is `privileged` and `latest`.
fn mode(name: &str, level: &str, version: &str, errors: &mut Vec<Error>) -> LevelVersion {
    let path = Path::new("defaults");
    let mut found = Policy::default().enforce;
    match parse_level(if level.is_empty() { "privileged" } else { level }) {
        Ok(level) => found.level = level,
        Err(cause) => errors.push(Error::invalid(&path.child(name), level, cause)),
    }
    match parse_version(if version.is_empty() { "latest" } else { version }) {
        Ok(version) => found.version = version,
        Err(cause) => errors.push(Error::invalid(&path.child(&format!("{name}-version")), version, cause)),
    }
    found
}

fn set(field: &str, all: Vec<String>, check: fn(&str) -> Vec<String>, errors: &mut Vec<Error>) -> BTreeSet<String> {
    let path = Path::new("exemptions").child(field);
    let mut found = BTreeSet::new();
    for (i, name) in all.into_iter().enumerate() {
        let wrong = check(&name);
        if !wrong.is_empty() {
            errors.push(Error::invalid(&path.index(i), name, wrong.join(", ")));
        } else if found.contains(&name) {
            errors.push(Error::duplicate(&path.index(i), name));
        } else {
            found.insert(name);
        }
    }
    found
}

fn user(name: &str) -> Vec<String> {
    if name.is_empty() { vec!["username must not be empty".into()] } else { Vec::new() }
}

/// Makes the plugin as configured.
///
/// # Errors
/// The configuration is wrong.
pub fn make(deps: &Deps) -> Result<Arc<dyn Plugin>, String> {
    let kinds = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("pod-security.admission.config.k8s.io/{v}"));
    let kinds: Vec<(&str, &str)> = kinds.iter().map(|version| (version.as_str(), "PodSecurityConfiguration")).collect();
    let found: Option<Configuration> = deps.settings.configs.typed("PodSecurity", &kinds)?;
    let Configuration { defaults: d, exemptions } = found.unwrap_or_default();
    let mut errors = Vec::new();
    let defaults = Policy {
        enforce: mode("enforce", &d.enforce, &d.enforce_version, &mut errors),
        warn: mode("warn", &d.warn, &d.warn_version, &mut errors),
        audit: mode("audit", &d.audit, &d.audit_version, &mut errors),
    };
    let exemptions = Exemptions {
        namespaces: set("namespaces", exemptions.namespaces, names::dns1123_label, &mut errors),
        classes: set("runtimeClasses", exemptions.runtime_classes, names::dns1123_subdomain, &mut errors),
        users: set("usernames", exemptions.usernames, user, &mut errors),
    };
    match errors.len() {
        0 => Ok(Arc::new(PodSecurity { defaults, exemptions })),
        1 => Err(errors.remove(0).to_string()),
        _ => Err(format!("[{}]", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
    }
}
