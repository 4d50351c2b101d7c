//! [`Lookup`] and [`Edit`] over the registry, in process.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Edit, Lookup, ObjectEvent, UserInfo, groups, users};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use meta::{GroupVersionResource, Object, Status};
use parking_lot::Mutex;
use registry::{
    Ctx, DeleteOptions, EventType, ListOptions, Raw, Registry, Request, Resource, Strategy, Sub, UpdateOptions, Updater, Warnings,
    Watch, WatchItem, decode_hub,
};
use serde_json::Value;

/// Decoded objects kept: what admission asks for again and again (namespaces, service accounts, classes).
const KEPT: usize = 2048;

type Key = (String, String, String, String);

/// The registry as authenticators, authorizers and admission see it.
///
/// Reads come from the watch cache and, when it lacks an object, from the store; objects are in the hub version of their kind.
/// Writes run the whole pipeline as `system:apiserver`.
#[derive(Clone)]
pub struct RegistryLookup {
    registry: Arc<Registry>,
    user: Arc<UserInfo>,
    decoded: Arc<Mutex<BTreeMap<Key, (i64, Arc<Object>)>>>,
}

impl RegistryLookup {
    /// A view of the registry.
    pub fn new(registry: Arc<Registry>) -> Self {
        let user = Arc::new(UserInfo::new(users::API_SERVER, &[groups::MASTERS]));
        Self { registry, user, decoded: Arc::default() }
    }

    fn resource(&self, wanted: &GroupVersionResource) -> Result<Arc<Resource>, Status> {
        self.registry.need(&wanted.group, &wanted.resource)
    }

    fn decode(&self, resource: &Resource, namespace: &str, name: &str, raw: &Raw) -> Result<Arc<Object>, Status> {
        let row = &resource.row;
        let key = (row.group.clone(), row.plural.clone(), namespace.to_owned(), name.to_owned());
        if let Some((revision, object)) = self.decoded.lock().get(&key)
            && *revision == raw.revision
        {
            return Ok(object.clone());
        }
        let object = Arc::new(decode_hub(row, raw)?);
        let mut decoded = self.decoded.lock();
        if decoded.len() >= KEPT {
            decoded.clear();
        }
        decoded.insert(key, (raw.revision, object.clone()));
        Ok(object)
    }

    fn request(&self, resource: &Resource, gvr: &GroupVersionResource, namespace: &str, subresource: &str) -> Request {
        Request {
            cx: Ctx {
                user: self.user.clone(),
                namespace: namespace.to_owned(),
                gvr: gvr.clone(),
                subresource: subresource.to_owned(),
                dry_run: false,
                registry: self.registry.clone(),
            },
            kind: resource.row.hub.clone(),
            options: Value::Object(serde_json::Map::new()),
            warnings: Warnings::default(),
        }
    }

    async fn replace(
        &self,
        gvr: &GroupVersionResource,
        object: Object,
        subresource: &str,
        strategy: Arc<dyn Strategy>,
    ) -> Result<Object, Status> {
        let resource = self.resource(gvr)?;
        let request = self.request(&resource, gvr, object.namespace(), subresource);
        let name = object.name().to_owned();
        let options = UpdateOptions { strategy: &*strategy, create: false, main: subresource.is_empty() };
        let updated = resource.update(&request, &name, &Replace(object), options).await?;
        decode_hub(&resource.row, &updated.raw)
    }
}

/// Replaces the whole object; managed fields stay as they are.
struct Replace(Object);

#[async_trait]
impl Updater for Replace {
    async fn next(&self, _old: Option<&Object>) -> Result<Object, Status> {
        Ok(self.0.clone())
    }
}

fn absent_is_none<T>(result: Result<T, Status>) -> Result<Option<T>, Status> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(status) if status.is_not_found() => Ok(None),
        Err(status) => Err(status),
    }
}

#[async_trait]
impl Lookup for RegistryLookup {
    async fn get(&self, wanted: &GroupVersionResource, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        let resource = self.resource(wanted)?;
        let cached = absent_is_none(resource.get(namespace, name, Some(0)).await)?;
        let raw = match cached {
            Some(raw) => Some(raw),
            None => absent_is_none(resource.get(namespace, name, None).await)?,
        };
        raw.map(|raw| self.decode(&resource, namespace, name, &raw)).transpose()
    }

    async fn get_live(
        &self,
        wanted: &GroupVersionResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<Object>>, Status> {
        let resource = self.resource(wanted)?;
        let raw = absent_is_none(resource.get(namespace, name, None).await)?;
        raw.map(|raw| self.decode(&resource, namespace, name, &raw)).transpose()
    }

    async fn list(&self, wanted: &GroupVersionResource, namespace: &str) -> Result<Vec<Arc<Object>>, Status> {
        let resource = self.resource(wanted)?;
        let options =
            ListOptions { namespace: namespace.to_owned(), resource_version: Some(0), ..ListOptions::default() };
        let listed = resource.list(&options).await?;
        let decode = |entry: &Arc<registry::Entry>| {
            let (namespace, name) = entry.identity(&resource.row);
            self.decode(&resource, namespace, name, &entry.raw)
        };
        listed.entries.iter().map(decode).collect()
    }

    fn watch(&self, wanted: &GroupVersionResource) -> BoxStream<'static, ObjectEvent> {
        let follower = Follower { registry: self.registry.clone(), wanted: wanted.clone(), state: None };
        stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await?;
            Some((event, follower))
        })
        .boxed()
    }
}

/// A watch that starts over when it ends.
struct Follower {
    registry: Arc<Registry>,
    wanted: GroupVersionResource,
    state: Option<(Arc<Resource>, Watch)>,
}

impl Follower {
    /// The next event; `None` only when the resource is not served.
    async fn next(&mut self) -> Option<ObjectEvent> {
        loop {
            let Some((resource, watch)) = &mut self.state else {
                match self.start().await {
                    Ok(event) => return Some(event),
                    Err(status) => {
                        let Some(resource) = self.registry.get(&self.wanted.group, &self.wanted.resource) else { return None };
                        tracing::warn!(resource = resource.row.plural, error = %status, "in-process watch not started");
                        rt::time::sleep(std::time::Duration::from_millis(200)).await;
                        continue;
                    }
                }
            };
            match watch.next().await {
                Some(WatchItem::Event { kind, entry, .. }) => match decode_hub(&resource.row, &entry.raw) {
                    Ok(object) if kind == EventType::Deleted => return Some(ObjectEvent::Delete(Arc::new(object))),
                    Ok(object) => return Some(ObjectEvent::Upsert(Arc::new(object))),
                    Err(error) => tracing::error!(resource = resource.row.plural, error = %error, "object not readable"),
                },
                Some(WatchItem::Bookmark { .. }) => {}
                Some(WatchItem::Error(_)) | None => self.state = None,
            }
        }
    }

    async fn start(&mut self) -> Result<ObjectEvent, Status> {
        let resource = self.registry.need(&self.wanted.group, &self.wanted.resource)?;
        let listed = resource.list(&ListOptions::default()).await?;
        let decoded = listed.entries.iter().map(|entry| Ok(Arc::new(decode_hub(&resource.row, &entry.raw)?)));
        let objects = decoded.collect::<Result<Vec<_>, Status>>()?;
        let options = ListOptions { resource_version: Some(listed.revision), ..ListOptions::default() };
        let watch = Watch::start(resource.clone(), options, None).await?;
        self.state = Some((resource, watch));
        Ok(ObjectEvent::Replace(objects))
    }
}

#[async_trait]
impl Edit for RegistryLookup {
    async fn create(&self, gvr: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        let resource = self.resource(gvr)?;
        let request = self.request(&resource, gvr, object.namespace(), "");
        let mut object = object;
        resource.row.strategy.default_object(&mut object);
        let raw = resource.create(&request, object).await?;
        decode_hub(&resource.row, &raw)
    }

    async fn update(&self, gvr: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        let strategy = self.resource(gvr)?.row.strategy.clone();
        self.replace(gvr, object, "", strategy).await
    }

    async fn update_status(&self, gvr: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        let resource = self.resource(gvr)?;
        match resource.row.subresource("status").map(|s| &s.handler) {
            Some(Sub::Object(strategy)) => self.replace(gvr, object, "status", strategy.clone()).await,
            _ => Err(Status::not_found(&gvr.group_resource(), object.name())),
        }
    }

    async fn delete(&self, gvr: &GroupVersionResource, object: &Object) -> Result<(), Status> {
        let resource = self.resource(gvr)?;
        let request = self.request(&resource, gvr, object.namespace(), "");
        let uid = Some(object.uid().to_owned()).filter(|uid| !uid.is_empty());
        let options = DeleteOptions { uid, ..DeleteOptions::default() };
        resource.delete(&request, object.name(), &options).await.map(drop)
    }
}
