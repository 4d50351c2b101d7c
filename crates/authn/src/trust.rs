//! Tells aggregated API servers and other components whom to trust: `kube-system/extension-apiserver-authentication`.

use auth_api::Edit;
use meta::{GroupVersionKind, GroupVersionResource, Object, Status};
use serde_json::json;

use crate::HeaderNames;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// PEM of `--client-ca-file`, empty when there is none.
    pub client_ca: String,
    /// PEM of `--requestheader-client-ca-file`, empty when there is none.
    pub front_proxy_ca: String,
    /// `--requestheader-allowed-names`.
    pub allowed_names: Vec<String>,
    /// The `--requestheader-*` headers.
    pub headers: HeaderNames,
}

/// Certificates of both texts, each once: other API servers of the cluster may trust others.
fn union(stored: &str, ours: &str) -> String {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for certificate in pki::pem::certificates(stored).into_iter().chain(pki::pem::certificates(ours)) {
        if !all.contains(&certificate) {
            all.push(certificate);
        }
    }
    all.iter().map(|c| pki::pem::encode("CERTIFICATE", c)).collect()
}

impl Trust {
    fn fill(&self, map: &mut Object) {
        let mut authority = |key: &str, pem: &str| {
            if !pem.is_empty() {
                let both = union(map.get_str(&["data", key]), pem);
                map.set(&["data", key], json!(both));
            }
        };
        authority("client-ca-file", &self.client_ca);
        authority("requestheader-client-ca-file", &self.front_proxy_ca);
        if self.front_proxy_ca.is_empty() {
            return;
        }
        for (key, list) in [
            ("requestheader-username-headers", &self.headers.user),
            ("requestheader-uid-headers", &self.headers.uid),
            ("requestheader-group-headers", &self.headers.group),
            ("requestheader-extra-headers-prefix", &self.headers.extra_prefix),
            ("requestheader-allowed-names", &self.allowed_names),
        ] {
            map.set(&["data", key], json!(json!(list).to_string()));
        }
    }

    /// Writes the ConfigMap, keeping what it says besides.
    ///
    /// # Errors
    /// As the API answers, but for conflicts with another server's write: try again.
    pub async fn publish(&self, api: &dyn Edit) -> Result<(), Status> {
        let maps = GroupVersionResource::new("", "v1", "configmaps");
        let stored = api.get_live(&maps, NAMESPACE, NAME).await?;
        let mut map = match &stored {
            Some(stored) => Object::clone(stored),
            None => {
                let mut map = Object::new(&GroupVersionKind::new("", "v1", "ConfigMap"));
                map.set_meta_str("name", NAME);
                map.set_meta_str("namespace", NAMESPACE);
                map
            }
        };
        self.fill(&mut map);
        match stored {
            Some(stored) if *stored == map => Ok(()),
            Some(_) => api.update(&maps, map).await.map(drop),
            None => api.create(&maps, map).await.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_several_servers_are_kept() {
        let (a, b) = (pki::Pair::new_ca("a").unwrap().cert_pem(), pki::Pair::new_ca("b").unwrap().cert_pem());
        let trust = |ca: &str| Trust { client_ca: ca.into(), ..Trust::default() };
        let mut map = Object::default();
        for ca in [&a, &b, &a] {
            trust(ca).fill(&mut map);
        }
        assert_eq!(map.get_str(&["data", "client-ca-file"]), format!("{a}{b}"));
        assert!(map.get(&["data", "requestheader-allowed-names"]).is_none());
        let trust = Trust { front_proxy_ca: a, headers: HeaderNames::usual(), ..Trust::default() };
        trust.fill(&mut map);
        assert_eq!(map.get_str(&["data", "requestheader-username-headers"]), "[\"X-Remote-User\"]");
    }
}
