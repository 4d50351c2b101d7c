//! The table of kinds against upstream's own discovery documents and storage facts.

use std::collections::BTreeSet;
use std::path::Path;

use kinds::{Config, ServiceRanges, kinds};
use registry::{Backing, KindRow, Verbs};
use serde_json::Value;

fn table() -> Vec<KindRow> {
    let ranges =
        ServiceRanges { cluster_ips: vec!["10.0.0.0/16".parse().expect("a range")], node_ports: 30_000..=32_767 };
    kinds(&Config::new(ranges))
}

/// Upstream's data lies beside the project; without it there is nothing to compare with.
fn upstream(file: &str) -> Option<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream").join(file);
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

fn names(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

#[test]
fn rows_are_what_upstream_serves() {
    let mut wrong = Vec::new();
    for row in table() {
        for version in &row.versions {
            let file = match row.group.as_str() {
                "" => format!("discovery/api__{version}.json"),
                group => format!("discovery/apis__{group}__{version}.json"),
            };
            let Some(document) = upstream(&file) else { continue };
            let find = |name: &str| {
                document["resources"].as_array().into_iter().flatten().find(|r| r["name"] == *name).cloned()
            };
            let Some(theirs) = find(&row.plural) else {
                wrong.push(format!("{} is not in {file}", row.plural));
                continue;
            };
            let mut check = |what: &str, ours: String, theirs: String| {
                if ours != theirs {
                    wrong.push(format!("{}: {what}: {ours}, upstream {theirs}", row.plural));
                }
            };
            check("kind", row.kind.clone(), theirs["kind"].as_str().unwrap_or("").to_owned());
            check("singular", row.singular.clone(), theirs["singularName"].as_str().unwrap_or("").to_owned());
            check("scope", row.namespaced.to_string(), theirs["namespaced"].to_string());
            let verbs = |verbs: Verbs| format!("{:?}", verbs.names());
            check("verbs", verbs(row.verbs), format!("{:?}", names(&theirs["verbs"])));
            check("short names", format!("{:?}", row.short_names), format!("{:?}", names(&theirs["shortNames"])));
            check("categories", format!("{:?}", row.categories), format!("{:?}", names(&theirs["categories"])));
            let prefix = format!("{}/", row.plural);
            let all = document["resources"].as_array().cloned().unwrap_or_default();
            let subs: BTreeSet<String> =
                all.iter().filter_map(|r| r["name"].as_str()?.strip_prefix(&prefix).map(str::to_owned)).collect();
            let ours: BTreeSet<String> = row.subresources.iter().map(|s| s.name.clone()).collect();
            check("subresources", format!("{ours:?}"), format!("{subs:?}"));
            for sub in &row.subresources {
                let Some(theirs) = find(&format!("{prefix}{}", sub.name)) else { continue };
                check(&sub.name, verbs(sub.verbs), format!("{:?}", names(&theirs["verbs"])));
                let kind = sub.kind.as_ref().map_or(&row.kind, |k| &k.kind);
                check(&sub.name, kind.clone(), theirs["kind"].as_str().unwrap_or("").to_owned());
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn keys_and_stored_kinds_are_upstreams() {
    let Some(facts) = upstream("storage.json") else { return };
    let mut wrong = Vec::new();
    for row in table().iter().filter(|r| r.backing == Backing::Stored) {
        let version = &row.versions[0];
        let group = if row.group.is_empty() { String::new() } else { format!("{}/", row.group) };
        let theirs = &facts["resources"][format!("{group}{version}/{}", row.plural)];
        if theirs["prefix"] != row.key_prefix.as_str() {
            wrong.push(format!("{}: prefix {}, upstream {}", row.plural, row.key_prefix, theirs["prefix"]));
        }
        let stored = format!("{}/{}", row.stored.api_version(), row.stored.kind);
        let own = format!("{group}{version}/{}", row.kind);
        let expected = theirs["storedAs"].as_str().unwrap_or(&own);
        if stored != expected {
            wrong.push(format!("{}: stored as {stored}, upstream {expected}", row.plural));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tables_have_as_many_cells_as_columns() {
    for row in table() {
        let object = meta::Object::new(&row.hub);
        let columns = row.strategy.columns();
        assert_eq!(columns.len(), row.strategy.cells(&object, 0).len(), "{}", row.plural);
    }
}
