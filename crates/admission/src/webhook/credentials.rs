//! What webhooks are shown: `WebhookAdmissionConfiguration` names a kubeconfig file whose users are webhooks by host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::config::Configs;
use crate::pod::{items, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Configuration {
    #[serde(default)]
    kube_config_file: PathBuf,
    #[serde(default)]
    static_manifests_dir: String,
}

/// What one webhook is shown.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) pair: Option<pki::Pair>,
    /// The header `Authorization`.
    pub(super) authorization: Option<String>,
}

/// Credentials by the names of users: `host:port`, `host` (for port 443), `*.domain` and `*`.
#[derive(Debug, Clone, Default)]
pub(super) struct Credentials {
    users: BTreeMap<String, Credential>,
    /// The user of the current context.
    current: Option<String>,
}

impl Credentials {
    /// Those of a plugin's configuration; none without one.
    ///
    /// # Errors
    /// The configuration or the file that it names cannot be used.
    pub(super) fn of(configs: &Configs, plugin: &str) -> Result<Self, String> {
        let kinds = [
            ("apiserver.config.k8s.io/v1", "WebhookAdmissionConfiguration"),
            ("apiserver.config.k8s.io/v1alpha1", "WebhookAdmission"),
        ];
        let Some(found) = configs.typed::<Configuration>(plugin, &kinds)? else { return Ok(Self::default()) };
        if !found.static_manifests_dir.is_empty() {
            return Err(
                "staticManifestsDir: Forbidden: the feature gate ManifestBasedAdmissionControlConfig is off".into()
            );
        }
        let path = found.kube_config_file;
        if path.as_os_str().is_empty() {
            return Ok(Self::default());
        }
        if !path.is_absolute() {
            let shown = path.display().to_string();
            return Err(format!("kubeConfigFile: Invalid value: {shown:?}: must be an absolute file path"));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("open {}: {e}", path.display()))?;
        let tree: Value = serde_yaml_ng::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        Self::read(&tree, path.parent().unwrap_or(Path::new("/")))
    }

    fn read(tree: &Value, base: &Path) -> Result<Self, String> {
        let mut users = BTreeMap::new();
        for user in items(tree, "users") {
            let name = text(user, &["name"]);
            let credential = credential(user.get("user").unwrap_or(&Value::Null), base);
            users.insert(name.to_owned(), credential.map_err(|e| format!("user {name:?}: {e}"))?);
        }
        let context = text(tree, &["current-context"]);
        let current = items(tree, "contexts").find(|c| text(c, &["name"]) == context && !context.is_empty());
        let current = current.map(|c| text(c, &["context", "user"]).to_owned());
        Ok(Self { users, current })
    }

    /// What is shown at a host and port.
    pub(super) fn of_target(&self, host: &str, port: u16) -> Option<&Credential> {
        if self.users.is_empty() {
            return None;
        }
        let find = |target: &str| {
            let dots = target.match_indices('.').map(|(at, _)| format!("*{}", &target[at..]));
            std::iter::once(target.to_owned()).chain(dots).find_map(|name| self.users.get(&name))
        };
        find(&format!("{host}:{port}"))
            .or_else(|| if port == 443 { find(host) } else { None })
            .or_else(|| self.users.get("*"))
            .or_else(|| self.users.get(self.current.as_ref()?))
    }
}

/// A field's content: given as such in base64, or in a file.
fn content(user: &Value, field: &str, base: &Path) -> Result<Option<String>, String> {
    let data = text(user, &[&format!("{field}-data")]);
    let bytes = match (data, text(user, &[field])) {
        ("", "") => return Ok(None),
        ("", file) => {
            let path = base.join(file);
            std::fs::read(&path).map_err(|e| format!("open {}: {e}", path.display()))?
        }
        (data, _) => STANDARD.decode(data).map_err(|e| format!("{field}-data: {e}"))?,
    };
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn credential(user: &Value, base: &Path) -> Result<Credential, String> {
    let certificate = content(user, "client-certificate", base)?;
    let key = content(user, "client-key", base)?;
    let pair = match (certificate, key) {
        (Some(certificate), Some(key)) => {
            let cert =
                pki::pem::certificates(&certificate).into_iter().next().ok_or("client-certificate: none in it")?;
            Some(pki::Pair { cert, key: pki::Key::from_pem(&key).map_err(|e| e.to_string())? })
        }
        (None, None) => None,
        _ => return Err("client-certificate and client-key go together".into()),
    };
    let token = match (text(user, &["token"]), text(user, &["tokenFile"])) {
        ("", "") => None,
        ("", file) => {
            let path = base.join(file);
            Some(std::fs::read_to_string(&path).map_err(|e| format!("open {}: {e}", path.display()))?)
        }
        (token, _) => Some(token.to_owned()),
    };
    let (name, password) = (text(user, &["username"]), text(user, &["password"]));
    let authorization = match token {
        Some(token) => Some(format!("Bearer {}", token.trim())),
        None if name.is_empty() => None,
        None => Some(format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))),
    };
    Ok(Credential { pair, authorization })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn users_are_found_by_host() {
        let user = |name: &str| json!({"name": name, "user": {"token": name}});
        let users: Vec<Value> = ["a.ns.svc", "*.example.com", "b.ns.svc:8443", "ctx"].map(user).to_vec();
        let tree =
            json!({"users": users, "current-context": "c", "contexts": [{"name": "c", "context": {"user": "ctx"}}]});
        let all = Credentials::read(&tree, Path::new("/")).unwrap();
        for (host, port, wanted) in [
            ("a.ns.svc", 443, "a.ns.svc"),
            ("a.ns.svc", 8443, "ctx"),
            ("b.ns.svc", 8443, "b.ns.svc:8443"),
            ("x.y.example.com", 443, "*.example.com"),
            ("other", 443, "ctx"),
        ] {
            let found = all.of_target(host, port).and_then(|c| c.authorization.clone());
            assert_eq!(found, Some(format!("Bearer {wanted}")), "{host}:{port}");
        }
    }
}
