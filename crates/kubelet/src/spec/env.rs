//! A container's environment: envFrom, env with references, and Services.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use volumes::fields::{self, Facts, go_quote};

use crate::k8s::core::{ConfigMap, EnvVarSource, Secret};
use crate::k8s::{Container, Kind, Pod};
use crate::spec::{ConfigError, env_file, expand};

/// Objects that an environment refers to: found, or known to be absent (`None`).
#[derive(Debug, Clone, Default)]
pub struct Referenced {
    /// By name.
    pub config_maps: BTreeMap<String, Option<Arc<ConfigMap>>>,
    /// By name.
    pub secrets: BTreeMap<String, Option<Arc<Secret>>>,
}

/// Names of ConfigMaps and Secrets a container's environment needs.
#[must_use]
pub fn references(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        maps.extend(from.config_map_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(from.secret_ref.as_ref().map(|r| r.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
    }
    (maps, secrets)
}

/// What an environment is made of.
pub struct Inputs<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Addresses and allocatable resources.
    pub facts: &'a Facts,
    /// Objects.
    pub referenced: &'a Referenced,
    /// Variables of Services.
    pub services: BTreeMap<String, String>,
    /// Directories of volumes by name, for `fileKeyRef`.
    pub volumes: &'a dyn Fn(&str) -> Option<std::path::PathBuf>,
}

/// Makes the environment.
///
/// # Errors
/// Something required is missing, in upstream's words.
pub fn build(inputs: &Inputs<'_>) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut env = BTreeMap::new();
    from_sources(inputs, &mut env)?;
    for variable in inputs.container.env.iter().flatten() {
        let value = match &variable.value_from {
            Some(source) if variable.value.as_deref().unwrap_or_default().is_empty() => {
                match referenced(inputs, source)? {
                    Some(value) => value,
                    None => continue,
                }
            }
            _ => {
                let text = variable.value.as_deref().unwrap_or_default();
                expand::expand(text, |name| env.get(name).or_else(|| inputs.services.get(name)).cloned())
            }
        };
        env.insert(variable.name.clone(), value);
    }
    for (name, value) in &inputs.services {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Ok(env)
}

fn from_sources(inputs: &Inputs<'_>, env: &mut BTreeMap<String, String>) -> Result<(), ConfigError> {
    for from in inputs.container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &from.config_map_ref {
            match inputs.referenced.config_maps.get(&source.name).cloned().flatten() {
                Some(map) => env.extend(map.data.iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), v.clone()))),
                None if source.optional.unwrap_or(false) => {}
                None => return Err(not_found("configmap", &source.name)),
            }
        }
        if let Some(source) = &from.secret_ref {
            match inputs.referenced.secrets.get(&source.name).cloned().flatten() {
                Some(secret) => {
                    env.extend(secret.data.iter().flatten().map(|(k, v)| (format!("{prefix}{k}"), text(&v.0))));
                }
                None if source.optional.unwrap_or(false) => {}
                None => return Err(not_found("secret", &source.name)),
            }
        }
    }
    Ok(())
}

fn not_found(what: &str, name: &str) -> ConfigError {
    ConfigError(format!("{what} {name:?} not found"))
}

/// An environment holds bytes; what is not UTF-8 is shown as upstream's JSON would.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The value of a reference; `None` where an optional one is absent.
fn referenced(inputs: &Inputs<'_>, source: &EnvVarSource) -> Result<Option<String>, ConfigError> {
    let namespace = inputs.pod.namespace();
    if let Some(field) = &source.field_ref {
        return fields::field(inputs.pod, inputs.facts, field, true).map(Some).map_err(|e| ConfigError(e.to_string()));
    }
    if let Some(resource) = &source.resource_field_ref {
        let named = resource.container_name.as_deref().filter(|n| !n.is_empty());
        let container = match named {
            Some(name) => fields::container(inputs.pod, name)
                .ok_or_else(|| ConfigError(format!("container {name} not found in pod")))?,
            None => inputs.container,
        };
        return fields::resource(container, inputs.facts, resource).map(Some).map_err(|e| ConfigError(e.to_string()));
    }
    if let Some(key) = &source.config_map_key_ref {
        let optional = key.optional.unwrap_or(false);
        let Some(map) = inputs.referenced.config_maps.get(&key.name).cloned().flatten() else {
            return if optional { Ok(None) } else { Err(not_found("configmap", &key.name)) };
        };
        return match map.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(ConfigError(format!("couldn't find key {} in ConfigMap {namespace}/{}", key.key, key.name))),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let optional = key.optional.unwrap_or(false);
        let Some(secret) = inputs.referenced.secrets.get(&key.name).cloned().flatten() else {
            return if optional { Ok(None) } else { Err(not_found("secret", &key.name)) };
        };
        return match secret.data.as_ref().and_then(|d| d.get(&key.key)) {
            Some(value) => Ok(Some(text(&value.0))),
            None if optional => Ok(None),
            None => Err(ConfigError(format!("couldn't find key {} in Secret {namespace}/{}", key.key, key.name))),
        };
    }
    if let Some(file) = &source.file_key_ref {
        let dir = (inputs.volumes)(&file.volume_name).ok_or_else(|| {
            ConfigError(format!("cannot find the volume {} referenced by FileKeyRef", go_quote(&file.volume_name)))
        })?;
        let value = read_env_file(&dir, &file.path, &file.key)?;
        return match value {
            value if !value.is_empty() => Ok(Some(value)),
            _ if file.optional.unwrap_or(false) => Ok(None),
            _ => Err(ConfigError(format!(
                "environment variable key {:?} not found in file {:?}",
                file.key,
                dir.join(&file.path)
            ))),
        };
    }
    Ok(None)
}

/// Reads a file of a volume without following links out of it.
fn read_env_file(dir: &Path, path: &str, key: &str) -> Result<String, ConfigError> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let fail = |_| ConfigError::new("couldn't parse env file");
    let root = std::fs::File::open(dir).map_err(|_| ConfigError::new("couldn't parse env file"))?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat2(&root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).map_err(fail)?;
    let text =
        std::io::read_to_string(std::fs::File::from(fd)).map_err(|_| ConfigError::new("couldn't parse env file"))?;
    env_file::value(&text, key).map_err(|_| ConfigError::new("couldn't parse env file"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sources_references_and_expansion() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{
            "name": "c",
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "m"}}, {"secretRef": {"name": "gone", "optional": true}}],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)$(P_k)$(X)$(SVC)"},
                {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "none", "optional": true}}}],
        }, {"name": "bad", "env": [{"name": "O", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "none"}}}]}]}}))
        .unwrap();
        let map: ConfigMap = serde_json::from_value(json!({"data": {"k": "v"}})).unwrap();
        let mut known = Referenced::default();
        known.config_maps.insert("m".to_owned(), Some(Arc::new(map)));
        let facts = Facts::default();
        let env = |index: usize| {
            build(&Inputs {
                pod: &pod,
                container: &pod.spec.as_ref().unwrap().containers[index],
                facts: &facts,
                referenced: &known,
                services: [("SVC".to_owned(), "s".to_owned())].into(),
                volumes: &|_| None,
            })
        };
        let built = env(0).unwrap();
        let shown: Vec<String> = built.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(shown, ["A=1", "B=1v$(X)s", "N=p", "P_k=v", "SVC=s"]);
        assert_eq!(env(1), Err(ConfigError::new("couldn't find key none in ConfigMap n/m")));
    }
}
