//! The table row of a kind: everything that routes, discovery, storage and columns derive from.

use std::sync::Arc;

use meta::{GroupResource, GroupVersionKind, GroupVersionResource, Object, Status};

use crate::strategy::Strategy;

/// How objects are kept in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StoredMedia {
    /// Upstream's protobuf envelope.
    #[default]
    Protobuf,
    /// JSON: custom resources, CRDs and APIServices.
    Json,
}

/// Who answers for the kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Backing {
    /// Objects in the store.
    #[default]
    Stored,
    /// Create-only reviews computed by the API server (`TokenReview`, `SubjectAccessReview`, ...).
    Review,
    /// `componentstatuses`: computed on read.
    ComponentStatus,
    /// `bindings`: creates a pod binding.
    Binding,
}

/// A set of verbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verbs(pub u16);

impl Verbs {
    /// No verb.
    pub const NONE: Verbs = Verbs(0);
    /// create
    pub const CREATE: Verbs = Verbs(1);
    /// delete
    pub const DELETE: Verbs = Verbs(2);
    /// deletecollection
    pub const DELETE_COLLECTION: Verbs = Verbs(4);
    /// get
    pub const GET: Verbs = Verbs(8);
    /// list
    pub const LIST: Verbs = Verbs(16);
    /// patch
    pub const PATCH: Verbs = Verbs(32);
    /// update
    pub const UPDATE: Verbs = Verbs(64);
    /// watch
    pub const WATCH: Verbs = Verbs(128);
    /// All eight.
    pub const ALL: Verbs = Verbs(255);
    /// get, patch, update: what status-like subresources have.
    pub const STATUS: Verbs = Verbs(8 | 32 | 64);

    /// Both sets.
    pub const fn and(self, other: Verbs) -> Verbs {
        Verbs(self.0 | other.0)
    }

    /// Whether all of `other` are in this set.
    pub const fn has(self, other: Verbs) -> bool {
        self.0 & other.0 == other.0
    }

    /// Names in discovery's (alphabetical) order.
    pub fn names(self) -> Vec<&'static str> {
        const NAMES: [(Verbs, &str); 8] = [
            (Verbs::CREATE, "create"),
            (Verbs::DELETE, "delete"),
            (Verbs::DELETE_COLLECTION, "deletecollection"),
            (Verbs::GET, "get"),
            (Verbs::LIST, "list"),
            (Verbs::PATCH, "patch"),
            (Verbs::UPDATE, "update"),
            (Verbs::WATCH, "watch"),
        ];
        NAMES.iter().filter(|(verb, _)| self.has(*verb)).map(|(_, name)| *name).collect()
    }
}

/// Where the scale subresource finds its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScalePaths {
    /// Such as `["spec", "replicas"]`.
    pub spec_replicas: Vec<String>,
    /// Such as `["status", "replicas"]`.
    pub status_replicas: Vec<String>,
    /// Path of the selector (a LabelSelector, a string map or a string), if there is one.
    pub selector: Option<Vec<String>>,
}

/// What serves a subresource.
#[derive(Clone)]
pub enum Sub {
    /// The whole object through another strategy: status, finalize, approval, ephemeralcontainers, resize.
    Object(Arc<dyn Strategy>),
    /// autoscaling/v1 Scale.
    Scale(ScalePaths),
    /// pods/binding: POST of a Binding.
    Binding,
    /// pods/eviction: POST of a policy/v1 Eviction.
    Eviction,
    /// serviceaccounts/token: POST of a TokenRequest.
    Token,
    /// pods/log
    Log,
    /// pods/exec
    Exec,
    /// pods/attach
    Attach,
    /// pods/portforward
    PortForward,
    /// pods, services and nodes proxy.
    Proxy,
}

/// A subresource of a kind.
#[derive(Clone)]
pub struct SubresourceRow {
    /// Such as `status`.
    pub name: String,
    /// Verbs in discovery.
    pub verbs: Verbs,
    /// The body's kind where it is not the parent's.
    pub kind: Option<GroupVersionKind>,
    /// What serves it.
    pub handler: Sub,
}

/// Converts between the served versions of a kind. `from` and `to` differ at least in version.
pub type Convert = fn(&mut Object, from: &GroupVersionKind, to: &GroupVersionKind) -> Result<(), Status>;

/// One kind of one group.
#[derive(Clone)]
pub struct KindRow {
    /// API group, empty for core.
    pub group: String,
    /// Served versions, preferred first.
    pub versions: Vec<String>,
    /// Kind.
    pub kind: String,
    /// Kind of the list, `<kind>List`.
    pub list_kind: String,
    /// Resource name.
    pub plural: String,
    /// Singular name.
    pub singular: String,
    /// Short names.
    pub short_names: Vec<String>,
    /// Categories, such as `all`.
    pub categories: Vec<String>,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Key in the store up to `/namespace/name`, such as `/registry/pods`; no slash at the end.
    pub key_prefix: String,
    /// Kind in which objects are written to the store.
    pub stored: GroupVersionKind,
    /// Kind in which the strategy sees objects.
    pub hub: GroupVersionKind,
    /// Stored media type.
    pub media: StoredMedia,
    /// Who answers.
    pub backing: Backing,
    /// Verbs.
    pub verbs: Verbs,
    /// The kind's strategy.
    pub strategy: Arc<dyn Strategy>,
    /// Conversion, needed when there is more than one version.
    pub convert: Option<Convert>,
    /// Subresources.
    pub subresources: Vec<SubresourceRow>,
    /// For custom resources: the schema's own handling of decode, prune and defaults. `None` for built-in kinds.
    pub custom: Option<Arc<dyn CustomCodec>>,
}

/// What custom resources need in place of the schema table.
pub trait CustomCodec: Send + Sync {
    /// Prunes, defaults and checks a decoded object of the given served version; gives messages on unknown fields (pruned paths).
    ///
    /// # Errors
    /// The object does not fit the structural schema in its kind's most basic shape.
    fn accept(&self, object: &mut Object, version: &str) -> Result<Vec<String>, Status>;
    /// Converts to another served version.
    ///
    /// # Errors
    /// The conversion webhook failed.
    fn convert(&self, object: &mut Object, to: &GroupVersionKind) -> Result<(), Status>;
    /// The structural schema (OpenAPI v3) of a version, for merge keys and OpenAPI.
    fn schema(&self, version: &str) -> Option<Arc<serde_json::Value>>;
}

impl KindRow {
    /// A stored, namespaced kind with all verbs, whose prefix is `/registry/<plural>` and whose stored and hub kind is the
    /// one version given. The builder methods below change what differs.
    pub fn new(group: &str, version: &str, kind: &str, plural: &str, strategy: Arc<dyn Strategy>) -> Self {
        let gvk = GroupVersionKind::new(group, version, kind);
        Self {
            group: group.into(),
            versions: vec![version.into()],
            kind: kind.into(),
            list_kind: format!("{kind}List"),
            plural: plural.into(),
            singular: kind.to_lowercase(),
            short_names: Vec::new(),
            categories: Vec::new(),
            namespaced: true,
            key_prefix: format!("/registry/{plural}"),
            stored: gvk.clone(),
            hub: gvk,
            media: StoredMedia::Protobuf,
            backing: Backing::Stored,
            verbs: Verbs::ALL,
            strategy,
            convert: None,
            subresources: Vec::new(),
            custom: None,
        }
    }

    /// Cluster-scoped.
    pub fn cluster_scoped(mut self) -> Self {
        self.namespaced = false;
        self
    }

    /// Short names.
    pub fn short(mut self, names: &[&str]) -> Self {
        self.short_names = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    /// Categories.
    pub fn categories(mut self, names: &[&str]) -> Self {
        self.categories = names.iter().map(|n| (*n).to_owned()).collect();
        self
    }

    /// Key prefix, such as `/registry/minions`.
    pub fn prefix(mut self, prefix: &str) -> Self {
        self.key_prefix = prefix.into();
        self
    }

    /// All served versions, preferred first, with their conversion.
    pub fn versions(mut self, versions: &[&str], convert: Convert) -> Self {
        self.versions = versions.iter().map(|v| (*v).to_owned()).collect();
        self.convert = Some(convert);
        self
    }

    /// Kind in the store, where it differs; `convert` is used between it and the hub.
    pub fn stored_as(mut self, group: &str, version: &str, kind: &str, convert: Convert) -> Self {
        self.stored = GroupVersionKind::new(group, version, kind);
        self.convert = Some(convert);
        self
    }

    /// The version the strategy works on, where it is not the first.
    pub fn hub(mut self, version: &str) -> Self {
        self.hub.version = version.into();
        self
    }

    /// Kept as JSON.
    pub fn json(mut self) -> Self {
        self.media = StoredMedia::Json;
        self
    }

    /// Not stored.
    pub fn backing(mut self, backing: Backing, verbs: Verbs) -> Self {
        self.backing = backing;
        self.verbs = verbs;
        self
    }

    /// Verbs.
    pub fn verbs(mut self, verbs: Verbs) -> Self {
        self.verbs = verbs;
        self
    }

    /// Adds a subresource.
    pub fn sub(mut self, name: &str, verbs: Verbs, kind: Option<GroupVersionKind>, handler: Sub) -> Self {
        self.subresources.push(SubresourceRow { name: name.into(), verbs, kind, handler });
        self
    }

    /// Adds `status` (get, patch, update).
    pub fn status(self, strategy: Arc<dyn Strategy>) -> Self {
        self.sub("status", Verbs::STATUS, None, Sub::Object(strategy))
    }

    /// Adds `scale` with the usual paths `spec.replicas`, `status.replicas` and `spec.selector`.
    pub fn scale(self) -> Self {
        let path = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let paths = ScalePaths {
            spec_replicas: path("spec", "replicas"),
            status_replicas: path("status", "replicas"),
            selector: Some(path("spec", "selector")),
        };
        let kind = GroupVersionKind::new("autoscaling", "v1", "Scale");
        self.sub("scale", Verbs::STATUS, Some(kind), Sub::Scale(paths))
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&SubresourceRow> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// The kind in a served version.
    pub fn gvk(&self, version: &str) -> GroupVersionKind {
        GroupVersionKind::new(self.group.clone(), version, self.kind.clone())
    }

    /// The resource in a served version.
    pub fn gvr(&self, version: &str) -> GroupVersionResource {
        GroupVersionResource::new(self.group.clone(), version, self.plural.clone())
    }

    /// Group and resource, for error messages.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource::new(self.group.clone(), self.plural.clone())
    }

    /// Converts an object in place; a no-op when it already has the kind.
    ///
    /// # Errors
    /// No conversion is known, or it fails.
    pub fn convert_to(&self, object: &mut Object, to: &GroupVersionKind) -> Result<(), Status> {
        let from = object.gvk();
        if from == *to {
            return Ok(());
        }
        if let Some(custom) = &self.custom {
            return custom.convert(object, to);
        }
        let convert = self.convert.ok_or_else(|| Status::internal(format!("no conversion from {from} to {to}")))?;
        convert(object, &from, to)?;
        object.set_gvk(to);
        Ok(())
    }
}
