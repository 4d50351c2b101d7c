//! `node-api`'s image traits.

use async_trait::async_trait;
use node_api::*;
use tokio::sync::mpsc;

use crate::Store;
use crate::state::{ImageRecord, State};

#[async_trait]
impl ImageService for Store {
    async fn list_images(&self, filter: Option<&ImageSpec>) -> Result<Vec<Image>> {
        let state = self.state()?;
        let wanted = filter.filter(|f| !f.image.is_empty()).map(|f| state.find(&f.image));
        let fits = |id: &String| wanted.as_ref().is_none_or(|w| w.as_ref() == Some(id));
        Ok(state.images.iter().filter(|(id, _)| fits(id)).map(|(id, i)| describe(&state, id, i)).collect())
    }

    async fn image_status(&self, image: &ImageSpec) -> Result<Option<Image>> {
        let state = self.state()?;
        let found = state.find(&image.image).and_then(|id| state.images.get_key_value(&id));
        Ok(found.map(|(id, record)| describe(&state, id, record)))
    }

    async fn pull_image(
        &self,
        image: &ImageSpec,
        auth: Option<&AuthConfig>,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<String> {
        if self.0.prefer_present.load(std::sync::atomic::Ordering::Relaxed)
            && let Some(id) = self.state()?.find(&image.image)
        {
            return Ok(format!("sha256:{id}"));
        }
        match self.pull(&image.image, auth, progress).await {
            Ok(id) => Ok(id),
            Err(crate::Error::Name { name, message }) => Err(Error::InvalidImageName { image: name, message }),
            Err(error) => Err(Error::ImagePull {
                image: image.image.clone(),
                message: error.chain(),
                registry_unavailable: unavailable(&error),
                source: None,
            }),
        }
    }

    async fn remove_image(&self, image: &ImageSpec) -> Result<()> {
        let (store, image) = (self.clone(), image.image.clone());
        tokio::task::spawn_blocking(move || store.remove(&image))
            .await
            .map_err(|e| Error::internal("remove an image", e))??;
        Ok(())
    }

    async fn image_fs_info(&self) -> Result<Vec<FilesystemUsage>> {
        let state = self.state()?;
        let dir = self.layers_dir();
        let space = sys::fs::space(&dir).map_err(|e| Error::internal("measure the image store", e))?;
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Ok(vec![FilesystemUsage {
            timestamp: now.tv_sec * 1_000_000_000 + now.tv_nsec,
            mountpoint: dir.display().to_string(),
            used_bytes: state.layers.values().map(|l| l.size).sum(),
            inodes_used: state.layers.values().map(|l| l.inodes).sum(),
            capacity_bytes: space.capacity,
            available_bytes: space.available,
            inodes: space.inodes,
            inodes_free: space.inodes_free,
        }])
    }
}

#[async_trait]
impl ImageSource for Store {
    async fn content(&self, image: &ImageSpec) -> Result<ImageContent> {
        let found = self.find(image)?;
        found.ok_or_else(|| Error::NotFound { what: "image", id: image.image.clone() })
    }

    async fn acquire(&self, image_id: &str, user: &str) -> Result<()> {
        Ok(self.acquire_image(image_id, user)?)
    }

    async fn release(&self, user: &str) {
        let (store, user) = (self.clone(), user.to_owned());
        let done = tokio::task::spawn_blocking(move || store.release_image(&user)).await;
        if let Ok(Err(error)) = done {
            tracing::warn!(error = error.chain(), "an image could not be given back");
        }
    }
}

fn describe(state: &State, id: &str, record: &ImageRecord) -> Image {
    let user = record.config.user.split(':').next().unwrap_or_default();
    let uid = user.parse().ok();
    Image {
        id: format!("sha256:{id}"),
        repo_tags: record.tags.clone(),
        repo_digests: record.digests.clone(),
        size: state.size(record),
        uid,
        username: if uid.is_some() { String::new() } else { user.to_owned() },
        annotations: StringMap::new(),
        pinned: record.pinned,
    }
}

/// Whether the registry itself could not be reached.
fn unavailable(error: &crate::Error) -> bool {
    match error {
        crate::Error::Registry { source, .. } => {
            matches!(**source, oci_client::errors::OciDistributionError::RequestError(_))
        }
        _ => false,
    }
}
