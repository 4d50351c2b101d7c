//! `--runtime-config`: which API versions and resources are served.

use meta::{GroupVersionKind, Object, Status};
use registry::KindRow;

/// Versions that upstream has and does not serve unless told to, whose fields are those of the version that is served: group,
/// version, resources.
const SILENT: &[(&str, &str, &[&str])] = &[
    ("networking.k8s.io", "v1beta1", &["ipaddresses", "servicecidrs"]),
    ("storage.k8s.io", "v1beta1", &["volumeattributesclasses"]),
    ("resource.k8s.io", "v1beta2", &["deviceclasses", "resourceclaims", "resourceclaimtemplates", "resourceslices"]),
    ("admissionregistration.k8s.io", "v1beta1", &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"]),
    ("admissionregistration.k8s.io", "v1alpha1", &["mutatingadmissionpolicies", "mutatingadmissionpolicybindings"]),
];

/// The flag's entries in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct RuntimeConfig(Vec<(String, bool)>);

fn same(_object: &mut Object, _from: &GroupVersionKind, _to: &GroupVersionKind) -> Result<(), Status> {
    Ok(())
}

/// `alpha`, `beta` or `ga`.
fn stage(version: &str) -> &'static str {
    if version.contains("alpha") {
        "alpha"
    } else if version.contains("beta") {
        "beta"
    } else {
        "ga"
    }
}

impl RuntimeConfig {
    /// Reads the flag.
    ///
    /// # Errors
    /// An entry that is no switch.
    pub fn parse(entries: &[String]) -> Result<Self, String> {
        let mut all = Vec::new();
        for entry in entries.iter().map(|e| e.trim()).filter(|e| !e.is_empty()) {
            let (key, value) = entry.split_once('=').unwrap_or((entry, "true"));
            let on = match value.to_lowercase().as_str() {
                "true" | "1" | "t" | "" => true,
                "false" | "0" | "f" => false,
                _ => return Err(format!("runtime-config: invalid value {entry}={value}")),
            };
            let known = matches!(key, "api/all" | "api/ga" | "api/beta" | "api/alpha" | "api/legacy");
            if key.starts_with("api/") && !known && key != "api/v1" {
                return Err(format!("runtime-config: unknown key {key}"));
            }
            all.push((key.to_owned(), on));
        }
        Ok(Self(all))
    }

    /// Whether a resource's version is served; `default` when nothing is said of it. What is said of a resource wins over what is
    /// said of its version, and that over its stage and `api/all`.
    fn served(&self, group: &str, version: &str, resource: &str, default: bool) -> bool {
        let group_version = if group.is_empty() { format!("api/{version}") } else { format!("{group}/{version}") };
        let bare = if group.is_empty() { version.to_owned() } else { group_version.clone() };
        let keys = [
            format!("{bare}/{resource}"),
            group_version,
            bare,
            format!("api/{}", stage(version)),
            "api/all".to_owned(),
        ];
        let said = keys.iter().find_map(|key| self.0.iter().rev().find(|(k, _)| k == key));
        said.map_or(default, |(_, on)| *on)
    }

    /// The rows that are served, each with its versions.
    ///
    /// # Errors
    /// An entry switches on what there is not here.
    pub fn apply(&self, rows: Vec<KindRow>) -> Result<Vec<KindRow>, String> {
        self.check(&rows)?;
        let mut served = Vec::new();
        for mut row in rows {
            let (group, plural) = (row.group.clone(), row.plural.clone());
            row.versions.retain(|version| self.served(&group, version, &plural, stage(version) != "alpha"));
            for (_, version, _) in
                SILENT.iter().filter(|(g, _, plurals)| *g == group && plurals.contains(&plural.as_str()))
            {
                if self.served(&group, version, &plural, false) && !row.versions.iter().any(|v| v == version) {
                    row.versions.push((*version).to_owned());
                    row.convert.get_or_insert(same);
                }
            }
            if !row.versions.is_empty() {
                served.push(row);
            }
        }
        Ok(served)
    }

    /// Refuses what names a version or a resource that is not here: it would be silence where an API is expected.
    fn check(&self, rows: &[KindRow]) -> Result<(), String> {
        for (key, on) in self.0.iter().filter(|(key, _)| !key.starts_with("api/")) {
            let parts: Vec<&str> = key.split('/').collect();
            let (group, version, resource) = match parts.as_slice() {
                ["v1"] => ("", "v1", None),
                ["v1", resource] => ("", "v1", Some(*resource)),
                [group, version] => (*group, *version, None),
                [group, version, resource] => (*group, *version, Some(*resource)),
                _ => return Err(format!("runtime-config: unknown api groups {key}")),
            };
            let fits = |plural: &str| resource.is_none_or(|r| r == plural);
            let here = rows
                .iter()
                .any(|r| r.group == group && r.versions.iter().any(|v| v == version) && fits(&r.plural))
                || SILENT.iter().any(|(g, v, plurals)| *g == group && *v == version && plurals.iter().any(|p| fits(p)));
            if *on && !here {
                return Err(format!("--runtime-config: {key} is not implemented"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> RuntimeConfig {
        RuntimeConfig::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>()).expect("it is well formed")
    }

    #[test]
    fn the_nearer_word_counts() {
        for (flag, version, default, served) in [
            ("", "v1", true, true),
            ("api/all=false", "v1", true, false),
            ("api/all=false,apps/v1=true", "v1", true, true),
            ("api/beta=true", "v1beta1", false, true),
            ("api/alpha=true", "v1beta1", false, false),
            ("apps/v1/things=false", "v1", true, false),
            ("apps/v1=false,apps/v1/things", "v1", true, true),
        ] {
            assert_eq!(config(flag).served("apps", version, "things", default), served, "{flag}");
        }
        assert!(RuntimeConfig::parse(&["api/nope=true".to_owned()]).is_err());
        assert!(config("nope.io/v1=true").apply(Vec::new()).is_err());
        assert!(config("nope.io/v1=false").apply(Vec::new()).is_ok());
    }
}
