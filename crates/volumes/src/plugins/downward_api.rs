//! `downwardAPI`: the pod's own fields and resources as files.

use async_trait::async_trait;

use super::{Plugin, project};
use crate::k8s::core::{DownwardAPIVolumeFile, Volume};
use crate::{Error, FileProjection, Mounted, Objects, Payload, PodContext, Result, fields, payload};

/// See the module.
pub struct DownwardApi;

#[async_trait]
impl Plugin for DownwardApi {
    fn name(&self) -> &'static str {
        "kubernetes.io/downward-api"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.downward_api.is_some()
    }

    async fn set_up(&self, cx: &PodContext, volume: &Volume, _objects: &dyn Objects) -> Result<Mounted> {
        let Some(source) = &volume.downward_api else {
            return Err(Error::Invalid("not a downwardAPI volume".to_owned()));
        };
        let files = files(cx, source.items.as_deref().unwrap_or_default(), payload::mode(source.default_mode))?;
        project(cx, cx.memory_path("kubernetes.io~downward-api", &volume.name), &files)
    }
}

/// The files of downward API items; shared with projected volumes.
pub fn files(cx: &PodContext, items: &[DownwardAPIVolumeFile], default_mode: u32) -> Result<Payload> {
    let mut files = Payload::new();
    for item in items {
        let text = if let Some(field) = &item.field_ref {
            fields::field(&cx.pod, &cx.facts, field, false)?
        } else if let Some(resource) = &item.resource_field_ref {
            let name = resource.container_name.as_deref().unwrap_or_default();
            let container = fields::container(&cx.pod, name)
                .ok_or_else(|| Error::Invalid(format!("container {name} not found in pod")))?;
            fields::resource(container, &cx.facts, resource)?
        } else {
            continue;
        };
        let mode = item.mode.map_or(default_mode, |m| payload::mode(Some(m)));
        files.insert(payload::clean(&item.path), FileProjection::new(text.into_bytes(), mode));
    }
    Ok(files)
}
