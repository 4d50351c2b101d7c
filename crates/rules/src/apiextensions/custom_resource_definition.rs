//! CustomResourceDefinition.

use serde_json::{Value, json};

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    let names = spec.make("names");
    let kind = names.text("kind").to_owned();
    names.default_str("singular", &kind.to_lowercase());
    if !kind.is_empty() {
        names.default_str("listKind", &format!("{kind}List"));
    }
    spec.default_value("conversion", json!({"strategy": "None"}));
    if let Some(service) = spec.descend(&["conversion", "webhook", "clientConfig", "service"]) {
        service.default_value("port", 443);
    }
    let storage = spec.each("versions").find(|v| v.get("storage").and_then(Value::as_bool) == Some(true));
    let storage = storage.map(|v| v.text("name").to_owned());
    let status = body.make("status");
    if status.unset("storedVersions")
        && let Some(name) = storage
    {
        status.insert("storedVersions".into(), json!([name]));
    }
}
