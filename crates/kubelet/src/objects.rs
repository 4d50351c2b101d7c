//! ConfigMaps, Secrets and tokens of pods.
//!
//! An object is read when the first pod needs it and followed by a watch of its own while any pod does: the node
//! authorizer lets a node see just the objects its pods refer to. A change wakes the pods that use it, so updates reach
//! volumes as fast as the watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use api::Kind;
use async_trait::async_trait;
use client::{Client, ListParams, WatchEvent, WatchParams};
use parking_lot::Mutex;
use rt::sync::watch;
use rt::{Backoff, Shutdown};
use volumes::k8s::authentication::TokenRequest;
use volumes::k8s::core::{
    ClusterTrustBundleProjection, ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret, ServiceAccount,
};
use volumes::{Error, Result};

/// Tells that pods have to look at their volumes again.
pub type Wake = Arc<dyn Fn(&BTreeSet<String>) + Send + Sync>;

#[derive(Clone)]
enum Known<T> {
    Unread,
    Failed(Arc<client::Error>),
    Absent,
    Present(Arc<T>),
}

struct Entry<T> {
    users: BTreeSet<String>,
    value: watch::Sender<Known<T>>,
    stop: Shutdown,
}

/// Followed objects of one kind.
struct Followed<T> {
    resource: &'static str,
    entries: Mutex<BTreeMap<(String, String), Entry<T>>>,
}

impl<T: Kind> Followed<T> {
    fn new(resource: &'static str) -> Arc<Self> {
        Arc::new(Self { resource, entries: Mutex::default() })
    }

    async fn get(
        self: &Arc<Self>,
        objects: &Objects,
        user: &str,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<T>>> {
        let mut value = {
            let mut entries = self.entries.lock();
            let entry = entries.entry((namespace.to_owned(), name.to_owned())).or_insert_with(|| {
                let stop = objects.shutdown.child();
                let (client, wake, stopped) = (objects.client.clone(), objects.wake.clone(), stop.clone());
                let (me, key) = (Arc::downgrade(self), (namespace.to_owned(), name.to_owned()));
                rt::spawn("follow object", async move { stopped.run(follow(me, client, wake, key)).await });
                Entry { users: BTreeSet::new(), value: watch::Sender::new(Known::Unread), stop }
            });
            entry.users.insert(user.to_owned());
            entry.value.subscribe()
        };
        let known = value.wait_for(|v| !matches!(v, Known::Unread)).await;
        let fetch = |message: String| Error::Fetch { resource: self.resource, name: name.to_owned(), message };
        match known.map(|k| k.clone()) {
            Ok(Known::Present(object)) => Ok(Some(object)),
            Ok(Known::Absent) => Ok(None),
            Ok(Known::Failed(error)) => Err(fetch(error.chain())),
            Ok(Known::Unread) | Err(_) => Err(fetch("no longer followed".to_owned())),
        }
    }

    fn set(&self, key: &(String, String), value: Known<T>, wake: &Wake) {
        let users = {
            let entries = self.entries.lock();
            let Some(entry) = entries.get(key) else { return };
            let first = matches!(*entry.value.borrow(), Known::Unread);
            let same = match (&*entry.value.borrow(), &value) {
                (Known::Present(a), Known::Present(b)) => a.resource_version() == b.resource_version(),
                (Known::Absent, Known::Absent) => true,
                _ => false,
            };
            entry.value.send_replace(value);
            if first || same { BTreeSet::new() } else { entry.users.clone() }
        };
        if !users.is_empty() {
            wake(&users);
        }
    }

    fn release(&self, user: &str) {
        self.entries.lock().retain(|_, entry| {
            entry.users.remove(user);
            let keep = !entry.users.is_empty();
            if !keep {
                entry.stop.cancel();
            }
            keep
        });
    }
}

/// Lists and watches one object until nobody needs it.
async fn follow<T: Kind>(of: Weak<Followed<T>>, client: Client, wake: Wake, key: (String, String)) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(10)).with_jitter(0.2);
    let selector = format!("metadata.name={}", key.1);
    loop {
        let params = ListParams { field_selector: selector.clone(), ..ListParams::default() };
        let listed = client.list::<T>(&key.0, &params).await;
        let Some(of) = of.upgrade() else { return };
        match listed {
            Ok(list) => {
                backoff.reset();
                let object = list.items.into_iter().next();
                of.set(&key, object.map_or(Known::Absent, |o| Known::Present(Arc::new(o))), &wake);
                watch_one(&of, &client, &wake, &key, &selector, list.resource_version).await;
            }
            Err(error) => {
                of.set(&key, Known::Failed(Arc::new(error)), &wake);
                rt::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

async fn watch_one<T: Kind>(
    of: &Arc<Followed<T>>,
    client: &Client,
    wake: &Wake,
    key: &(String, String),
    selector: &str,
    version: String,
) {
    let params =
        WatchParams { field_selector: selector.to_owned(), resource_version: version, ..WatchParams::default() };
    let Ok(mut stream) = client.watch::<T>(&key.0, &params).await else {
        // The next list waits a moment: a server that cannot watch must not be listed in a loop.
        rt::time::sleep(Duration::from_secs(1)).await;
        return;
    };
    while let Ok(Some(event)) = stream.next().await {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                of.set(key, Known::Present(Arc::new(object)), wake)
            }
            WatchEvent::Deleted(_) => of.set(key, Known::Absent, wake),
            WatchEvent::Bookmark { .. } => {}
        }
    }
}

type TokenKey = (String, String, String);

/// The objects of all pods.
pub struct Objects {
    client: Client,
    shutdown: Shutdown,
    wake: Wake,
    config_maps: Arc<Followed<ConfigMap>>,
    secrets: Arc<Followed<Secret>>,
    tokens: Mutex<BTreeMap<TokenKey, TokenRequest>>,
}

impl Objects {
    /// Over a client; `wake` is told of the pods whose objects changed.
    #[must_use]
    pub fn new(client: Client, shutdown: Shutdown, wake: Wake) -> Self {
        Self {
            client,
            shutdown,
            wake,
            config_maps: Followed::new("configmap"),
            secrets: Followed::new("secret"),
            tokens: Mutex::default(),
        }
    }

    /// A ConfigMap, followed for the pod from now on.
    pub async fn config_map_for(&self, user: &str, namespace: &str, name: &str) -> Result<Option<Arc<ConfigMap>>> {
        self.config_maps.get(self, user, namespace, name).await
    }

    /// A Secret, followed for the pod from now on.
    pub async fn secret_for(&self, user: &str, namespace: &str, name: &str) -> Result<Option<Arc<Secret>>> {
        self.secrets.get(self, user, namespace, name).await
    }

    /// A service account.
    ///
    /// # Errors
    /// See [`client::Error`].
    pub async fn service_account(&self, namespace: &str, name: &str) -> Result<ServiceAccount, client::Error> {
        self.client.get(namespace, name).await
    }

    /// Forgets what a pod used.
    pub fn release(&self, user: &str) {
        self.config_maps.release(user);
        self.secrets.release(user);
        self.tokens.lock().retain(|_, token| bound_uid(token) != Some(user));
    }

    async fn token(&self, namespace: &str, account: &str, request: &TokenRequest) -> Result<TokenRequest> {
        let spec = serde_json::to_string(&request.spec).unwrap_or_default();
        let key = (namespace.to_owned(), account.to_owned(), spec);
        if let Some(known) = self.tokens.lock().get(&key).filter(|t| fresh(t)) {
            return Ok(known.clone());
        }
        let fail = |message: String| Error::Fetch { resource: "token", name: account.to_owned(), message };
        let gvr = ServiceAccount::gvr();
        let of = client::Resource { gvr: &gvr, namespace: Some(namespace) };
        let body = serde_json::to_value(request).map_err(|e| fail(e.to_string()))?;
        let granted = self.client.post_subresource(&of, account, "token", &body).await;
        let granted = granted.map_err(|e| fail(e.chain()))?;
        let granted: TokenRequest =
            serde_json::from_value(serde_json::Value::Object(granted.body)).map_err(|e| fail(e.to_string()))?;
        self.tokens.lock().insert(key, granted.clone());
        Ok(granted)
    }
}

fn bound_uid(token: &TokenRequest) -> Option<&str> {
    token.spec.as_ref()?.bound_object_ref.as_ref()?.uid.as_deref()
}

/// Whether less than four fifths of a token's life are over.
fn fresh(token: &TokenRequest) -> bool {
    let expires = token.status.as_ref().and_then(|s| s.expiration_timestamp.as_ref());
    let life = token.spec.as_ref().and_then(|s| s.expiration_seconds).unwrap_or(3600);
    expires.is_some_and(|at| rt::time::now() < volumes::plugins::refresh_time(at.0, life))
}

/// The objects as one pod's volumes see them.
pub struct ForPod {
    /// All objects.
    pub objects: Option<Arc<Objects>>,
    /// The pod's uid.
    pub user: String,
}

impl ForPod {
    fn all(&self) -> Result<&Arc<Objects>> {
        self.objects
            .as_ref()
            .ok_or_else(|| Error::Unsupported("there is no API server to read objects from".to_owned()))
    }
}

#[async_trait]
impl volumes::Objects for ForPod {
    async fn config_map(&self, namespace: &str, name: &str) -> Result<Arc<ConfigMap>> {
        let found = self.all()?.config_map_for(&self.user, namespace, name).await?;
        found.ok_or_else(|| Error::NotFound { resource: "configmap", name: name.to_owned() })
    }

    async fn secret(&self, namespace: &str, name: &str) -> Result<Arc<Secret>> {
        let found = self.all()?.secret_for(&self.user, namespace, name).await?;
        found.ok_or_else(|| Error::NotFound { resource: "secret", name: name.to_owned() })
    }

    async fn token(&self, namespace: &str, account: &str, request: &TokenRequest) -> Result<TokenRequest> {
        self.all()?.token(namespace, account, request).await
    }

    async fn claim(&self, namespace: &str, name: &str) -> Result<PersistentVolumeClaim> {
        let all = self.all()?;
        all.client.get(namespace, name).await.map_err(|e| failed("persistentvolumeclaim", name, &e))
    }

    async fn persistent_volume(&self, name: &str) -> Result<PersistentVolume> {
        let all = self.all()?;
        all.client.get("", name).await.map_err(|e| failed("persistentvolume", name, &e))
    }

    async fn trust_bundle(&self, _source: &ClusterTrustBundleProjection) -> Result<String> {
        Err(Error::Unsupported("ClusterTrustBundle projection is not supported by this kubelet".to_owned()))
    }
}

fn failed(resource: &'static str, name: &str, error: &client::Error) -> Error {
    if error.is_not_found() {
        Error::NotFound { resource, name: name.to_owned() }
    } else {
        Error::Fetch { resource, name: name.to_owned(), message: error.chain() }
    }
}
