//! CustomResourceDefinition and APIService, as objects.

use meta::Object;
use registry::KindRow;
use serde_json::{Value, json};

use crate::printer::{AGE, NAME, age, list, str_in, text};
use crate::standard::Standard;

/// Holds a definition until its custom resources are gone.
const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

static DEFINITION: Standard = Standard {
    rules: rules::apiextensions::custom_resource_definition::RULES,
    status: true,
    generation: true,
    columns: &[],
    cells: |_, _| Vec::new(),
    prepare_create: |_, definition| {
        stored_versions(definition);
        definition.set(&["status", "acceptedNames"], json!({"plural": "", "kind": ""}));
        definition.set(&["status", "conditions"], Value::Null);
    },
    prepare_update: |_, definition, _| stored_versions(definition),
    pending_finalizers: |definition| definition.deletion_timestamp().is_none(),
    mark_deleting: |definition| {
        // The custom resources go first: the API server removes this when they are gone.
        let mut all: Vec<String> = definition.finalizers().iter().map(|f| (*f).to_owned()).collect();
        if !all.iter().any(|f| f == CLEANUP_FINALIZER) {
            all.push(CLEANUP_FINALIZER.to_owned());
        }
        definition.set_finalizers(all);
    },
    ..Standard::PLAIN
};

static API_SERVICE: Standard = Standard {
    rules: rules::apiextensions::api_service::RULES,
    // The name is `version.group`, and the core group has no name.
    name: registry::names::path_segment,
    status: true,
    prepare_create: |_, service| {
        service.body.insert("status".into(), json!({}));
    },
    columns: &[NAME, text("Service"), text("Available"), AGE],
    cells: service_cells,
    ..Standard::PLAIN
};

/// The rows of both kinds. Definitions are stored under the name of v1beta1 in JSON; nobody serves that version.
pub fn rows() -> Vec<KindRow> {
    const GROUP: &str = "apiextensions.k8s.io";
    const KIND: &str = "CustomResourceDefinition";
    let definitions = KindRow::new(GROUP, "v1", KIND, "customresourcedefinitions", DEFINITION.main())
        .cluster_scoped()
        .short(&["crd", "crds"])
        .categories(&["api-extensions"])
        .prefix("/registry/apiextensions.k8s.io/customresourcedefinitions")
        .json()
        .stored_as(GROUP, "v1beta1", KIND, rules::apiextensions::convert::convert)
        .status(DEFINITION.status_only());
    let services = KindRow::new("apiregistration.k8s.io", "v1", "APIService", "apiservices", API_SERVICE.main())
        .cluster_scoped()
        .categories(&["api-extensions"])
        .prefix("/registry/apiregistration.k8s.io/apiservices")
        .json()
        .status(API_SERVICE.status_only());
    vec![definitions, services]
}

/// A version that is written to the store is one of `status.storedVersions`.
fn stored_versions(definition: &mut Object) {
    let storage = list(definition, &["spec", "versions"])
        .iter()
        .find(|v| v.get("storage").and_then(Value::as_bool) == Some(true))
        .map(|v| str_in(v, "name").to_owned());
    let Some(storage) = storage else { return };
    let mut stored = list(definition, &["status", "storedVersions"]).to_vec();
    if !stored.iter().any(|name| *name == storage) {
        stored.push(storage.into());
        definition.set(&["status", "storedVersions"], stored.into());
    }
}

fn service_cells(service: &Object, now: i64) -> Vec<Value> {
    let part = |field: &str| service.get_str(&["spec", "service", field]);
    let backend = match service.get(&["spec", "service"]).filter(|s| s.is_object()) {
        Some(_) => format!("{}/{}", part("namespace"), part("name")),
        None => "Local".to_owned(),
    };
    let available = list(service, &["status", "conditions"]).iter().find(|c| str_in(c, "type") == "Available");
    let available = match available {
        Some(condition) if str_in(condition, "status") == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", str_in(condition, "status"), str_in(condition, "reason")),
        None => "Unknown".to_owned(),
    };
    vec![service.name().into(), backend.into(), available.into(), age(service, now).into()]
}
