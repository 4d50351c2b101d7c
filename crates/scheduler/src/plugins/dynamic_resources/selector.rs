//! Selectors of devices, in CEL.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use api::k8s::resource::v1::{Device, DeviceAttribute};
use celx::{Env, Key, Map, Meter, Program, Type, Value};
use parking_lot::Mutex;
use rt::HashMap;

/// What one evaluation may cost, upstream's number.
const COST_LIMIT: u64 = 1_000_000;
/// Compiled expressions that are kept.
const KEPT: usize = 256;

type Compiled = Arc<Result<Program, String>>;

/// Compiles selectors, each once.
pub(super) struct Selectors {
    env: Env,
    programs: Mutex<HashMap<String, Compiled>>,
}

/// The domain of an attribute or capacity, and its name in the domain.
fn split<'a>(name: &'a str, driver: &'a str) -> (&'a str, &'a str) {
    name.split_once('/').unwrap_or((driver, name))
}

fn text<'a>(text: &str) -> Value<'a> {
    Value::text(text)
}

fn map(entries: BTreeMap<Key, Value<'static>>) -> Value<'static> {
    Value::Map(Map::Own(Rc::new(entries)))
}

type Domains = BTreeMap<String, BTreeMap<Key, Value<'static>>>;

fn by_domain(domains: Domains, missing: &[String]) -> Value<'static> {
    let mut all: BTreeMap<Key, Value<'static>> =
        domains.into_iter().map(|(domain, entries)| (Key::Str(domain.into()), map(entries))).collect();
    for domain in missing {
        all.entry(Key::Str(domain.as_str().into())).or_insert_with(|| map(BTreeMap::new()));
    }
    map(all)
}

fn value_of(attribute: &DeviceAttribute) -> Result<Value<'static>, String> {
    if let Some(int) = attribute.int {
        return Ok(Value::Int(int));
    }
    if let Some(bool) = attribute.bool {
        return Ok(Value::Bool(bool));
    }
    if let Some(string) = &attribute.string {
        return Ok(text(string));
    }
    if let Some(version) = &attribute.version {
        return version_value(version);
    }
    Err("unsupported attribute value".to_owned())
}

/// A version as a value of the language, made by its own function: its type has no other constructor.
fn version_value(version: &str) -> Result<Value<'static>, String> {
    let program = Env::new().with("text", Type::STR).compile("semver(text)").map_err(|e| e.to_string())?;
    let values = vec![text(version)];
    match program.eval(&values, &mut Meter::new(COST_LIMIT)) {
        Ok(Value::Semver(version)) => Ok(Value::Semver(version)),
        Ok(_) => Err("parse semantic version: unexpected value".to_owned()),
        Err(error) => Err(format!("parse semantic version: {error}")),
    }
}

fn device_value(driver: &str, device: &Device, missing: &[String]) -> Result<Value<'static>, String> {
    let (mut attributes, mut capacity) = (Domains::new(), Domains::new());
    for (name, attribute) in device.attributes.iter().flatten() {
        let (domain, id) = split(name, driver);
        let value = value_of(attribute).map_err(|e| format!("attribute {name}: {e}"))?;
        attributes.entry(domain.to_owned()).or_default().insert(Key::Str(id.into()), value);
    }
    for (name, amount) in device.capacity.iter().flatten() {
        let (domain, id) = split(name, driver);
        let Ok(quantity) = amount.value.0.parse() else { continue };
        capacity.entry(domain.to_owned()).or_default().insert(Key::Str(id.into()), Value::Quantity(quantity));
    }
    let fields = [
        ("driver", text(driver)),
        ("allowMultipleAllocations", Value::Bool(device.allow_multiple_allocations == Some(true))),
        ("attributes", by_domain(attributes, missing)),
        ("capacity", by_domain(capacity, missing)),
    ];
    Ok(map(fields.into_iter().map(|(name, value)| (Key::Str(name.into()), value)).collect()))
}

/// Why a selector gave no answer.
#[derive(Debug)]
pub(super) enum Fault {
    Compile(String),
    Run(String),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Compile(error) => write!(f, "CEL compile error: {error}"),
            Self::Run(error) => write!(f, "CEL runtime error: {error}"),
        }
    }
}

impl Selectors {
    pub(super) fn new() -> Self {
        let any = Type::map(Type::STR, Type::map(Type::STR, Type::DYN));
        let amounts = Type::map(Type::STR, Type::map(Type::STR, Type::named("quantity")));
        let device = Type::record(
            "kubernetes.DRADevice",
            &[
                ("driver", Type::STR),
                ("allowMultipleAllocations", Type::BOOL),
                ("attributes", any),
                ("capacity", amounts),
            ],
        );
        Self { env: Env::new().with("device", device).with_bindings(), programs: Mutex::default() }
    }

    fn compiled(&self, expression: &str) -> Compiled {
        let mut programs = self.programs.lock();
        if let Some(known) = programs.get(expression) {
            return known.clone();
        }
        if programs.len() >= KEPT {
            programs.clear();
        }
        let compiled = Arc::new(self.env.compile(expression).map_err(|issues| issues.to_string()));
        programs.insert(expression.to_owned(), compiled.clone());
        compiled
    }

    /// Whether a device is selected.
    ///
    /// # Errors
    /// The expression is wrong, or fails on this device.
    pub(super) fn matches(&self, expression: &str, driver: &str, device: &Device) -> Result<bool, Fault> {
        let compiled = self.compiled(expression);
        let program = compiled.as_ref().as_ref().map_err(|error| Fault::Compile(error.clone()))?;
        // A domain that the device knows nothing of has no entries, but is no error: such a domain is added when
        // the expression asks for it.
        let mut missing: Vec<String> = Vec::new();
        loop {
            let values = vec![device_value(driver, device, &missing).map_err(Fault::Run)?];
            let error = match program.eval(&values, &mut Meter::new(COST_LIMIT)) {
                Ok(value) => return value.bool().map_err(|error| Fault::Run(error.to_string())),
                Err(error) => error.to_string(),
            };
            let absent = error.strip_prefix("no such key: ").map(str::to_owned);
            match absent {
                Some(domain) if domain.contains('.') && !missing.contains(&domain) => missing.push(domain),
                _ => return Err(Fault::Run(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selects_by_driver_attributes_and_capacity() {
        let device: Device = serde_json::from_value(json!({
            "name": "d",
            "attributes": {"model": {"string": "A100"}, "other.example/count": {"int": 3}, "v": {"version": "1.2.3"}},
            "capacity": {"memory": {"value": "40Gi"}},
        }))
        .unwrap();
        let selectors = Selectors::new();
        for (expression, want) in [
            ("device.driver == 'gpu.example'", Some(true)),
            ("device.attributes['gpu.example'].model == 'A100'", Some(true)),
            ("device.attributes['other.example'].count > 5", Some(false)),
            ("device.attributes['gpu.example'].v.isGreaterThan(semver('1.2.0'))", Some(true)),
            ("device.capacity['gpu.example'].memory.compareTo(quantity('10Gi')) >= 0", Some(true)),
            ("has(device.attributes['unknown.example'].x)", Some(false)),
            ("'unknown.example' in device.attributes", Some(false)),
            ("cel.bind(dra, device.attributes['gpu.example'], dra.model == 'A100' && has(dra.v))", Some(true)),
            ("cel.bind(n, 2, cel.bind(m, n + 1, [n, m].exists(n, n == m))) && size('cel') == 3", Some(true)),
            ("cel.bind(device.x, 1, true)", None),
            ("device.attributes['unknown.example'].x", None),
            ("device.nonsense", None),
        ] {
            assert_eq!(selectors.matches(expression, "gpu.example", &device).ok(), want, "{expression}");
        }
    }
}
