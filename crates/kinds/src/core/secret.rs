//! Secret.

use base64::Engine as _;
use meta::Object;
use registry::{Ctx, KindRow, SelectableField};
use serde_json::Value;

use crate::printer::{AGE, NAME, age, text};
use crate::standard::Standard;

static SECRET: Standard = Standard {
    rules: rules::core::secret::RULES,
    fields: &[SelectableField::path("type", &["type"])],
    columns: &[NAME, text("Type"), text("Data"), AGE],
    cells,
    prepare_create: |_, secret| fold_string_data(secret),
    prepare_update,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "Secret", "secrets", SECRET.main())
}

/// An update that names no type keeps the old one.
fn prepare_update(_cx: &Ctx, secret: &mut Object, old: &Object) {
    fold_string_data(secret);
    if secret.get_str(&["type"]).is_empty()
        && let Some(kind) = old.body.get("type").cloned()
    {
        secret.body.insert("type".into(), kind);
    }
}

/// `stringData` is a write-only convenience: its entries become data.
fn fold_string_data(secret: &mut Object) {
    let Some(Value::Object(strings)) = secret.body.remove("stringData") else { return };
    for (key, value) in strings {
        let encoded = base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or(""));
        secret.set(&["data", &key], encoded.into());
    }
}

fn cells(secret: &Object, now: i64) -> Vec<Value> {
    let count = secret.get(&["data"]).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    vec![secret.name().into(), secret.get_str(&["type"]).into(), count.into(), age(secret, now).into()]
}
