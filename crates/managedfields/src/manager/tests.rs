//! Scenarios of several managers on one object.

use meta::Object;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

struct World {
    live: Object,
    kind: &'static str,
    api_version: &'static str,
}

impl World {
    fn new(api_version: &'static str, kind: &'static str) -> Self {
        Self { live: Object::default(), kind, api_version }
    }

    fn object(&self, mut body: Value) -> Object {
        body["apiVersion"] = self.api_version.into();
        body["kind"] = self.kind.into();
        Object::from_value(body).expect("object")
    }

    fn with<T>(&self, run: impl FnOnce(&FieldManager<'_>) -> T) -> T {
        let convert = |object: &Value, version: &str| {
            let mut object = object.clone();
            object["apiVersion"] = version.into();
            Some(object)
        };
        let versions = BuiltIn { kind: self.kind, convert: &convert };
        run(&FieldManager {
            versions: &versions,
            api_version: self.api_version,
            kind: self.kind,
            subresource: "",
            reset: None,
            now: NOW,
        })
    }

    fn store(&mut self, mut object: Object) {
        schema::codec::normalize(&mut object).expect("normalise");
        object.set_meta_str("uid", "u");
        self.live = object;
    }

    fn update(&mut self, manager: &str, body: Value) {
        let mut new = self.object(body);
        schema::codec::normalize(&mut new).expect("normalise");
        let object = self.with(|m| m.update(self.live.clone(), new, manager));
        self.store(object);
    }

    fn apply(&mut self, manager: &str, force: bool, body: Value) -> Result<(), Status> {
        let patch = self.object(body);
        let object = self.with(|m| m.apply(&self.live, &patch, manager, force)).map_err(Status::from)?;
        self.store(object);
        Ok(())
    }

    fn fields(&self, manager: &str, operation: &str) -> Value {
        let entries = self.live.get(&["metadata", "managedFields"]).and_then(Value::as_array).cloned();
        let entry =
            entries.unwrap_or_default().into_iter().find(|e| e["manager"] == manager && e["operation"] == operation);
        entry.map_or(Value::Null, |e| e["fieldsV1"].clone())
    }
}

#[test]
fn update_tracks_and_apply_conflicts() {
    let mut world = World::new("apps/v1", "Deployment");
    let spec = json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}},
        "template": {"spec": {"containers": [{"name": "c", "image": "x"}]}}});
    world.update("client", json!({"metadata": {"name": "d", "labels": {"l": "1"}}, "spec": spec}));
    assert_eq!(
        world.fields("client", "Update"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:l": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:spec": {"f:containers":
                {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}, "f:name": {}, "f:resources": {}}}}}}
        })
    );
    let error =
        world.apply("a", false, json!({"metadata": {"name": "d"}, "spec": {"replicas": 2}})).expect_err("conflict");
    assert_eq!(error.code, 409);
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"client\" using apps/v1: .spec.replicas");
    let two = json!({"metadata": {"name": "d", "labels": {"l": "2"}}, "spec": {"replicas": 2}});
    let error = world.apply("a", false, two.clone()).expect_err("conflicts");
    assert_eq!(
        error.message,
        "Apply failed with 2 conflicts: conflicts with \"client\" using apps/v1:\n- .metadata.labels.l\n- .spec.replicas"
    );
    world.apply("a", true, two).expect("forced");
    assert_eq!(world.live.get_i64(&["spec", "replicas"]), Some(2));
    assert_eq!(
        world.fields("a", "Apply"),
        json!({"f:metadata": {"f:labels": {"f:l": {}}}, "f:spec": {"f:replicas": {}}})
    );
    assert_eq!(world.fields("client", "Update")["f:spec"].get("f:replicas"), None);
}

#[test]
fn what_is_not_applied_again_goes() {
    let mut world = World::new("v1", "ConfigMap");
    world
        .apply("a", false, json!({"metadata": {"name": "m"}, "data": {"x": "1", "y": "2", "z": "3"}}))
        .expect("create");
    world.apply("b", false, json!({"metadata": {"name": "m"}, "data": {"y": "2"}})).expect("shared");
    world.apply("a", false, json!({"metadata": {"name": "m"}, "data": {"z": "3"}})).expect("again");
    assert_eq!(world.live.get(&["data"]), Some(&json!({"y": "2", "z": "3"})));
    world.apply("a", false, json!({"metadata": {"name": "m"}})).expect("nothing");
    assert_eq!(world.live.get(&["data"]), Some(&json!({"y": "2"})));
    assert_eq!(world.fields("a", "Apply"), Value::Null);
}

#[test]
fn list_items_merge_by_key_and_order() {
    let mut world = World::new("v1", "Pod");
    let containers = |names: &[&str]| -> Value {
        let list: Vec<Value> = names.iter().map(|n| json!({"name": n, "image": format!("i-{n}")})).collect();
        json!({"metadata": {"name": "p"}, "spec": {"containers": list}})
    };
    world.apply("a", false, containers(&["x", "y"])).expect("create");
    world.apply("b", false, containers(&["z", "y"])).expect("second");
    let names = |world: &World| -> Vec<String> {
        let list = world.live.get(&["spec", "containers"]).and_then(Value::as_array).cloned().unwrap_or_default();
        list.iter().map(|c| c["name"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(names(&world), ["x", "z", "y"]);
    world.apply("a", false, containers(&["y"])).expect("drop x");
    assert_eq!(names(&world), ["z", "y"]);
    let ports = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "y", "ports": [
        {"containerPort": 80}, {"containerPort": 80, "protocol": "UDP"}]}]}});
    world.apply("c", false, ports).expect("ports");
    let fields = world.fields("c", "Apply");
    let ports = &fields["f:spec"]["f:containers"]["k:{\"name\":\"y\"}"]["f:ports"];
    assert!(ports.get("k:{\"containerPort\":80,\"protocol\":\"TCP\"}").is_some(), "{ports}");
    let twice = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "y"}, {"name": "y"}]}});
    let error = world.apply("c", false, twice).expect_err("duplicate");
    assert_eq!(
        error.message,
        "failed to create typed patch object (/p; /v1, Kind=Pod): .spec.containers: duplicate entries for key [name=\"y\"]"
    );
    let unknown = json!({"metadata": {"name": "p"}, "spec": {"foo": 1}});
    let error = world.apply("c", false, unknown).expect_err("unknown");
    assert_eq!(
        error.message,
        "failed to create typed patch object (/p; /v1, Kind=Pod): .spec.foo: field not declared in schema"
    );
}

#[test]
fn wrong_version_and_resets() {
    let mut world = World::new("v1", "ConfigMap");
    world.update("u", json!({"metadata": {"name": "m"}, "data": {"x": "1"}}));
    let patch = Object::from_value(json!({"apiVersion": "v2", "kind": "ConfigMap"})).expect("object");
    let error = world.with(|m| m.apply(&world.live, &patch, "a", false)).expect_err("version");
    assert_eq!(Status::from(error).code, 400);
    world.update("u", json!({"metadata": {"name": "m", "uid": "u", "managedFields": [{}]}, "data": {"x": "1"}}));
    assert_eq!(world.live.get(&["metadata", "managedFields"]), None);
    // From now on the object is untracked until somebody applies.
    world.update("u", json!({"metadata": {"name": "m"}, "data": {"x": "2"}}));
    assert_eq!(world.live.get(&["metadata", "managedFields"]), None);
    world.apply("a", false, json!({"metadata": {"name": "m"}, "data": {"y": "1"}})).expect("apply");
    assert_eq!(world.fields("before-first-apply", "Update"), json!({"f:data": {".": {}, "f:x": {}}}));
    assert_eq!(world.fields("a", "Apply"), json!({"f:data": {"f:y": {}}}));
}

#[test]
fn client_side_apply_is_taken_over() {
    let mut world = World::new("v1", "ConfigMap");
    let last =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"x": "1"}}).to_string();
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let body = json!({"metadata": {"name": "m", "annotations": {annotation: last}}, "data": {"x": "1"}});
    world.update("kubectl-client-side-apply", body);
    world.apply("kubectl", false, json!({"metadata": {"name": "m"}, "data": {"x": "2"}})).expect("no conflict");
    assert_eq!(world.live.get_str(&["data", "x"]), "2");
    assert!(world.live.annotation(annotation).is_some_and(|a| a.contains("\"x\":\"2\"")));
}

#[test]
fn many_updaters_are_capped() {
    let mut world = World::new("v1", "ConfigMap");
    world.update("u0", json!({"metadata": {"name": "m"}, "data": {"k0": "v"}}));
    for n in 1..15 {
        let mut data = world.live.get(&["data"]).cloned().unwrap_or_default();
        data[format!("k{n}")] = "v".into();
        let mut body = Value::Object(world.live.body.clone());
        body["data"] = data;
        world.update(&format!("u{n}"), body);
    }
    let entries = world.live.get(&["metadata", "managedFields"]).and_then(Value::as_array).cloned().unwrap_or_default();
    assert_eq!(entries.len(), 10);
    assert!(entries.iter().any(|e| e["manager"] == "ancient-changes"));
}

#[test]
fn broken_entries_are_reverted() {
    let mut world = World::new("v1", "ConfigMap");
    world.update("u", json!({"metadata": {"name": "m"}, "data": {"x": "1"}}));
    let mut after = world.live.clone();
    after.metadata_mut().insert("managedFields".into(), json!([{"operation": "Bad"}]));
    let warning = revert_invalid_managed_fields(&world.live, &mut after).expect("warning");
    assert!(warning.ends_with("operation must be `Apply` or `Update`"), "{warning}");
    assert_eq!(after, world.live);
    let mut newer = world.live.clone();
    newer.set(&["metadata", "managedFields"], json!(newer.get(&["metadata", "managedFields"]).cloned()));
    ignore_timestamp_changes(&world.live, &mut newer);
    assert_eq!(newer, world.live);
}
