//! Joining `/openapi/v2` documents, as upstream's aggregator does: paths that are there stay, definitions and parameters of
//! the same name but of other content get new names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

const KINDS: &str = "x-kubernetes-group-version-kind";
const DEFINITIONS: &str = "#/definitions/";
const PARAMETERS: &str = "#/parameters/";

fn part<'a>(document: &'a Value, name: &str) -> Option<&'a Map<String, Value>> {
    document.get(name)?.as_object()
}

fn part_mut<'a>(document: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    document.as_object_mut()?.entry(name).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

fn references<'a>(value: &'a Value, found: &mut dyn FnMut(&'a str)) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                found(target);
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

/// The definitions that the paths need, also by way of others.
fn used(document: &Value) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut open: Vec<&Value> = document.get("paths").into_iter().collect();
    let mut parameters = BTreeSet::new();
    while let Some(value) = open.pop() {
        references(value, &mut |target| {
            if let Some(name) = target.strip_prefix(DEFINITIONS) {
                if used.insert(name.to_owned()) {
                    open.extend(part(document, "definitions").and_then(|all| all.get(name)));
                }
            } else if let Some(name) = target.strip_prefix(PARAMETERS)
                && parameters.insert(name)
            {
                open.extend(part(document, "parameters").and_then(|all| all.get(name)));
            }
        });
    }
    used
}

/// Removes all other paths, and the definitions that only those needed.
pub(crate) fn keep_paths(document: &mut Value, keep: impl Fn(&str) -> bool) {
    if part(document, "paths").is_none_or(|paths| paths.keys().all(|path| keep(path))) {
        return;
    }
    let before = used(document);
    if let Some(paths) = part_mut(document, "paths") {
        paths.retain(|path, _| keep(path));
    }
    let after = used(document);
    if let Some(definitions) = part_mut(document, "definitions") {
        definitions.retain(|name, _| after.contains(name) || !before.contains(name));
    }
}

/// Whether two definitions are the same but for the kinds they are of.
fn same(one: &Value, other: &Value) -> bool {
    let (Some(one), Some(other)) = (one.as_object(), other.as_object()) else { return one == other };
    let rest = |map: &Map<String, Value>| map.keys().filter(|key| *key != KINDS).count();
    rest(one) == rest(other) && one.iter().all(|(key, value)| key == KINDS || other.get(key) == Some(value))
}

/// New names of what would clash: `NAME_v2` and so on, or the one that an equal got before.
fn renames(
    there: &Map<String, Value>,
    new: &Map<String, Value>,
    same: impl Fn(&Value, &Value) -> bool,
) -> BTreeMap<String, String> {
    let mut renames = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for (name, value) in new {
        if there.get(name).is_none_or(|existing| same(existing, value)) {
            continue;
        }
        let fits = |candidate: &String| match there.get(candidate) {
            Some(existing) => same(existing, value),
            None => !new.contains_key(candidate) && !taken.contains(candidate),
        };
        if let Some(fresh) = (2u64..).map(|number| format!("{name}_v{number}")).find(fits) {
            if !there.contains_key(&fresh) {
                taken.insert(fresh.clone());
            }
            renames.insert(name.clone(), fresh);
        }
    }
    renames
}

fn redirect(value: &mut Value, prefix: &str, names: &BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get_mut("$ref")
                && let Some(fresh) = target.strip_prefix(prefix).and_then(|name| names.get(name))
            {
                *target = format!("{prefix}{fresh}");
            }
            map.values_mut().for_each(|value| redirect(value, prefix, names));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| redirect(value, prefix, names)),
        _ => {}
    }
}

fn rename(document: &mut Value, within: &str, prefix: &str, names: &BTreeMap<String, String>) {
    if names.is_empty() {
        return;
    }
    redirect(document, prefix, names);
    let Some(map) = part_mut(document, within) else { return };
    *map = std::mem::take(map)
        .into_iter()
        .map(|(name, value)| (names.get(&name).cloned().unwrap_or(name), value))
        .collect();
}

/// Adds kinds that `other` has and `one` has not.
fn join_kinds(one: &mut Value, other: &Value) {
    let Some(more) = other.get(KINDS).and_then(Value::as_array) else { return };
    let Some(one) = one.as_object_mut() else { return };
    let Some(kinds) = one.entry(KINDS).or_insert_with(|| Value::Array(Vec::new())).as_array_mut() else { return };
    let before = kinds.len();
    for kind in more {
        if !kinds.contains(kind) {
            kinds.push(kind.clone());
        }
    }
    if kinds.len() != before {
        let text = |kind: &Value, field: &str| kind[field].as_str().unwrap_or("").to_owned();
        kinds.sort_by_cached_key(|k| format!("{}/{}.{}", text(k, "group"), text(k, "version"), text(k, "kind")));
    }
}

/// Adds `source` to `into`.
pub(crate) fn merge(into: &mut Value, mut source: Value) {
    let empty = Map::new();
    let Some(paths) = part(&source, "paths") else { return };
    let there = part(into, "paths").unwrap_or(&empty);
    let clashing: BTreeSet<String> = paths.keys().filter(|path| there.contains_key(*path)).cloned().collect();
    if clashing.len() == paths.len() {
        return;
    }
    keep_paths(&mut source, |path| !clashing.contains(path));
    let get = |document: &Value, name: &str| part(document, name).cloned().unwrap_or_default();
    let names =
        renames(part(into, "definitions").unwrap_or(&empty), part(&source, "definitions").unwrap_or(&empty), same);
    rename(&mut source, "definitions", DEFINITIONS, &names);
    let names = renames(
        part(into, "parameters").unwrap_or(&empty),
        part(&source, "parameters").unwrap_or(&empty),
        |one, other| one == other,
    );
    rename(&mut source, "parameters", PARAMETERS, &names);
    for name in ["definitions", "parameters", "paths"] {
        let more = get(&source, name);
        if more.is_empty() {
            continue;
        }
        let Some(map) = part_mut(into, name) else { continue };
        for (key, value) in more {
            match map.get_mut(&key) {
                Some(existing) if name == "definitions" => join_kinds(existing, &value),
                Some(_) => {}
                None => drop(map.insert(key, value)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(path: &str, text: &str, kind: &str) -> Value {
        json!({
            "paths": {path: {"get": {"schema": {"$ref": "#/definitions/Thing"}}}},
            "definitions": {
                "Thing": {"description": text, "properties": {"part": {"$ref": "#/definitions/Part"}}, KINDS: [{"kind": kind}]},
                "Part": {"type": "string"},
            },
        })
    }

    #[test]
    fn equal_definitions_are_shared_and_others_renamed() {
        let mut all = document("/apis/a/v1/things", "one", "A");
        merge(&mut all, document("/apis/b/v1/things", "one", "B"));
        assert_eq!(all["definitions"]["Thing"][KINDS], json!([{"kind": "A"}, {"kind": "B"}]));
        merge(&mut all, document("/apis/c/v1/things", "other", "C"));
        merge(&mut all, document("/apis/d/v1/things", "other", "D"));
        let names: Vec<_> = all["definitions"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["Part", "Thing", "Thing_v2"]);
        for path in ["/apis/c/v1/things", "/apis/d/v1/things"] {
            assert_eq!(all["paths"][path]["get"]["schema"]["$ref"], "#/definitions/Thing_v2");
        }
        // A path that is there stays, whatever else is said of it.
        let before = all.clone();
        merge(&mut all, document("/apis/c/v1/things", "third", "E"));
        assert_eq!(all, before);
    }

    #[test]
    fn definitions_go_with_their_paths() {
        let mut all = document("/apis/a/v1/things", "one", "A");
        all["paths"]["/version"] = json!({"get": {"schema": {"$ref": "#/definitions/Info"}}});
        all["definitions"]["Info"] = json!({"type": "object"});
        all["definitions"]["Nobodys"] = json!({"type": "object"});
        keep_paths(&mut all, |path| path.starts_with("/apis/a/v1/"));
        let names: Vec<_> = all["definitions"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["Nobodys", "Part", "Thing"]);
        assert_eq!(all["paths"].as_object().unwrap().len(), 1);
    }
}
