//! The API server's own hands and eyes: [`auth_api::Lookup`] and [`auth_api::Edit`] over the registry.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Edit, Lookup, ObjectEvent, UserInfo, users};
use futures::StreamExt;
use futures::stream::BoxStream;
use meta::selector::FieldSelector;
use meta::{GroupVersionResource, Object, Status};
use serde_json::json;

use crate::admit::Warnings;
use crate::create::Request;
use crate::delete::DeleteOptions;
use crate::entry::{Raw, decode_hub};
use crate::listing::ListOptions;
use crate::registry::Registry;
use crate::resource::Resource;
use crate::row::Sub;
use crate::strategy::{Ctx, Strategy};
use crate::update::{UpdateOptions, Updater};
use crate::watch::{Watch, WatchItem};

/// Pause before a lost watch is started again.
const RETRY: std::time::Duration = std::time::Duration::from_millis(200);

/// Reads and writes as `system:apiserver`, past authorization but through admission and validation.
#[derive(Clone)]
pub struct Access {
    registry: Arc<Registry>,
    user: Arc<UserInfo>,
}

impl Access {
    /// Access to a registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, user: Arc::new(UserInfo::new(users::API_SERVER, &[auth_api::groups::MASTERS])) }
    }

    fn resource(&self, gvr: &GroupVersionResource) -> Result<Arc<Resource>, Status> {
        self.registry.need(&gvr.group, &gvr.resource)
    }

    fn request(&self, gvr: &GroupVersionResource, resource: &Resource, namespace: &str, subresource: &str) -> Request {
        Request {
            cx: Ctx {
                user: self.user.clone(),
                namespace: namespace.to_owned(),
                gvr: gvr.clone(),
                subresource: subresource.to_owned(),
                dry_run: false,
                registry: self.registry.clone(),
            },
            kind: resource.row.gvk(&gvr.version),
            options: json!({}),
            warnings: Warnings::default(),
        }
    }

    async fn put(&self, gvr: &GroupVersionResource, object: Object, subresource: &str) -> Result<Object, Status> {
        let resource = self.resource(gvr)?;
        let strategy: Arc<dyn Strategy> = match resource.row.subresource(subresource).map(|s| &s.handler) {
            Some(Sub::Object(strategy)) => strategy.clone(),
            _ if subresource.is_empty() => resource.row.strategy.clone(),
            _ => return Err(Status::unknown_path()),
        };
        let request = self.request(gvr, &resource, object.namespace(), subresource);
        let name = object.name().to_owned();
        let updater = Given { resource: resource.clone(), object };
        let options =
            UpdateOptions { strategy: &*strategy, create: false, main: subresource.is_empty(), admitted: false };
        let updated = resource.update(&request, &name, &updater, options).await?;
        decode_hub(&resource.row, &updated.raw)
    }
}

struct Given {
    resource: Arc<Resource>,
    object: Object,
}

#[async_trait]
impl Updater for Given {
    async fn next(&self, _old: Option<&Object>) -> Result<Object, Status> {
        normal(&self.resource, self.object.clone())
    }
}

/// Brings an object made by hand into the shape that the pipeline expects: normal form, hub version, defaults.
fn normal(resource: &Resource, mut object: Object) -> Result<Object, Status> {
    let row = &resource.row;
    if object.kind().is_empty() {
        object.set_gvk(&row.hub);
    }
    if row.custom.is_none() {
        schema::codec::normalize(&mut object).map_err(|e| Status::bad_request(e.to_string()))?;
    }
    row.convert_to(&mut object, &row.hub)?;
    row.strategy.default_object(&mut object);
    Ok(object)
}

#[async_trait]
impl Lookup for Access {
    async fn get(
        &self,
        gvr: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        match self.resource(gvr)?.get_shared(namespace, name).await? {
            Some(object) => Ok(Some(object)),
            None => self.get_live(gvr, namespace, name).await,
        }
    }

    async fn get_live(
        &self,
        gvr: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        match self.resource(gvr)?.get_object(namespace, name).await {
            Ok(object) => Ok(Some(Arc::new(object))),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    async fn list(&self, gvr: &GroupVersionResource, namespace: &str) -> Result<Vec<Arc<Object>>, Status> {
        self.resource(gvr)?.list_shared(namespace).await
    }

    fn watch(&self, gvr: &GroupVersionResource) -> BoxStream<'static, ObjectEvent> {
        self.watch_where(gvr, FieldSelector::default())
    }

    fn watch_where(&self, gvr: &GroupVersionResource, fields: FieldSelector) -> BoxStream<'static, ObjectEvent> {
        let follow = Follow { access: self.clone(), gvr: gvr.clone(), fields, watch: None };
        futures::stream::unfold(follow, |mut follow| async move {
            let event = follow.next().await;
            Some((event, follow))
        })
        .boxed()
    }
}

/// A watch that starts itself again.
struct Follow {
    access: Access,
    gvr: GroupVersionResource,
    fields: FieldSelector,
    watch: Option<(Arc<Resource>, Watch)>,
}

impl Follow {
    async fn next(&mut self) -> ObjectEvent {
        loop {
            if let Some((resource, watch)) = &mut self.watch {
                match watch.next().await {
                    Some(WatchItem::Event { kind, entry, revision, .. }) => {
                        let raw = Raw { value: entry.raw.value.clone(), revision };
                        match decode_hub(&resource.row, &raw) {
                            Ok(object) if kind == crate::EventType::Deleted => {
                                return ObjectEvent::Delete(Arc::new(object));
                            }
                            Ok(object) => return ObjectEvent::Upsert(Arc::new(object)),
                            Err(error) => tracing::warn!(%error, "object cannot be decoded"),
                        }
                        continue;
                    }
                    Some(WatchItem::Bookmark { .. }) => continue,
                    Some(WatchItem::Error(_)) | None => self.watch = None,
                }
            }
            match self.start().await {
                Ok(objects) => return ObjectEvent::Replace(objects),
                Err(error) => {
                    tracing::debug!(%error, resource = %self.gvr.resource, "watch could not start");
                    rt::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn start(&mut self) -> Result<Vec<Arc<Object>>, Status> {
        let resource = self.access.resource(&self.gvr)?;
        let selected = ListOptions { fields: self.fields.clone(), ..ListOptions::default() };
        let listed = resource.list(&selected).await?;
        let objects = listed.entries.iter().map(|e| decode_hub(&resource.row, &e.raw).map(Arc::new));
        let objects = objects.collect::<Result<_, _>>()?;
        let options = ListOptions { resource_version: Some(listed.revision), ..selected };
        let watch = Watch::start(resource.clone(), options, None).await?;
        self.watch = Some((resource, watch));
        Ok(objects)
    }
}

#[async_trait]
impl Edit for Access {
    async fn create(&self, gvr: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        let resource = self.resource(gvr)?;
        let request = self.request(gvr, &resource, object.namespace(), "");
        let raw = resource.create(&request, normal(&resource, object)?).await?;
        decode_hub(&resource.row, &raw)
    }

    async fn update(&self, gvr: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        self.put(gvr, object, "").await
    }

    async fn update_status(&self, gvr: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        self.put(gvr, object, "status").await
    }

    async fn delete(&self, gvr: &GroupVersionResource, object: &Object) -> Result<(), Status> {
        let resource = self.resource(gvr)?;
        let request = self.request(gvr, &resource, object.namespace(), "");
        let uid = Some(object.uid().to_owned()).filter(|uid| !uid.is_empty());
        let options = DeleteOptions { uid, ..DeleteOptions::default() };
        resource.delete(&request, object.name(), &options).await.map(drop)
    }
}
