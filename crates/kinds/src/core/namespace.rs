//! Namespace.

use meta::Object;
use registry::{Ctx, KindRow, SelectableField, Sub, Verbs};
use serde_json::{Value, json};

use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static NAMESPACE: Standard = Standard {
    rules: rules::core::namespace::RULES,
    status: true,
    name: registry::names::dns1123_label,
    fields: &[SelectableField::path("status.phase", &["status", "phase"])],
    columns: &[NAME, text("Status"), AGE],
    cells: |namespace, now| {
        vec![namespace.name().into(), namespace.get_str(&["status", "phase"]).into(), age(namespace, now).into()]
    },
    prepare_create,
    prepare_update: |_, namespace, old| keep_finalizers(namespace, old),
    canonicalize: |namespace| rules::core::namespace::set_name_label(&mut namespace.body),
    return_deleted: true,
    pending_finalizers: |namespace| {
        namespace.get(&["spec", "finalizers"]).and_then(Value::as_array).is_some_and(|list| !list.is_empty())
    },
    mark_deleting: |namespace| namespace.set(&["status", "phase"], "Terminating".into()),
    ..Standard::PLAIN
};

/// The finalizer that makes the namespace controller empty a deleted namespace.
const FINALIZER: &str = "kubernetes";

/// The row. Deleting marks the namespace (see `registry`); it goes when `spec.finalizers` is empty.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "Namespace", "namespaces", NAMESPACE.main())
        .cluster_scoped()
        .short(&["ns"])
        .verbs(Verbs(Verbs::ALL.0 & !Verbs::DELETE_COLLECTION.0))
        .sub("finalize", Verbs::UPDATE, None, Sub::Object(NAMESPACE.part(&["spec"], &[], |_, _| {})))
        .status(NAMESPACE.status())
}

fn prepare_create(_cx: &Ctx, namespace: &mut Object) {
    namespace.set(&["status", "phase"], "Active".into());
    let mut finalizers = namespace.get(&["spec", "finalizers"]).and_then(Value::as_array).cloned().unwrap_or_default();
    if !finalizers.iter().any(|f| f == FINALIZER) {
        finalizers.push(FINALIZER.into());
    }
    namespace.set(&["spec", "finalizers"], json!(finalizers));
}

fn keep_finalizers(namespace: &mut Object, old: &Object) {
    match old.get(&["spec", "finalizers"]).cloned() {
        Some(finalizers) => namespace.set(&["spec", "finalizers"], finalizers),
        None => {
            namespace.remove(&["spec", "finalizers"]);
        }
    }
}
