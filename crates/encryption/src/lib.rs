//! Encryption at rest.
//!
//! A file in upstream's form ([`config`]) says which resources are sealed by which providers. [`Encryption`] is that file in
//! force: it implements [`registry::Sealer`], and [`Encryption::reload`] replaces what is in force without a restart. What is
//! written is what upstream writes, byte prefixes included, so that either reads the other's store.

mod cipher;
pub mod config;
mod kms;
mod provider;

use std::collections::BTreeMap;
use std::sync::Arc;

use meta::GroupResource;
use parking_lot::RwLock;
use registry::{Sealer, Transformer};
use rt::Shutdown;

use crate::config::{ConfigError, Configuration, Provider};
use crate::kms::Kms;
use crate::provider::Providers;

/// A configuration in force.
#[derive(Default)]
struct Set {
    by_resource: BTreeMap<(String, String), Arc<Providers>>,
    services: Vec<Arc<Kms>>,
    /// Ends the loops of this set's key services.
    shutdown: Shutdown,
}

impl Set {
    fn find(&self, resource: &GroupResource) -> Option<Arc<dyn Transformer>> {
        let at = |group: &str, resource: &str| self.by_resource.get(&(group.to_owned(), resource.to_owned()));
        at(&resource.group, &resource.resource)
            .or_else(|| at(&resource.group, "*"))
            .or_else(|| at("*", "*"))
            .map(|found| found.clone() as _)
    }
}

/// The encryption of values in the store; cheap to ask.
pub struct Encryption {
    set: RwLock<Arc<Set>>,
    shutdown: Shutdown,
}

impl Encryption {
    /// Puts a configuration's text in force.
    ///
    /// # Errors
    /// The text is not a valid configuration.
    pub async fn load(text: &str, shutdown: Shutdown) -> Result<Arc<Self>, ConfigError> {
        let set = build(&config::parse(text)?, shutdown.child()).await?;
        Ok(Arc::new(Self { set: RwLock::new(Arc::new(set)), shutdown }))
    }

    /// Replaces what is in force; calls under way finish with what they began with.
    ///
    /// # Errors
    /// The text is not a valid configuration; what was in force stays.
    pub async fn reload(&self, text: &str) -> Result<(), ConfigError> {
        let fresh = build(&config::parse(text)?, self.shutdown.child()).await?;
        let old = std::mem::replace(&mut *self.set.write(), Arc::new(fresh));
        old.shutdown.cancel();
        Ok(())
    }

    /// Whether all key services are well (upstream's check `kms-providers`).
    ///
    /// # Errors
    /// What ails them.
    pub async fn check(&self) -> Result<(), String> {
        let services = self.set.read().services.clone();
        let mut wrong = Vec::new();
        for (i, service) in services.iter().enumerate() {
            if let Err(error) = service.check().await {
                wrong.push(format!("kms-provider-{i}: {error}"));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join(", ")) }
    }

    /// Whether there is a key service at all.
    pub fn has_services(&self) -> bool {
        !self.set.read().services.is_empty()
    }
}

impl Sealer for Encryption {
    fn transformer(&self, resource: &GroupResource) -> Option<Arc<dyn Transformer>> {
        self.set.read().find(resource)
    }
}

async fn build(configuration: &Configuration, shutdown: Shutdown) -> Result<Set, ConfigError> {
    let mut lists: BTreeMap<(String, String), Vec<provider::Prefixed>> = BTreeMap::new();
    let mut services = Vec::new();
    for rule in &configuration.rules {
        let mut providers = Vec::new();
        for wanted in &rule.providers {
            if let Provider::Kms(settings) = wanted {
                let kms = Kms::start(settings, shutdown.clone()).await?;
                services.push(kms.clone());
                providers.push(provider::Prefixed::kms(&settings.name, kms));
            } else {
                providers.extend(provider::Prefixed::local(wanted)?);
            }
        }
        for resource in &rule.resources {
            let key = (resource.group.clone(), resource.resource.clone());
            for mask in [(resource.group.clone(), "*".to_owned()), ("*".to_owned(), "*".to_owned())] {
                if lists.contains_key(&mask) {
                    return Err(ConfigError::Masked {
                        resource: config::shown(resource),
                        rule: config::shown(&GroupResource::new(mask.0, mask.1)),
                    });
                }
            }
            lists.entry(key).or_default().extend(providers.iter().cloned());
        }
    }
    let by_resource = lists.into_iter().map(|(key, list)| (key, Arc::new(Providers::new(list)))).collect();
    Ok(Set { by_resource, services, shutdown })
}

/// The text of a configuration that seals the core group's secrets with a new random key, and reads what was written before it.
///
/// # Errors
/// The system gives no randomness.
pub fn new_secrets_configuration() -> Result<String, ConfigError> {
    use base64::Engine;
    let key = base64::engine::general_purpose::STANDARD.encode(cipher::random::<32>().map_err(ConfigError::Cipher)?);
    Ok(format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  \
         providers:\n  - secretbox:\n      keys:\n      - name: key1\n        secret: {key}\n  - identity: {{}}\n"
    ))
}

#[cfg(test)]
mod tests;
