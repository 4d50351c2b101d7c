//! CustomResourceDefinition.

use serde_json::{Value, json};

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules =
    Rules { default, validate: create, validate_update: update, validate_status: status, revalidate: false };

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

/// Types of a printer column.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// The annotation that groups of the project's own domains need.
const APPROVED: &str = "api-approved.kubernetes.io";

fn create(definition: &C) {
    let spec = definition.get("spec");
    let expected = format!("{}.{}", spec.get("names.plural").str(), spec.get("group").str());
    if definition.get("metadata.name").str() != expected {
        definition.get("metadata.name").invalid("must be spec.names.plural+\".\"+spec.group");
    }
    validate(definition);
}

fn validate(definition: &C) {
    let spec = definition.get("spec");
    let group = spec.get("group");
    approval(definition, group.str());
    if group.required() {
        let findings = meta::names::dns1123_subdomain(group.str());
        if !findings.is_empty() {
            group.invalid(findings.join(","));
        } else if !group.str().contains('.') {
            group.invalid("should be a domain with at least one dot");
        }
    }
    spec.get("scope").required_one_of(&["Cluster", "Namespaced"]);
    names(&spec.get("names"));
    versions(&spec);
    conversion(&spec.get("conversion"));
    stored_versions(definition);
}

fn approval(definition: &C, group: &str) {
    let protected = ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group == *domain || group.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
    let annotation = definition.get("metadata.annotations");
    let annotation = annotation.key(APPROVED);
    if protected && annotation.is_zero() {
        annotation.missing(
            "protected groups must have approval annotation \"api-approved.kubernetes.io\", \
             see https://github.com/kubernetes/enhancements/pull/1111",
        );
    }
}

fn names(names: &C) {
    for field in ["plural", "singular", "kind", "listKind"] {
        let name = names.get(field);
        if !name.required() {
            continue;
        }
        let mixed = matches!(field, "kind" | "listKind");
        let text = if mixed { name.str().to_lowercase() } else { name.str().to_owned() };
        let findings = meta::names::dns1035_label(&text);
        if !findings.is_empty() {
            let prefix = if mixed { "may have mixed case, but should otherwise match: " } else { "" };
            name.invalid(format!("{prefix}{}", findings.join(",")));
        }
    }
    let list_kind = names.get("listKind");
    if !list_kind.is_zero() && list_kind.str() == names.get("kind").str() {
        list_kind.invalid("kind and listKind may not be the same");
    }
    for field in ["shortNames", "categories"] {
        for name in names.get(field).items() {
            let findings = meta::names::dns1035_label(name.str());
            if !findings.is_empty() {
                name.invalid(findings.join(","));
            }
        }
    }
}

fn versions(spec: &C) {
    let versions = spec.get("versions");
    let mut seen: Vec<&str> = Vec::new();
    let mut storage = 0;
    let preserve = spec.get("preserveUnknownFields").is_true();
    if preserve {
        let word = "cannot set to true, set x-preserve-unknown-fields to true in spec.versions[*].schema instead";
        spec.get("preserveUnknownFields").invalid(word);
    }
    // Upstream moves what all versions share to the top before it validates, and reports there.
    let schemas: Vec<_> = versions.items().map(|v| v.get("schema.openAPIV3Schema").value()).collect();
    let shared = schemas.windows(2).all(|pair| pair[0] == pair[1]) && schemas.first().is_some_and(Option::is_some);
    if let (true, Some(Some(schema))) = (shared, schemas.first()) {
        let status = versions.items().any(|v| v.get("subresources.status").exists());
        super::schema::validate(&spec.get("validation.openAPIV3Schema").with_value(schema), status);
    }
    for version in versions.items() {
        let name = version.get("name");
        let findings = meta::names::dns1035_label(name.str());
        if !findings.is_empty() {
            name.invalid_value(name.str(), findings.join(","));
        }
        if seen.contains(&name.str()) {
            versions.invalid("must contain unique version names");
        }
        seen.push(name.str());
        storage += usize::from(version.get("storage").is_true());
        let schema = version.get("schema.openAPIV3Schema");
        if shared {
            // Reported above.
        } else if schema.exists() {
            super::schema::validate(&schema, version.get("subresources.status").exists());
        } else {
            schema.missing("");
        }
        subresources(&version.get("subresources"));
        for column in version.get("additionalPrinterColumns").items() {
            column.get("name").required();
            column.get("jsonPath").required();
            let kind = column.get("type");
            let word = format!("must be one of {}", COLUMN_TYPES.join(","));
            if kind.is_zero() {
                kind.missing(&word);
            } else if !COLUMN_TYPES.contains(&kind.str()) {
                kind.invalid(word);
            }
        }
    }
    if storage != 1 {
        versions.invalid("must have exactly one version marked as storage version");
    }
}

fn subresources(subresources: &C) {
    let scale = subresources.get("scale");
    if !scale.exists() {
        return;
    }
    for (field, root) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = scale.get(field);
        if path.required() && !path.str().starts_with(root) {
            path.invalid(format!("should be a json path under {}", root.trim_end_matches('.')));
        }
    }
    let selector = scale.get("labelSelectorPath");
    if !selector.is_zero() && !selector.str().starts_with(".spec.") && !selector.str().starts_with(".status.") {
        selector.invalid("should be a json path under either .spec or .status");
    }
}

fn conversion(conversion: &C) {
    conversion.get("strategy").required_one_of(&["None", "Webhook"]);
    let webhook = conversion.get("webhook");
    if conversion.get("strategy").str() != "Webhook" {
        if webhook.exists() {
            webhook.forbidden("should not be set when strategy is not set to Webhook");
        }
        return;
    }
    let client = webhook.get("clientConfig");
    if !client.exists() {
        return client.missing("required when strategy is set to Webhook");
    }
    if client.get("url").exists() == client.get("service").exists() {
        client.missing("exactly one of url or service is required");
    }
    webhook.get("conversionReviewVersions").required();
}

fn stored_versions(definition: &C) {
    let stored = definition.get("status.storedVersions");
    let versions = definition.get("spec.versions");
    for name in stored.items() {
        if !versions.items().any(|v| v.get("name").str() == name.str()) {
            let version = name.str();
            name.invalid(format!(
                "missing from spec.versions; {version} was previously a storage version, and must remain in spec.versions \
                 until a storage migration ensures no data remains persisted in {version} and removes {version} from \
                 status.storedVersions"
            ));
        }
    }
}

/// Once established, group, scope and kind stay what they are.
fn update(new: &C, old: &C) {
    validate(new);
    let established = old
        .get("status.conditions")
        .items()
        .any(|c| c.get("type").str() == "Established" && c.get("status").str() == "True");
    let fields: &[&str] =
        if established { &["group", "names.plural", "scope", "names.kind"] } else { &["group", "names.plural"] };
    for field in fields {
        let (spec, before) = (new.get("spec"), old.get("spec"));
        spec.get(field).immutable(&before.get(field));
    }
}

fn status(new: &C, _old: &C) {
    let stored = new.get("status.storedVersions");
    if stored.is_empty() {
        return stored.invalid("must have at least one stored version");
    }
    let storage = new.get("spec.versions");
    if let Some(version) = storage.items().find(|v| v.get("storage").is_true()) {
        let name = version.get("name").str();
        if !stored.items().any(|s| s.str() == name) {
            stored.invalid(format!("must have the storage version {name}"));
        }
    }
    stored_versions(new);
}
