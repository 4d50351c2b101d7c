//! One kind, listed and watched into a cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::Kind;
use client::{Client, Error, ListParams, WatchEvent, WatchParams};
use parking_lot::Mutex;
use rt::sync::watch;
use rt::{Backoff, HashSet, Shutdown};

use crate::cache::{Cache, Delta};

/// Which objects of a kind.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Scope {
    /// Namespace, empty for all.
    pub namespace: String,
    /// Label selector in its string form.
    pub label_selector: String,
    /// Field selector in its string form.
    pub field_selector: String,
}

type Handler<T> = Box<dyn Fn(&Delta<T>) + Send + Sync>;
type Follower = Box<dyn Fn(&Progress<'_>) -> bool + Send + Sync>;

/// How far a cache has come.
pub(crate) struct Progress<'a> {
    /// The version of the newest event, bookmark or list that it took in.
    pub(crate) version: u64,
    /// The object that changed, when one did.
    pub(crate) object: Option<&'a str>,
    /// Whether all of it was listed anew.
    pub(crate) listed: bool,
}

struct Shared<T> {
    cache: Cache<T>,
    // Held while handlers run, so that a handler added late sees each object once.
    handlers: Mutex<Vec<Handler<T>>>,
    followers: Mutex<Vec<Follower>>,
    /// See [`Progress::version`]. Set when the cache has what the version brought, and before the handlers hear of it.
    shown: AtomicU64,
    synced: watch::Sender<bool>,
    scope: Scope,
    /// Changes objects before they are kept.
    transform: Option<fn(&mut T)>,
    /// How many objects could not be decoded.
    undecodable: AtomicU64,
}

/// A shared cache of one kind and its handlers. Clones share it.
pub struct Informer<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Informer<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<T: Kind> Informer<T> {
    pub(crate) fn new(scope: Scope, transform: Option<fn(&mut T)>) -> Self {
        let shared = Shared {
            cache: Cache::new(),
            handlers: Mutex::default(),
            followers: Mutex::default(),
            shown: AtomicU64::new(0),
            synced: watch::Sender::new(false),
            scope,
            transform,
            undecodable: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The cache.
    pub fn cache(&self) -> &Cache<T> {
        &self.shared.cache
    }

    /// Adds an index; see [`Cache::by_index`].
    pub fn add_index(&self, name: &'static str, values: impl Fn(&T) -> Vec<String> + Send + Sync + 'static) {
        self.shared.cache.add_index(name, Box::new(values));
    }

    /// Adds a handler. It is first told of all objects there are as added, then of each change in order.
    /// It runs in the informer's task: it must be short and must not wait.
    pub fn add_handler(&self, handler: impl Fn(&Delta<T>) + Send + Sync + 'static) {
        let mut handlers = self.shared.handlers.lock();
        for object in self.shared.cache.list() {
            handler(&Delta::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// The version that the cache has come to; 0 before its first list. It goes back when the store did.
    pub fn shown(&self) -> u64 {
        self.shared.shown.load(Ordering::SeqCst)
    }

    /// Adds a function that is told, in the informer's task and after the handlers, each time the cache has come further. It
    /// is dropped when it says no.
    pub(crate) fn add_follower(&self, follower: impl Fn(&Progress<'_>) -> bool + Send + Sync + 'static) {
        self.shared.followers.lock().push(Box::new(follower));
    }

    /// How many objects could not be decoded and were left out.
    pub fn undecodable(&self) -> u64 {
        self.shared.undecodable.load(Ordering::Relaxed)
    }

    /// Whether the first list is in the cache and the handlers have seen it.
    pub fn has_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Waits for the first list; ends as well when the informer is dropped.
    pub async fn synced(&self) {
        // The sender lives in `shared`, which this handle keeps alive, so the wait ends with success.
        let _ = self.shared.synced.subscribe().wait_for(|synced| *synced).await;
    }

    /// Lists and watches until told to stop. Failures are retried with back-off.
    pub async fn run(self, client: Client, shutdown: Shutdown) {
        shutdown.run(async move { self.list_and_watch(client).await }).await;
    }

    async fn list_and_watch(&self, client: Client) {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(5)).with_jitter(0.2);
        // Any state will do at first; after an expiry only the newest.
        let mut from = "0".to_owned();
        loop {
            match self.list(&client, &from).await {
                Ok(version) => {
                    backoff.reset();
                    self.watch(&client, version, &mut backoff).await;
                    from.clear();
                }
                Err(error) => {
                    self.report("cannot list", &error);
                    if error.is_expired() {
                        from.clear();
                    }
                    rt::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    async fn list(&self, client: &Client, from: &str) -> Result<String, Error> {
        let scope = &self.shared.scope;
        let params = ListParams {
            label_selector: scope.label_selector.clone(),
            field_selector: scope.field_selector.clone(),
            resource_version: from.to_owned(),
            ..ListParams::default()
        };
        let (list, unreadable) = client.list_readable::<T>(&scope.namespace, &params).await?;
        unreadable.iter().for_each(|error| self.skip(error));
        self.take_list(list.items, &list.resource_version);
        self.shared.synced.send_replace(true);
        Ok(list.resource_version)
    }

    /// Follows the watch until the version is too old to go on from.
    async fn watch(&self, client: &Client, mut version: String, backoff: &mut Backoff) {
        loop {
            match self.follow(client, &mut version, backoff).await {
                Ok(()) => {}
                Err(error) if error.is_expired() => {
                    tracing::debug!(kind = T::KIND, "watch expired, listing again");
                    return;
                }
                Err(error) => {
                    self.report("watch broke", &error);
                    rt::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    async fn follow(&self, client: &Client, version: &mut String, backoff: &mut Backoff) -> Result<(), Error> {
        let scope = &self.shared.scope;
        let params = WatchParams {
            label_selector: scope.label_selector.clone(),
            field_selector: scope.field_selector.clone(),
            resource_version: version.clone(),
            // Spread over 5 to 10 minutes, so that streams do not all end at once.
            timeout_seconds: 300 + rt::rand::below(300),
            ..WatchParams::default()
        };
        let mut stream = client.watch::<T>(&scope.namespace, &params).await?;
        loop {
            let event = match stream.next().await {
                // The stream goes on behind an object that cannot be read.
                Err(error @ Error::Decode(_)) => {
                    self.skip(&error);
                    continue;
                }
                other => match other? {
                    Some(event) => event,
                    None => return Ok(()),
                },
            };
            backoff.reset();
            self.take(event, version);
        }
    }

    /// Takes an event of the watch in.
    pub(crate) fn take(&self, event: WatchEvent<T>, version: &mut String) {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                object.resource_version().clone_into(version);
                let key = object.key();
                self.upsert(object, Some(version));
                self.follow_up(Some(&key), false);
            }
            WatchEvent::Deleted(object) => {
                object.resource_version().clone_into(version);
                let key = object.key();
                self.delete(object);
                self.follow_up(Some(&key), false);
            }
            WatchEvent::Bookmark { resource_version, .. } => {
                *version = resource_version;
                self.show(version);
                self.follow_up(None, false);
            }
        }
    }

    /// Takes a whole list in.
    pub(crate) fn take_list(&self, objects: Vec<T>, version: &str) {
        self.replace(objects);
        self.show(version);
        self.follow_up(None, true);
    }

    /// One object that cannot be decoded must not stop all others.
    fn skip(&self, error: &Error) {
        if self.shared.undecodable.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::error!(kind = T::KIND, error = error.chain(), "an object cannot be decoded and is left out");
        } else {
            tracing::debug!(kind = T::KIND, error = error.chain(), "another object cannot be decoded");
        }
    }

    fn report(&self, what: &'static str, error: &Error) {
        match error {
            Error::Transport(_) => {
                tracing::debug!(kind = T::KIND, error = error.chain(), what, "informer retries");
            }
            _ => tracing::warn!(kind = T::KIND, error = error.chain(), what, "informer retries"),
        }
    }

    /// The cache has what this version brought. A version that is not a number cannot be compared and is passed over.
    fn show(&self, version: &str) {
        if let Ok(version) = version.parse() {
            self.shared.shown.store(version, Ordering::SeqCst);
        }
    }

    fn follow_up(&self, object: Option<&str>, listed: bool) {
        let progress = Progress { version: self.shown(), object, listed };
        self.shared.followers.lock().retain(|follower| follower(&progress));
    }

    fn replace(&self, objects: Vec<T>) {
        let mut gone: HashSet<String> = self.shared.cache.keys().into_iter().collect();
        for object in objects {
            gone.remove(&object.key());
            self.upsert(object, None);
        }
        let handlers = self.shared.handlers.lock();
        for key in gone {
            if let Some(old) = self.shared.cache.remove(&key) {
                let delta = Delta::Deleted(old);
                handlers.iter().for_each(|handler| handler(&delta));
            }
        }
    }

    /// Takes an object in; `version` is what the cache has come to with it, none in the middle of a list.
    fn upsert(&self, mut object: T, version: Option<&str>) {
        // Nobody reads who manages a field, and it is half of a small object's size.
        object.metadata_mut().managed_fields = None;
        if let Some(transform) = self.shared.transform {
            transform(&mut object);
        }
        let object = Arc::new(object);
        let handlers = self.shared.handlers.lock();
        let replaced = self.shared.cache.get_key(&object.key()).filter(|old| old.uid() != object.uid());
        if let Some(old) = replaced {
            // Deleted and made again while we did not look.
            self.shared.cache.remove(&old.key());
            let delta = Delta::Deleted(old);
            handlers.iter().for_each(|handler| handler(&delta));
        }
        let delta = self.shared.cache.upsert(object);
        if let Some(version) = version {
            self.show(version);
        }
        if let Some(delta) = delta {
            handlers.iter().for_each(|handler| handler(&delta));
        }
    }

    fn delete(&self, mut object: T) {
        object.metadata_mut().managed_fields = None;
        let handlers = self.shared.handlers.lock();
        let known = self.shared.cache.remove(&object.key()).is_some();
        self.show(object.resource_version());
        if known {
            let delta = Delta::Deleted(Arc::new(object));
            handlers.iter().for_each(|handler| handler(&delta));
        }
    }
}
