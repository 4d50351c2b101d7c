//! One kind's storage: reads. Writes are in `create`, `update` and `delete`.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use meta::selector::FieldSelector;
use meta::{Object, Status};
use parking_lot::Mutex;
use rt::{HashMap, Shutdown};
use store::{KeyRange, RangeRequest, Store};

use crate::cache::{Cache, Page, too_large_version};
use crate::entry::{self, Entry, Raw};
use crate::listing::{ListOptions, VersionMatch, decode_token, encode_token};
use crate::row::KindRow;
use crate::seal::Sealed;

/// The storage of one row.
pub struct Resource {
    /// The row.
    pub row: Arc<KindRow>,
    store: Arc<dyn Store>,
    sealed: Option<Arc<Sealed>>,
    cache: OnceLock<Arc<Cache>>,
    shutdown: Shutdown,
    pub(crate) lease: rt::sync::Mutex<Option<crate::create::EventLease>>,
    /// Trees that were asked for lately, by key: admission looks at the same namespace for each object in it.
    trees: Mutex<HashMap<Bytes, Tree>>,
}

/// An object decoded, at a revision.
struct Tree {
    revision: i64,
    object: Arc<Object>,
}

/// Trees kept per resource, and the stored size up to which one is.
const TREES: usize = 64;
const TREE_BYTES: usize = 16 * 1024;

/// A list's answer.
pub struct Listed {
    /// Objects in key order.
    pub entries: Vec<Arc<Entry>>,
    /// Resource version of the list.
    pub revision: i64,
    /// Token for the rest, empty at the end.
    pub continue_token: String,
    /// How many objects remain, when known.
    pub remaining: Option<i64>,
}

impl Resource {
    pub(crate) fn new(
        row: Arc<KindRow>,
        store: Arc<dyn Store>,
        sealed: Option<Arc<Sealed>>,
        shutdown: Shutdown,
    ) -> Self {
        let store = sealed.clone().map_or(store, |sealed| sealed as Arc<dyn Store>);
        Self {
            row,
            store,
            sealed,
            cache: OnceLock::new(),
            shutdown,
            lease: rt::sync::Mutex::default(),
            trees: Mutex::default(),
        }
    }

    /// Whether an object that did not change is to be written all the same, because it is not encrypted as new ones are.
    pub(crate) async fn stale(&self, key: &str) -> Result<bool, Status> {
        match &self.sealed {
            None => Ok(false),
            Some(sealed) => sealed.stale(key.to_owned().into()).await.map_err(|e| crate::storage_error(&e)),
        }
    }

    /// The store below.
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// The watch cache, started by its first user.
    pub fn cache(&self) -> Arc<Cache> {
        self.cache.get_or_init(|| Cache::start(self.row.clone(), self.store.clone(), self.shutdown.clone())).clone()
    }

    /// Objects in the watch cache, when it runs.
    pub fn cached_objects(&self) -> Option<usize> {
        self.cache.get().map(|c| c.len())
    }

    /// Ends the cache and its watches; used when the row goes away.
    pub(crate) fn stop(&self) {
        self.shutdown.cancel();
    }

    /// The key of an object.
    ///
    /// # Errors
    /// A name that would leave its directory, or a missing namespace: 400.
    pub fn key(&self, namespace: &str, name: &str) -> Result<String, Status> {
        if name.is_empty() {
            return Err(Status::bad_request("Name parameter required."));
        }
        let problems = meta::names::path_segment(name);
        if !problems.is_empty() {
            return Err(Status::bad_request(format!("Name parameter invalid: {name:?}: {}", problems.join(";"))));
        }
        if !self.row.namespaced {
            return Ok(format!("{}/{name}", self.row.key_prefix));
        }
        if namespace.is_empty() {
            return Err(Status::bad_request("Namespace parameter required."));
        }
        Ok(format!("{}/{namespace}/{name}", self.row.key_prefix))
    }

    /// The key prefix of a list, with its slash.
    pub(crate) fn list_prefix(&self, namespace: &str) -> String {
        if self.row.namespaced && !namespace.is_empty() {
            format!("{}/{namespace}/", self.row.key_prefix)
        } else {
            format!("{}/", self.row.key_prefix)
        }
    }

    pub(crate) fn indexed_value(&self, options: &ListOptions) -> Option<String> {
        let field = self.row.strategy.selectable_fields().iter().find(|f| f.indexed)?;
        options.fields.required_value(field.name).map(str::to_owned)
    }

    /// 404 for a name.
    pub fn not_found(&self, name: &str) -> Status {
        Status::not_found(&self.row.group_resource(), name)
    }

    /// Reads one object. `version`: `None` reads the store, `Some(0)` what is cached, another one at least that new.
    ///
    /// # Errors
    /// 404, or the store failed.
    pub async fn get(&self, namespace: &str, name: &str, version: Option<i64>) -> Result<Raw, Status> {
        let key = self.key(namespace, name)?;
        if let Some(version) = version {
            let cache = self.cache();
            if cache.wait_for(version.max(1)).await.is_ok() {
                let found = cache.get(key.as_bytes()).0;
                return found.map(|e| e.raw.clone()).ok_or_else(|| self.not_found(name));
            }
            if version > 0 {
                return Err(too_large_version(version, cache.progress()));
            }
        }
        self.read(&key).await?.ok_or_else(|| self.not_found(name))
    }

    /// Reads a key from the store.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Raw>, Status> {
        let (found, _) = self.store.get(key.to_owned().into()).await.map_err(|e| crate::storage_error(&e))?;
        Ok(found.map(|kv| Raw { value: kv.value, revision: kv.mod_revision }))
    }

    /// Reads one object as a tree in the hub version.
    ///
    /// # Errors
    /// 404, damaged bytes, or the store failed.
    pub async fn get_object(&self, namespace: &str, name: &str) -> Result<Object, Status> {
        entry::decode_hub(&self.row, &self.get(namespace, name, None).await?)
    }

    /// One object as cached (maybe a moment old), as a tree in the hub version; `None` when there is none.
    ///
    /// # Errors
    /// The cache is not ready, or damaged bytes.
    pub async fn get_cached(&self, namespace: &str, name: &str) -> Result<Option<Object>, Status> {
        let key = self.key(namespace, name)?;
        let cache = self.cache();
        cache.wait_ready().await?;
        cache.get(key.as_bytes()).0.map(|e| entry::decode_hub(&self.row, &e.raw)).transpose()
    }

    /// As [`Resource::get_cached`], decoded once for many readers.
    ///
    /// # Errors
    /// As there.
    pub async fn get_shared(&self, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        let key = self.key(namespace, name)?;
        let cache = self.cache();
        cache.wait_ready().await?;
        cache.get(key.as_bytes()).0.map(|entry| self.tree(&entry)).transpose()
    }

    /// As [`Resource::list_cached`], decoded once for many readers when there are few.
    ///
    /// # Errors
    /// As there.
    pub async fn list_shared(&self, namespace: &str) -> Result<Vec<Arc<Object>>, Status> {
        let options = ListOptions { namespace: namespace.into(), resource_version: Some(0), ..ListOptions::default() };
        let listed = self.list(&options).await?;
        if listed.entries.len() > TREES / 2 {
            let trees = listed.entries.iter().map(|e| entry::decode_hub(&self.row, &e.raw).map(Arc::new));
            return trees.collect();
        }
        listed.entries.iter().map(|e| self.tree(e)).collect()
    }

    fn tree(&self, entry: &Entry) -> Result<Arc<Object>, Status> {
        // What a definition or a decorator has a say in may decode differently the next time.
        let constant = self.row.custom.is_none() && self.row.strategy.decorator().is_none();
        let keep = constant && entry.raw.value.len() <= TREE_BYTES;
        if keep
            && let Some(known) = self.trees.lock().get(&entry.key)
            && known.revision == entry.raw.revision
        {
            return Ok(known.object.clone());
        }
        let object = Arc::new(entry::decode_hub(&self.row, &entry.raw)?);
        if keep {
            let mut trees = self.trees.lock();
            if trees.len() >= TREES {
                trees.clear();
            }
            trees.insert(entry.key.clone(), Tree { revision: entry.raw.revision, object: object.clone() });
        }
        Ok(object)
    }

    /// All objects as trees in the hub version, from the cache (maybe a moment old).
    ///
    /// # Errors
    /// The cache is not ready, or damaged bytes.
    pub async fn list_cached(&self, namespace: &str) -> Result<Vec<Object>, Status> {
        let options = ListOptions { namespace: namespace.into(), resource_version: Some(0), ..ListOptions::default() };
        let listed = self.list(&options).await?;
        listed.entries.iter().map(|e| entry::decode_hub(&self.row, &e.raw)).collect()
    }

    /// Lists, in every resource version mode.
    ///
    /// # Errors
    /// 410 below a compaction, 504 above the current revision, 400 for a bad token, or the store failed.
    pub async fn list(&self, options: &ListOptions) -> Result<Listed, Status> {
        if options.fields_at.is_none() {
            return self.list_stored(options).await;
        }
        // Conversion may ask a webhook, which no lock of the cache may wait for: so afterwards. A page may be short.
        let plain = ListOptions { fields: FieldSelector::default(), fields_at: None, ..options.clone() };
        let mut listed = self.list_stored(&plain).await?;
        listed.entries.retain(|entry| entry.matches_all(&self.row, options));
        listed.remaining = None;
        Ok(listed)
    }

    async fn list_stored(&self, options: &ListOptions) -> Result<Listed, Status> {
        let prefix = self.list_prefix(&options.namespace);
        let mut start = prefix.clone();
        let mut exact = None;
        if !options.continue_token.is_empty() {
            let (key, revision) = decode_token(&prefix, &options.continue_token)?;
            if options.resource_version.is_some_and(|v| v != 0) {
                return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
            }
            start = key;
            exact = (revision > 0).then_some(revision);
        } else if let Some(version) = options.resource_version.filter(|v| *v > 0) {
            let legacy = options.version_match == VersionMatch::Unset && options.limit > 0;
            if options.version_match == VersionMatch::Exact || legacy {
                exact = Some(version);
            }
        }
        let cache = self.cache();
        match (exact, options.resource_version) {
            (Some(revision), _) => {
                cache.wait_for(revision).await?;
                if cache.progress() != revision {
                    return self.list_exact(options, &prefix, &start, revision).await;
                }
            }
            (None, Some(0)) => cache.wait_ready().await?,
            (None, Some(version)) => cache.wait_for(version).await?,
            (None, None) => cache.wait_current().await?,
        }
        let page = self.cached_page(&cache, options, &prefix, &start);
        if exact.is_some_and(|revision| revision != page.revision) {
            return self.list_exact(options, &prefix, &start, exact.unwrap_or(0)).await;
        }
        Ok(self.finish(options, &prefix, page))
    }

    fn cached_page(&self, cache: &Cache, options: &ListOptions, prefix: &str, start: &str) -> Page {
        let row = &self.row;
        let keep = |entry: &Entry| entry.matches(row, &options.labels, &options.fields);
        if let Some(page) = self.single_page(cache, options, prefix, start) {
            return page;
        }
        let indexed = self.indexed_value(options);
        // As upstream, a list at "0" is served whole.
        let whole = options.resource_version == Some(0) && options.continue_token.is_empty();
        let limit = if whole { 0 } else { options.limit };
        cache.list(prefix, start, limit, indexed.as_deref(), &keep)
    }

    /// `metadata.name=x` needs one look-up.
    fn single_page(&self, cache: &Cache, options: &ListOptions, prefix: &str, start: &str) -> Option<Page> {
        if self.row.namespaced && options.namespace.is_empty() {
            return None;
        }
        let name = options.fields.required_value("metadata.name")?;
        let key = format!("{prefix}{name}");
        let (found, revision) = cache.get(key.as_bytes());
        let keep = |e: &Arc<Entry>| key.as_str() >= start && e.matches(&self.row, &options.labels, &options.fields);
        Some(Page { entries: found.filter(keep).into_iter().collect(), revision, next: None, remaining: 0 })
    }

    fn finish(&self, options: &ListOptions, prefix: &str, page: Page) -> Listed {
        let continue_token = match &page.next {
            Some(next) => encode_token(prefix, &String::from_utf8_lossy(next), page.revision),
            None => String::new(),
        };
        let counted = page.next.is_some() && options.unfiltered();
        Listed {
            entries: page.entries,
            revision: page.revision,
            continue_token,
            remaining: counted.then_some(page.remaining),
        }
    }

    async fn list_exact(
        &self,
        options: &ListOptions,
        prefix: &str,
        start: &str,
        revision: i64,
    ) -> Result<Listed, Status> {
        let end = match KeyRange::prefix(prefix.to_owned()).end {
            store::RangeEnd::Before(end) => end,
            _ => return Err(Status::internal("list prefix has no end")),
        };
        let mut entries = Vec::new();
        let mut from = start.to_owned();
        let (next, remaining) = loop {
            let range = KeyRange::half_open(from.clone(), end.clone());
            let wanted = if options.limit == 0 { 0 } else { options.limit.max(100) + 1 };
            let request = RangeRequest::new(range).at(revision).limit(wanted);
            let page =
                self.store.range(request).await.map_err(|e| self.exact_error(options, prefix, start, revision, &e))?;
            let (total, more) = (page.count, page.more);
            let mut seen = 0;
            let mut stop = None;
            for kv in page.kvs {
                from = format!("{}\0", String::from_utf8_lossy(&kv.key));
                let entry = Entry::new(&self.row, kv.key, kv.value, kv.mod_revision);
                if entry.matches(&self.row, &options.labels, &options.fields) {
                    if options.limit > 0 && entries.len() == options.limit {
                        stop = Some(String::from_utf8_lossy(&entry.key).into_owned());
                        break;
                    }
                    entries.push(Arc::new(entry));
                }
                seen += 1;
            }
            if stop.is_some() || !more {
                break (stop, total - seen);
            }
        };
        let continue_token = next.as_deref().map(|key| encode_token(prefix, key, revision)).unwrap_or_default();
        let counted = next.is_some() && options.unfiltered();
        Ok(Listed { entries, revision, continue_token, remaining: counted.then_some(remaining) })
    }

    fn exact_error(
        &self,
        options: &ListOptions,
        prefix: &str,
        start: &str,
        revision: i64,
        error: &store::Error,
    ) -> Status {
        match error {
            store::Error::Compacted { compacted, .. } if options.continue_token.is_empty() => Status::expired(format!(
                "The resourceVersion for the provided list is too old. ({revision} < {compacted})"
            )),
            store::Error::Compacted { .. } => {
                let mut status = Status::expired(
                    "The provided continue parameter is too old to display a consistent list result. You can start a new list \
                     without the continue parameter, or use the continue token in this response to retrieve the remainder of \
                     the results. Continuing with the provided token results in an inconsistent list - objects that were \
                     created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
                );
                status.continue_token = encode_token(prefix, start, -1);
                status
            }
            store::Error::FutureRevision { current, .. } => too_large_version(revision, *current),
            other => crate::storage_error(other),
        }
    }
}
