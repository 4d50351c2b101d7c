//! OpenAPI v2 and v3 documents from the table.
//!
//! The API server gives its resources ([`Resource`]); definitions come from the table, those of custom resources with
//! them ([`custom`]). Everything is made as v3 and turned to v2 where asked ([`v2_document`]).

pub mod custom;
mod definitions;
mod operations;
mod paths;
mod to_v2;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use meta::{GroupVersion, GroupVersionKind};
use serde_json::{Map, Value, json};

pub use definitions::{definition, reachable};

use crate::{TypeRef, type_by_gvk};

/// The texts for definitions and fields, by OpenAPI name and field (empty for the definition itself).
pub type Describe<'a> = &'a dyn Fn(&str, &str) -> Option<String>;

/// No descriptions.
pub fn undescribed(_: &str, _: &str) -> Option<String> {
    None
}

/// A resource as the API server serves it.
#[derive(Debug, Clone, Default)]
pub struct Resource {
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Plural name in URLs.
    pub plural: String,
    /// Kind of the objects.
    pub kind: String,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Verbs as in discovery.
    pub verbs: Vec<String>,
    /// Subresources.
    pub subresources: Vec<Subresource>,
    /// For custom resources the definitions of kind and list; built-in kinds take theirs from the table.
    pub custom: Option<custom::Definitions>,
}

/// A subresource as the API server serves it.
#[derive(Debug, Clone, Default)]
pub struct Subresource {
    /// Its name, such as `status`.
    pub name: String,
    /// The kind it speaks; its own group and version (`autoscaling/v1, Scale`).
    pub kind: GroupVersionKind,
    /// Verbs as in discovery.
    pub verbs: Vec<String>,
}

impl Resource {
    /// The kind of the objects.
    pub fn gvk(&self) -> GroupVersionKind {
        GroupVersionKind::new(self.group.clone(), self.version.clone(), self.kind.clone())
    }

    pub(crate) fn definition_name(&self) -> String {
        match &self.custom {
            Some(custom) => custom.name.clone(),
            None => kind_definition(&self.gvk()),
        }
    }

    pub(crate) fn list_definition_name(&self) -> String {
        match &self.custom {
            Some(custom) => custom.list_name.clone(),
            None => {
                let list = format!("{}List", self.kind);
                kind_definition(&GroupVersionKind::new(self.group.clone(), self.version.clone(), list))
            }
        }
    }
}

/// The definition of a kind; an unknown kind is described as any object.
pub(crate) fn kind_definition(gvk: &GroupVersionKind) -> String {
    type_by_gvk(gvk).map_or_else(|| definitions::RAW_EXTENSION.to_owned(), TypeRef::openapi_name)
}

/// The v3 document of one group version.
pub fn v3_document(
    group_version: &GroupVersion,
    resources: &[Resource],
    describe: Describe<'_>,
    version: &str,
) -> Value {
    let mut paths = Map::new();
    paths::group_version(&mut paths, group_version);
    for resource in resources {
        paths::resource(&mut paths, resource);
    }
    let gvks: BTreeSet<GroupVersion> = resources.iter().map(|r| r.gvk().group_version()).collect();
    let schemas = schemas(resources, describe, &gvks);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": security()},
    })
}

/// The v2 document of everything.
pub fn v2_document(resources: &[Resource], describe: Describe<'_>, version: &str) -> Value {
    let mut paths = Map::new();
    let mut group_versions = BTreeSet::new();
    for resource in resources {
        group_versions.insert(resource.gvk().group_version());
        paths::resource(&mut paths, resource);
    }
    for group_version in &group_versions {
        paths::group_version(&mut paths, group_version);
    }
    paths::roots(&mut paths, &group_versions);
    let mut schemas = schemas(resources, describe, &group_versions);
    let meta = |name: &str| crate::type_by_name(definitions::META_PACKAGE, name);
    let roots = ["APIGroup", "APIGroupList", "APIVersions"].into_iter().filter_map(meta);
    let info = crate::type_by_name("apimachinery/pkg/version", "Info");
    schemas.extend(definitions::all(&roots.chain(info).collect(), describe, &group_versions));
    let customs = resources.iter().filter_map(|r| r.custom.as_ref());
    let customs = customs.flat_map(|c| c.schemas.iter().map(|(name, _)| name.clone())).collect();
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": to_v2::paths(paths),
        "definitions": to_v2::definitions(schemas, &customs),
        "securityDefinitions": security(),
        "security": [{"BearerToken": []}],
    })
}

/// The index of `/openapi/v3`: one entry per path (`api/v1`, `apis/apps/v1`) with its hash.
pub fn v3_index(entries: &[(String, String)]) -> Value {
    let paths = entries
        .iter()
        .map(|(path, hash)| (path.clone(), json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={hash}")})));
    json!({"paths": paths.collect::<Map<String, Value>>()})
}

fn security() -> Value {
    json!({"BearerToken": {
        "description": "Bearer Token authentication", "in": "header", "name": "authorization", "type": "apiKey"
    }})
}

/// All definitions that the resources need.
fn schemas(resources: &[Resource], describe: Describe<'_>, served: &BTreeSet<GroupVersion>) -> Map<String, Value> {
    let mut roots: BTreeSet<TypeRef> = BTreeSet::new();
    let meta = |name: &str| crate::type_by_name(definitions::META_PACKAGE, name);
    for name in ["APIResourceList", "DeleteOptions", "Status", "WatchEvent", "ObjectMeta", "ListMeta"] {
        roots.extend(meta(name));
    }
    let mut customs: BTreeMap<String, Value> = BTreeMap::new();
    for resource in resources {
        if let Some(custom) = &resource.custom {
            customs.extend(custom.schemas.iter().cloned());
        }
        let list = GroupVersionKind { kind: format!("{}List", resource.kind), ..resource.gvk() };
        let kinds = resource.subresources.iter().map(|s| s.kind.clone()).chain([resource.gvk(), list]);
        // The option kinds of subresources are parameters, not bodies.
        roots.extend(kinds.filter(|k| !k.kind.ends_with("Options")).filter_map(|k| type_by_gvk(&k)));
    }
    let mut schemas = definitions::all(&roots, describe, served);
    schemas.extend(customs);
    schemas
}
