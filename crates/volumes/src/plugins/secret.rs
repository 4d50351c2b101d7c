//! `secret`: the keys of a Secret as files.

use async_trait::async_trait;

use super::{Plugin, project};
use crate::k8s::core::{Secret, Volume};
use crate::{Error, Mounted, Objects, PodContext, Result, payload};

/// See the module.
pub struct SecretPlugin;

#[async_trait]
impl Plugin for SecretPlugin {
    fn name(&self) -> &'static str {
        "kubernetes.io/secret"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.secret.is_some()
    }

    async fn set_up(&self, cx: &PodContext, volume: &Volume, objects: &dyn Objects) -> Result<Mounted> {
        let Some(source) = &volume.secret else {
            return Err(Error::Invalid("not a secret volume".to_owned()));
        };
        let optional = source.optional.unwrap_or(false);
        let name = source.secret_name.as_deref().unwrap_or_default();
        let secret = match objects.secret(cx.namespace(), name).await {
            Ok(secret) => secret,
            Err(error) if optional && error.is_not_found() => Secret::default().into(),
            Err(error) => return Err(error),
        };
        let files = payload::secret(&secret, source.items.as_deref(), payload::mode(source.default_mode), optional)?;
        project(cx, cx.memory_path("kubernetes.io~secret", &volume.name), &files)
    }
}
