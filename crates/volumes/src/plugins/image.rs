//! `image`: the content of an OCI image; the runtime mounts it, the kubelet pulls it as it pulls container images.

use async_trait::async_trait;

use super::Plugin;
use crate::k8s::core::Volume;
use crate::{Error, Mounted, Objects, PodContext, Result};

/// See the module.
pub struct Image;

#[async_trait]
impl Plugin for Image {
    fn name(&self) -> &'static str {
        "kubernetes.io/image"
    }

    fn serves(&self, volume: &Volume) -> bool {
        volume.image.is_some()
    }

    async fn set_up(&self, _cx: &PodContext, volume: &Volume, _objects: &dyn Objects) -> Result<Mounted> {
        let Some(source) = &volume.image else {
            return Err(Error::Invalid("not an image volume".to_owned()));
        };
        let image = Some((source.reference.clone().unwrap_or_default(), source.pull_policy.clone()));
        Ok(Mounted { read_only: true, image, ..Mounted::default() })
    }
}
