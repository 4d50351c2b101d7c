//! The entries of `metadata.managedFields`.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use meta::Object;
use serde_json::{Map, Value};

use crate::fields_v1::{from_fields_v1, to_fields_v1};
use crate::updater::{Managers, Owned};

/// Decoded entries: who owns what, and since when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Managed {
    pub managers: Managers,
    pub times: BTreeMap<String, String>,
}

/// What tells managers apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub manager: String,
    pub operation: String,
    /// Empty for appliers: they keep one entry whatever version they apply.
    pub api_version: String,
    pub subresource: String,
}

impl Identity {
    /// The identifier: upstream's JSON, with its order of fields.
    pub fn id(&self) -> String {
        let fields = [
            ("manager", &self.manager),
            ("operation", &self.operation),
            ("apiVersion", &self.api_version),
            ("subresource", &self.subresource),
        ];
        let parts: Vec<String> = fields
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| format!("{name:?}:{}", Value::String((*value).clone())))
            .collect();
        format!("{{{}}}", parts.join(","))
    }

    /// Reads an identifier; one that is no JSON names the manager alone.
    pub fn parse(id: &str) -> Self {
        let Ok(map) = serde_json::from_str::<Map<String, Value>>(id) else {
            return Self { manager: id.to_owned(), ..Self::default() };
        };
        let text = |name: &str| map.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Self {
            manager: text("manager"),
            operation: text("operation"),
            api_version: text("apiVersion"),
            subresource: text("subresource"),
        }
    }
}

/// Checks entries.
///
/// # Errors
/// Upstream's words for entries that cannot be read.
pub fn decode_managed_fields(entries: Option<&Value>) -> Result<(), String> {
    Managed::decode(entries).map(|_| ())
}

impl Managed {
    /// Reads the entries of an object.
    pub fn decode(entries: Option<&Value>) -> Result<Self, String> {
        let mut managed = Self::default();
        let entries = match entries {
            None | Some(Value::Null) => return Ok(managed),
            Some(Value::Array(entries)) => entries,
            Some(_) => return Err("managedFields must be a list".to_owned()),
        };
        for (index, entry) in entries.iter().enumerate() {
            let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
            let operation = text("operation");
            if operation != super::OPERATION_APPLY && operation != super::OPERATION_UPDATE {
                return Err("operation must be `Apply` or `Update`".to_owned());
            }
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            match text("fieldsType") {
                "FieldsV1" => {}
                "" => return Err(format!("missing fieldsType in managed fields entry {index}")),
                other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {index}")),
            }
            let applied = operation == super::OPERATION_APPLY;
            let identity = Identity {
                manager: text("manager").to_owned(),
                operation: operation.to_owned(),
                api_version: if applied { String::new() } else { api_version.to_owned() },
                subresource: text("subresource").to_owned(),
            };
            let set = from_fields_v1(entry.get("fieldsV1").unwrap_or(&Value::Null))
                .map_err(|e| format!("error decoding versioned set: error decoding set: {e}"))?;
            let id = identity.id();
            managed.managers.insert(id.clone(), Owned { set, api_version: api_version.to_owned(), applied });
            if !text("time").is_empty() {
                managed.times.insert(id, text("time").to_owned());
            }
        }
        Ok(managed)
    }

    /// Writes the entries into an object, in upstream's order.
    pub fn write(&self, object: &mut Object) {
        let mut entries: Vec<(Identity, &Owned, Option<&String>)> =
            self.managers.iter().map(|(id, owned)| (Identity::parse(id), owned, self.times.get(id))).collect();
        if entries.is_empty() {
            super::strip_managed_fields(object);
            return;
        }
        entries.sort_by(|a, b| order(a, b));
        let list: Vec<Value> =
            entries.into_iter().map(|(identity, owned, time)| entry(&identity, owned, time)).collect();
        object.metadata_mut().insert("managedFields".into(), list.into());
    }
}

fn order(a: &(Identity, &Owned, Option<&String>), b: &(Identity, &Owned, Option<&String>)) -> Ordering {
    // Times are RFC 3339 in UTC with whole seconds, so their text sorts as they do; none sorts first.
    let operation = |applied: bool| if applied { 0 } else { 1 };
    operation(a.1.applied)
        .cmp(&operation(b.1.applied))
        .then_with(|| a.2.cmp(&b.2))
        .then_with(|| a.0.manager.cmp(&b.0.manager))
        .then_with(|| a.1.api_version.cmp(&b.1.api_version))
        .then_with(|| a.0.subresource.cmp(&b.0.subresource))
}

fn entry(identity: &Identity, owned: &Owned, time: Option<&String>) -> Value {
    let operation = if owned.applied { super::OPERATION_APPLY } else { super::OPERATION_UPDATE };
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| drop(entry.insert(name.to_owned(), value));
    put("apiVersion", owned.api_version.as_str().into());
    put("fieldsType", "FieldsV1".into());
    put("fieldsV1", to_fields_v1(&owned.set));
    if !identity.manager.is_empty() {
        put("manager", identity.manager.as_str().into());
    }
    if !identity.subresource.is_empty() {
        put("subresource", identity.subresource.as_str().into());
    }
    if let Some(time) = time {
        put("time", time.as_str().into());
    }
    put("operation", operation.into());
    Value::Object(entry)
}
