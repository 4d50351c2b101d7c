//! Resolves Go types to the shapes the codecs know.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::openapi::{self, Definition};
use super::{groups, openapi::Property};

/// One resolved field.
pub struct Field {
    pub json: String,
    pub go_type: String,
    pub number: u16,
    /// `S`, `L`, `M` or `ML`: single, list, map, map of string lists.
    pub card: &'static str,
    /// A variant of `schema::Elem` as Rust text.
    pub elem: String,
    pub pointer: bool,
    pub omit_empty: bool,
    pub omit_zero: bool,
    pub inline: bool,
    pub required: bool,
    pub facts: Property,
    pub patch: (String, String),
}

/// One resolved struct.
pub struct Struct {
    pub package: String,
    pub name: String,
    pub atomic: bool,
    pub is_kind: bool,
    pub unions: Option<String>,
    pub fields: Vec<Field>,
}

/// Everything the emitter needs.
pub struct Model {
    pub structs: Vec<Struct>,
    /// (kind, group, version, index of struct), sorted.
    pub kinds: Vec<(String, String, String, usize)>,
}

type Packages = BTreeMap<String, BTreeMap<String, Vec<Value>>>;

impl Model {
    /// Loads and resolves all facts.
    pub fn load(upstream: &Path) -> Result<Self> {
        let mut packages: Packages = read(&upstream.join("wire/go-fields.json"))?;
        let proto: HashMap<String, HashMap<String, Value>> = read(&upstream.join("wire/protobuf-fields.json"))?;
        add_empty_structs(&mut packages, &proto);
        add_copied_structs(&mut packages, &proto);
        let mut definitions = openapi::load(upstream)?;
        inherit_definitions(&packages, &mut definitions);
        let resolver = Resolver::new(&packages, proto);
        let mut structs = Vec::new();
        for (package, types) in packages.iter().filter(|(p, _)| !groups::skipped(p)) {
            for (name, fields) in types.iter().filter(|(name, _)| !is_scalar(package, name)) {
                let facts = definitions.get(&format!("{package}.{name}"));
                structs.push(resolver.structure(package, name, fields, facts)?);
            }
        }
        let kinds = kinds(&structs);
        Ok(Self { structs, kinds })
    }
}

/// Structs without fields are in no list of fields: the wire's messages name them, and one has no message either.
fn add_empty_structs(packages: &mut Packages, proto: &HashMap<String, HashMap<String, Value>>) {
    for (package, types) in packages.iter_mut() {
        let prefix = format!("k8s.io.{}.", package.replace('/', ".").replace('-', "_"));
        for (message, _) in proto.iter().filter(|(_, fields)| fields.is_empty()) {
            match message.strip_prefix(&prefix) {
                Some(name) if !name.contains('.') && name != "Patch" => {
                    types.entry(name.to_owned()).or_default();
                }
                _ => {}
            }
        }
        if package.starts_with("apiserver/pkg/apis/apiserver/v") {
            types.entry("IdentityConfiguration".to_owned()).or_default();
        }
    }
}

/// Structs that Go defines as v1's of the same name have a message, but no fields of their own in the list.
fn add_copied_structs(packages: &mut Packages, proto: &HashMap<String, HashMap<String, Value>>) {
    let mut copies = Vec::new();
    for (package, types) in packages.iter() {
        let prefix = format!("k8s.io.{}.", package.replace('/', ".").replace('-', "_"));
        let Some((path, _)) = package.rsplit_once('/') else { continue };
        let Some(stable) = packages.get(&format!("{path}/v1")) else { continue };
        for name in proto.keys().filter_map(|message| message.strip_prefix(&prefix)) {
            if let Some(fields) = stable.get(name).filter(|_| !types.contains_key(name)) {
                copies.push((package.clone(), name.to_owned(), fields.clone()));
            }
        }
    }
    for (package, name, fields) in copies {
        packages.entry(package).or_default().insert(name, fields);
    }
}

/// OpenAPI tells the facts of inlined fields at the structs that inline them: gives those to the inlined ones.
fn inherit_definitions(packages: &Packages, definitions: &mut BTreeMap<String, Definition>) {
    // Twice, since inlined structs inline others.
    for _ in 0..2 {
        for (package, types) in packages {
            for (name, fields) in types {
                let Some(parent) = definitions.get(&format!("{package}.{name}")).cloned() else { continue };
                for field in fields.iter().filter(|f| f["inline"] == true) {
                    let inner = field["type"].as_str().unwrap_or_default();
                    if inner.contains('.') {
                        continue;
                    }
                    definitions.entry(format!("{package}.{inner}")).or_insert_with(|| Definition {
                        atomic: false,
                        unions: None,
                        ..parent.clone()
                    });
                }
            }
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("parse {}", path.display()))
}

fn kinds(structs: &[Struct]) -> Vec<(String, String, String, usize)> {
    let mut kinds = Vec::new();
    for (index, s) in structs.iter().enumerate() {
        for (group, version) in groups::group_versions(&s.package, &s.name).into_iter().filter(|_| s.is_kind) {
            kinds.push((s.name.clone(), group, version, index));
        }
        if s.name == "WatchEvent" {
            // A kind without TypeMeta.
            kinds.push((s.name.clone(), String::new(), "v1".into(), index));
        }
        // meta.k8s.io/v1beta1 serves v1's Table and PartialObjectMetadata under the older name.
        let meta = s.package == "apimachinery/pkg/apis/meta/v1";
        if meta && matches!(s.name.as_str(), "Table" | "TableOptions" | "PartialObjectMetadata") {
            kinds.push((s.name.clone(), "meta.k8s.io".into(), "v1beta1".into(), index));
        }
    }
    kinds.sort();
    kinds
}

/// Struct types in Go that have a form of their own in JSON.
fn is_scalar(package: &str, name: &str) -> bool {
    match name {
        "FieldsV1" | "Timestamp" | "TypeMeta" => package == "apimachinery/pkg/apis/meta/v1",
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {
            package.starts_with("apiextensions-apiserver")
        }
        "TimeOrMetaDuration" => package == "component-base/logs/api/v1",
        _ => false,
    }
}

struct Resolver<'a> {
    packages: &'a Packages,
    proto: HashMap<String, HashMap<String, Value>>,
    index: HashMap<String, usize>,
}

impl<'a> Resolver<'a> {
    fn new(packages: &'a Packages, proto: HashMap<String, HashMap<String, Value>>) -> Self {
        let mut index = HashMap::new();
        for (package, types) in packages.iter().filter(|(p, _)| !groups::skipped(p)) {
            for name in types.keys().filter(|name| !is_scalar(package, name)) {
                index.insert(format!("{package}.{name}"), index.len());
            }
        }
        Self { packages, proto, index }
    }

    fn structure(&self, package: &str, name: &str, fields: &[Value], facts: Option<&Definition>) -> Result<Struct> {
        let mut result = Struct {
            package: package.to_owned(),
            name: name.to_owned(),
            atomic: facts.is_some_and(|f| f.atomic),
            is_kind: false,
            unions: facts.and_then(|f| f.unions.clone()),
            fields: Vec::new(),
        };
        for field in fields {
            let go_type = field["type"].as_str().context("field without type")?;
            let inline = field["inline"] == true;
            if inline && go_type.ends_with("TypeMeta") {
                result.is_kind = true;
                continue;
            }
            let json = field["json"].as_str().unwrap_or_default();
            if json == "-" || (json.is_empty() && !inline) {
                continue;
            }
            let field = self
                .field(package, name, field, facts)
                .with_context(|| format!("{package}.{name}.{json} of type {go_type}"))?;
            result.fields.push(field);
        }
        Ok(result)
    }

    fn field(&self, package: &str, owner: &str, raw: &Value, facts: Option<&Definition>) -> Result<Field> {
        let go_type = raw["type"].as_str().unwrap_or_default();
        let json = raw["json"].as_str().unwrap_or_default().to_owned();
        let number = raw["proto"]["n"].as_u64().unwrap_or(0) as u16;
        let (pointer, bare) = match go_type.strip_prefix('*') {
            Some(rest) => (true, rest),
            None => (false, go_type),
        };
        let (card, base) = cardinality(bare)?;
        let (wire, wire_card) = self.wire_type(package, owner, number).unzip();
        // A named list or map (`ValidationRules`) shows only on the wire what it is.
        let card = if card == "S" { wire_card.unwrap_or(card) } else { card };
        let (card, elem) = self.elem(package, card, base, wire.as_deref())?;
        let omit_empty = raw["omitempty"] == true;
        let property = facts.and_then(|f| f.properties.get(&json)).cloned().unwrap_or_default();
        let text = |key: &str| raw[key].as_str().unwrap_or_default().to_owned();
        Ok(Field {
            required: facts.map_or(!omit_empty && !pointer, |f| f.required.contains(&json)),
            go_type: qualified(package, go_type),
            json,
            number,
            card,
            elem,
            pointer,
            omit_empty,
            omit_zero: raw["omitzero"] == true,
            inline: raw["inline"] == true,
            facts: property,
            patch: (text("patchStrategy"), text("patchMergeKey")),
        })
    }

    /// The protobuf type of a field, such as `string` or `.k8s.io.api.core.v1.Volume` (a map gives its value's type), and
    /// its cardinality.
    fn wire_type(&self, package: &str, owner: &str, number: u16) -> Option<(String, &'static str)> {
        let message = format!("k8s.io.{}.{owner}", package.replace('/', ".").replace('-', "_"));
        let fields = self.proto.get(&message)?;
        let field = fields.values().find(|f| f["n"] == number)?;
        let text = field["t"].as_str()?;
        let value = text.strip_prefix("map<").and_then(|t| t.strip_suffix('>')).and_then(|t| t.split_once(','));
        let card = match (value.is_some(), field["r"] == 1) {
            (true, _) => "M",
            (false, true) => "L",
            (false, false) => "S",
        };
        Some((value.map_or(text, |(_, v)| v.trim()).to_owned(), card))
    }

    fn elem(
        &self,
        package: &str,
        card: &'static str,
        base: &str,
        wire: Option<&str>,
    ) -> Result<(&'static str, String)> {
        let (qualifier, name) = base.rsplit_once('.').map_or(("", base), |(q, n)| (q, n));
        let special = match name {
            "byte" if card == "BYTES" => return Ok(("S", "E::Bytes".into())),
            "byte" if card == "MBYTES" => return Ok(("M", "E::Bytes".into())),
            "ResourceList" => return Ok(("M", "E::Quantity".into())),
            "VModuleConfiguration" => return Ok(("L", self.local(package, "VModuleItem")?)),
            "JSONSchemaDefinitions" => return Ok(("M", self.local(package, "JSONSchemaProps")?)),
            "JSONSchemaDependencies" => {
                return Ok(("M", format!("E::PropsOrStrings({})", self.index_of(package, "JSONSchemaProps")?)));
            }
            "ExtraValue" | "Verbs" => "E::StringList".to_owned(),
            "Time" => "E::Time".to_owned(),
            "MicroTime" => "E::MicroTime".to_owned(),
            "Duration" => "E::Duration".to_owned(),
            "Quantity" | "QuantityValue" => "E::Quantity".to_owned(),
            "IntOrString" => "E::IntOrString".to_owned(),
            "RawExtension" => "E::Raw".to_owned(),
            "Unknown" | "Object" if qualifier == "runtime" => "E::Any".to_owned(),
            "TimeOrMetaDuration" => "E::Any".to_owned(),
            "FieldsV1" => "E::FieldsV1".to_owned(),
            "VerbosityLevel" => "E::U32".to_owned(),
            "JSON" => "E::Json".to_owned(),
            "JSONSchemaPropsOrArray" => format!("E::PropsOrArray({})", self.index_of(package, "JSONSchemaProps")?),
            "JSONSchemaPropsOrBool" => format!("E::PropsOrBool({})", self.index_of(package, "JSONSchemaProps")?),
            "string" => "E::String".to_owned(),
            "bool" => "E::Bool".to_owned(),
            "int32" | "int16" | "int8" => "E::I32".to_owned(),
            "int64" | "int" => "E::I64".to_owned(),
            "uint32" | "uint16" | "uint8" => "E::U32".to_owned(),
            "uint64" | "uint" => "E::U64".to_owned(),
            "float64" | "float32" => "E::F64".to_owned(),
            _ => return Ok((card, self.named(package, qualifier, name, wire)?)),
        };
        Ok((card, special))
    }

    /// A named type: a struct of this or another package, or else a named scalar.
    fn named(&self, package: &str, qualifier: &str, name: &str, wire: Option<&str>) -> Result<String> {
        match wire {
            Some("string") => return Ok("E::String".into()),
            Some("int32") => return Ok("E::I32".into()),
            Some("int64") => return Ok("E::I64".into()),
            Some("bool") => return Ok("E::Bool".into()),
            Some(message) if message.starts_with(".k8s.io.") => {
                let path = message.trim_start_matches(".k8s.io.").replace('_', "-");
                let (package, name) = path.rsplit_once('.').context("message without package")?;
                return self.local(&package.replace('.', "/"), name);
            }
            Some(local) => return self.local(package, local).or_else(|e| self.sibling(package, local).ok_or(e)),
            None => {}
        }
        if qualifier.is_empty() {
            // A named scalar has no entry of its own; upstream has only named strings outside the wire types.
            let local = self.local(package, name).ok().or_else(|| self.sibling(package, name));
            return Ok(local.unwrap_or_else(|| "E::String".into()));
        }
        let candidates: &[&str] = match qualifier {
            "metav1" => &["apimachinery/pkg/apis/meta/v1"],
            "corev1" => &["api/core/v1"],
            "componentbaseconfigv1alpha1" => &["component-base/config/v1alpha1"],
            "tracingapi" => &["component-base/tracing/api/v1"],
            "logsapi" => &["component-base/logs/api/v1"],
            _ => &["apimachinery/pkg/apis/meta/v1", "api/core/v1", "api/authentication/v1"],
        };
        let found = candidates.iter().find_map(|c| self.local(c, name).ok());
        Ok(found.unwrap_or_else(|| "E::String".into()))
    }

    /// A type that Go defines as the one of the same name in the group's v1 package.
    fn sibling(&self, package: &str, name: &str) -> Option<String> {
        let (path, _) = package.rsplit_once('/')?;
        self.local(&format!("{path}/v1"), name).ok()
    }

    fn local(&self, package: &str, name: &str) -> Result<String> {
        Ok(format!("E::Struct({})", self.index_of(package, name)?))
    }

    fn index_of(&self, package: &str, name: &str) -> Result<usize> {
        let key = format!("{package}.{name}");
        debug_assert!(!self.packages.is_empty());
        self.index.get(&key).copied().with_context(|| format!("no struct {key}"))
    }
}

/// Splits `[]T`, `map[K]T`, `[]byte`, `map[K][]byte` and `map[K][]string`.
fn cardinality(go_type: &str) -> Result<(&'static str, &str)> {
    if go_type == "[]byte" {
        return Ok(("BYTES", "byte"));
    }
    if let Some(rest) = go_type.strip_prefix("[]") {
        return Ok(("L", rest.trim_start_matches('*')));
    }
    if go_type.starts_with("map[") {
        let (_, value) = go_type.split_once(']').context("map without key")?;
        if value == "[]byte" {
            return Ok(("MBYTES", "byte"));
        }
        if let Some(inner) = value.strip_prefix("[]") {
            return Ok(("ML", inner));
        }
        return Ok(("M", value.trim_start_matches('*')));
    }
    Ok(("S", go_type))
}

/// The type as Go prints it in messages: the package's last element, not the import's alias.
fn qualified(package: &str, go_type: &str) -> String {
    let split = go_type.rfind([']', '*']).map_or(0, |i| i + 1);
    let (prefix, base) = go_type.split_at(split);
    let basic = matches!(
        base,
        "string"
            | "bool"
            | "byte"
            | "int"
            | "int32"
            | "int64"
            | "uint32"
            | "uint64"
            | "float64"
            | "float32"
            | "int16"
            | "uint8"
            | "int8"
            | "uint"
            | "uint16"
    );
    if basic {
        let base = if base == "byte" { "uint8" } else { base };
        return format!("{prefix}{base}");
    }
    match base.rsplit_once('.') {
        Some((qualifier, name)) => {
            let qualifier = match qualifier.find("v1").or_else(|| qualifier.find("v2")) {
                Some(at) => &qualifier[at..],
                None => qualifier,
            };
            format!("{prefix}{qualifier}.{name}")
        }
        None => format!("{prefix}{}.{base}", package.rsplit('/').next().unwrap_or_default()),
    }
}
