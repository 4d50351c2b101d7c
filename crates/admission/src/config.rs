//! `--admission-control-config-file`: an `AdmissionConfiguration` with a part for single plugins.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Plugins whose configuration once was the whole file, by the file's one field.
const LEGACY: [(&str, &str); 2] =
    [("imagePolicy", "ImagePolicyWebhook"), ("podNodeSelectorPluginConfig", "PodNodeSelector")];

/// The configuration of single plugins, as trees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configs(BTreeMap<String, Value>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    plugins: Vec<One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
    #[serde(default)]
    path: String,
    configuration: Option<Value>,
}

fn yaml(path: &Path) -> Result<Value, String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    serde_yaml_ng::from_str(&text).map_err(|e| e.to_string())
}

impl Configs {
    /// Reads the file and the files that it names; relative paths begin at its folder.
    ///
    /// # Errors
    /// A file cannot be read, or is no configuration.
    pub fn load(path: &Path) -> Result<Self, String> {
        let tree = yaml(path)
            .map_err(|e| format!("unable to read admission control configuration from {:?} [{e}]", path.display()))?;
        let text = |field: &str| tree.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if kind.is_empty() || version.is_empty() {
            let legacy = LEGACY.iter().filter(|(field, _)| tree.get(*field).is_some());
            let all: BTreeMap<String, Value> = legacy.map(|(_, name)| ((*name).to_owned(), tree.clone())).collect();
            if all.is_empty() {
                return Err("Object 'Kind' is missing".into());
            }
            return Ok(Self(all));
        }
        let known = ["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"].contains(&version.as_str());
        if !known || kind != "AdmissionConfiguration" {
            return Err(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        let file: File = serde_json::from_value(tree).map_err(|e| format!("strict decoding error: {e}"))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut all = BTreeMap::new();
        for plugin in file.plugins {
            let configuration = match (plugin.configuration.filter(|c| !c.is_null()), plugin.path.as_str()) {
                (Some(tree), _) => tree,
                (None, "") => continue,
                (None, path) => yaml(&folder.join(path))
                    .map_err(|e| format!("couldn't open admission plugin configuration {path}: {e}"))?,
            };
            all.entry(plugin.name).or_insert(configuration);
        }
        Ok(Self(all))
    }

    /// The tree of one plugin.
    pub fn get(&self, plugin: &str) -> Option<&Value> {
        self.0.get(plugin)
    }

    /// The configuration of one plugin as one of these kinds; fields it does not know are refused.
    ///
    /// # Errors
    /// It is something else.
    pub(crate) fn typed<T: DeserializeOwned>(&self, plugin: &str, kinds: &[(&str, &str)]) -> Result<Option<T>, String> {
        let Some(Value::Object(tree)) = self.get(plugin) else {
            return match self.get(plugin) {
                None => Ok(None),
                Some(_) => Err("couldn't get version/kind; json parse error: not an object".into()),
            };
        };
        let mut tree = tree.clone();
        let mut take = |field: &str| tree.remove(field).and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
        let (version, kind) = (take("apiVersion"), take("kind"));
        if kind.is_empty() {
            return Err("Object 'Kind' is missing".into());
        }
        if !kinds.contains(&(version.as_str(), kind.as_str())) {
            return Err(format!("no kind {kind:?} is registered for version {version:?}"));
        }
        serde_json::from_value(Value::Object(tree)).map(Some).map_err(|e| format!("strict decoding error: {e}"))
    }
}

impl FromIterator<(String, Value)> for Configs {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_name_plugins_inline_and_by_path() {
        let folder = std::env::temp_dir().join(format!("corten-admission-{}", rt::rand::uid()));
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
        write("events.yaml", "apiVersion: eventratelimit.admission.k8s.io/v1alpha1\nkind: Configuration\nlimits: []\n");
        write(
            "all.yaml",
            "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: EventRateLimit\n  path: \
             events.yaml\n- name: PodSecurity\n  configuration: {apiVersion: a/v1, kind: B}\n",
        );
        let configs = Configs::load(&folder.join("all.yaml")).unwrap();
        assert_eq!(configs.get("EventRateLimit").unwrap()["limits"], Value::Array(Vec::new()));
        let wrong = configs.typed::<Value>("PodSecurity", &[("x/v1", "B")]).unwrap_err();
        assert_eq!(wrong, "no kind \"B\" is registered for version \"a/v1\"");
        write("old.yaml", "podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: a=b}\n");
        assert!(Configs::load(&folder.join("old.yaml")).unwrap().get("PodNodeSelector").is_some());
        write("wrong.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugs: []\n");
        assert!(Configs::load(&folder.join("wrong.yaml")).unwrap_err().contains("unknown field"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
