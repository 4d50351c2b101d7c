//! `configMap`: the keys of a ConfigMap as files.

use async_trait::async_trait;

use super::{Plugin, project};
use crate::k8s::core::{ConfigMap, Volume};
use crate::{Error, Mounted, Objects, PodContext, Result, payload};

/// See the module.
pub struct ConfigMapPlugin;

#[async_trait]
impl Plugin for ConfigMapPlugin {
    fn name(&self) -> &'static str {
        "kubernetes.io/configmap"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.config_map.is_some()
    }

    async fn set_up(&self, cx: &PodContext, volume: &Volume, objects: &dyn Objects) -> Result<Mounted> {
        let Some(source) = &volume.config_map else {
            return Err(Error::Invalid("not a configMap volume".to_owned()));
        };
        let optional = source.optional.unwrap_or(false);
        let map = match objects.config_map(cx.namespace(), &source.name).await {
            Ok(map) => map,
            Err(error) if optional && error.is_not_found() => ConfigMap::default().into(),
            Err(error) => return Err(error),
        };
        let files = payload::config_map(&map, source.items.as_deref(), payload::mode(source.default_mode), optional)?;
        project(cx, cx.memory_path("kubernetes.io~configmap", &volume.name), &files)
    }
}
