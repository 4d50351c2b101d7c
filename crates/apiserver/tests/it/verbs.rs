//! Built-in kinds through every verb.

use std::sync::Arc;

use async_trait::async_trait;
use http_body_util::BodyExt;
use meta::{Object, Status};
use parking_lot::Mutex;
use registry::{Admit, Attributes};
use serde_json::{Value, json};

use crate::{World, answer};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn deployment(replicas: i64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "nginx"}]},
            },
        },
    })
}

#[tokio::test]
async fn refuses_as_upstream_does() {
    let world = World::start().await;
    let denied = answer(world.raw("bob", "GET", "/api/v1/pods", &[], "").await).await;
    assert_eq!(denied.code, 403);
    let message =
        "pods is forbidden: User \"bob\" cannot list resource \"pods\" in API group \"\" at the cluster scope";
    assert_eq!(denied.body["message"], message);
    assert_eq!(world.get("/api/v1/nothing").await.code, 404);
    let missing = world.get(&format!("{MAPS}/no")).await;
    assert_eq!((missing.code, &missing.body["message"]), (404, &json!("configmaps \"no\" not found")));
    assert_eq!(world.call("PATCH", &format!("{MAPS}/no"), "text/plain", "x").await.code, 415);
    let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "x"}});
    assert_eq!(world.post(MAPS, &other).await.code, 400);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    assert_eq!(world.raw("admin", "POST", path, &table, &review.to_string()).await.status().as_u16(), 406);
}

#[tokio::test]
async fn judges_unknown_fields_as_asked() {
    let world = World::start().await;
    let mut odd = map("a");
    odd["spex"] = json!(1);
    let strict = world.post(&format!("{MAPS}?fieldValidation=Strict"), &odd).await;
    assert_eq!(strict.code, 400);
    let message = strict.body["message"].as_str().unwrap_or("");
    assert!(message.ends_with("strict decoding error: unknown field \"spex\""), "{message}");
    let warned = world.post(MAPS, &odd).await;
    assert_eq!((warned.code, warned.warnings.len()), (201, 1));
    assert_eq!(warned.warnings[0], "299 - \"unknown field \\\"spex\\\"\"");
}

#[tokio::test]
async fn patches_in_four_ways_and_owns_fields() {
    let world = World::start().await;
    assert_eq!(world.post(&format!("{DEPLOYMENTS}?fieldManager=maker"), &deployment(1)).await.code, 201);
    let path = format!("{DEPLOYMENTS}/web");
    let merged = world.patch("merge-patch+json", &path, &json!({"metadata": {"labels": {"x": "y"}}})).await;
    assert_eq!((merged.code, &merged.body["metadata"]["labels"]["x"]), (200, &json!("y")));
    let jumped = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
    assert_eq!(world.patch("json-patch+json", &path, &jumped).await.body["metadata"]["generation"], 2);
    let strategic = json!({"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "other"}]}}}});
    let patched = world.patch("strategic-merge-patch+json", &path, &strategic).await;
    assert_eq!(patched.body["spec"]["template"]["spec"]["containers"].as_array().map(Vec::len), Some(2));
    let apply = format!("{path}?fieldManager=applier");
    let conflict = world.patch("apply-patch+yaml", &apply, &deployment(7)).await;
    assert_eq!((conflict.code, &conflict.body["reason"]), (409, &json!("Conflict")));
    let forced = world.patch("apply-patch+yaml", &format!("{apply}&force=true"), &deployment(7)).await;
    assert_eq!((forced.code, &forced.body["spec"]["replicas"]), (200, &json!(7)));
    let again = world.patch("apply-patch+yaml", &apply, &deployment(7)).await;
    assert_eq!(again.body["metadata"]["resourceVersion"], forced.body["metadata"]["resourceVersion"]);
    assert_eq!(world.patch("apply-patch+yaml", &path, &deployment(7)).await.code, 422, "a manager is required");
}

#[tokio::test]
async fn scales_and_keeps_status_apart() {
    let world = World::start().await;
    world.post(DEPLOYMENTS, &deployment(1)).await;
    let scale = format!("{DEPLOYMENTS}/web/scale");
    let read = world.get(&scale).await;
    assert_eq!((&read.body["kind"], &read.body["status"]["selector"]), (&json!("Scale"), &json!("app=web")));
    let scaled = world.patch("merge-patch+json", &scale, &json!({"spec": {"replicas": 4}})).await;
    assert_eq!(scaled.body["spec"]["replicas"], 4);
    assert_eq!(world.patch("merge-patch+json", &scale, &json!({"spec": {"replicas": -1}})).await.code, 422);
    let both = json!({"spec": {"replicas": 9}, "status": {"replicas": 2}});
    let status = world.patch("merge-patch+json", &format!("{DEPLOYMENTS}/web/status"), &both).await;
    assert_eq!((&status.body["spec"]["replicas"], &status.body["status"]["replicas"]), (&json!(4), &json!(2)));
    let main = world.patch("merge-patch+json", &format!("{DEPLOYMENTS}/web"), &both).await;
    assert_eq!((&main.body["spec"]["replicas"], &main.body["status"]["replicas"]), (&json!(9), &json!(2)));
}

#[tokio::test]
async fn shows_tables_metadata_and_events() {
    let world = World::start().await;
    world.post(MAPS, &map("a")).await;
    let shape = |text: &'static str| [("accept", text)];
    let table = world.raw("admin", "GET", MAPS, &shape("application/json;as=Table;v=v1;g=meta.k8s.io"), "").await;
    let table = answer(table).await.body;
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][0]), (&json!("Table"), &json!("a")));
    let form = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = answer(world.raw("admin", "GET", MAPS, &shape(form), "").await).await.body;
    assert_eq!(partial["items"][0]["kind"], "PartialObjectMetadata");
    assert!(partial["items"][0].get("data").is_none());
    let path =
        format!("{MAPS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true");
    let mut body = world.raw("admin", "GET", &path, &[], "").await.into_body();
    let mut seen = String::new();
    while !seen.contains("initial-events-end") {
        let frame = body.frame().await.expect("more").expect("no error").into_data().expect("data");
        seen.push_str(std::str::from_utf8(&frame).expect("text"));
    }
    let first: Value = serde_json::from_str(seen.lines().next().unwrap_or("")).expect("JSON lines");
    assert_eq!((&first["type"], &first["object"]["metadata"]["name"]), (&json!("ADDED"), &json!("a")));
}

#[tokio::test]
async fn deletes_with_options_in_the_body() {
    let world = World::start().await;
    let made = world.post(MAPS, &map("a")).await.body;
    let path = format!("{MAPS}/a");
    let wrong = json!({"preconditions": {"uid": "other"}}).to_string();
    assert_eq!(world.call("DELETE", &path, "application/json", &wrong).await.code, 409);
    let dry = world.call("DELETE", &path, "application/json", &json!({"dryRun": ["All"]}).to_string()).await;
    assert_eq!((dry.code, world.get(&path).await.code), (200, 200));
    let done = world.call("DELETE", &path, "application/json", "").await;
    assert_eq!((done.code, &done.body["status"]), (200, &json!("Success")));
    assert_eq!(done.body["details"]["uid"], made["metadata"]["uid"]);
    world.post(MAPS, &map("b")).await;
    let all = world.call("DELETE", &format!("{MAPS}?labelSelector=x%3Dy"), "", "").await;
    assert_eq!((all.code, world.get(&format!("{MAPS}/b")).await.code), (200, 200));
    assert_eq!(world.call("DELETE", MAPS, "", "").await.body["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn tells_what_it_serves() {
    let world = World::start().await;
    assert_eq!(world.get("/version").await.body["gitVersion"], "v1.36.0");
    let resources = world.get("/apis/apps/v1").await.body;
    let names: Vec<&str> =
        resources["resources"].as_array().into_iter().flatten().filter_map(|r| r["name"].as_str()).collect();
    assert!(names.contains(&"deployments/scale") && names.contains(&"daemonsets/status"), "{names:?}");
    let form = [("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json")];
    let aggregated = world.raw("admin", "GET", "/apis", &form, "").await;
    let etag = aggregated.headers().get("etag").and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    assert_eq!(answer(aggregated).await.body["kind"], "APIGroupDiscoveryList");
    let again = [form[0], ("if-none-match", etag.as_str())];
    assert_eq!(world.raw("admin", "GET", "/apis", &again, "").await.status().as_u16(), 304);
    let index = world.get("/openapi/v3").await.body;
    assert!(index["paths"]["apis/apps/v1"]["serverRelativeURL"].is_string());
    let document = world.get("/openapi/v3/apis/apps/v1").await.body;
    assert!(document["components"]["schemas"]["io.k8s.api.apps.v1.Deployment"].is_object());
}

/// Notes what it is asked about, and labels Bindings as the plugin for topology does.
#[derive(Default)]
struct Noting(Mutex<Vec<String>>);

#[async_trait]
impl Admit for Noting {
    async fn mutate(&self, about: &Attributes<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let what = format!("{} {}/{}", about.operation.as_str(), about.resource.resource, about.subresource);
        self.0.lock().push(format!("{what} {}", about.kind.kind));
        if let Some(object) = object.filter(|_| about.kind.kind == "Binding") {
            object.set_label("topology.kubernetes.io/zone", "z");
        }
        Ok(())
    }

    async fn validate(&self, _about: &Attributes<'_>, _object: Option<&Object>) -> Result<(), Status> {
        Ok(())
    }
}

#[tokio::test]
async fn a_binding_is_admitted_and_not_the_pod_that_it_binds() {
    let noting = Arc::new(Noting::default());
    let world = World::admitting(noting.clone()).await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    assert_eq!(world.post(pods, &pod).await.code, 201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    noting.0.lock().clear();
    assert_eq!(world.post(&format!("{pods}/p/binding"), &binding).await.code, 201);
    assert_eq!(*noting.0.lock(), ["CREATE pods/binding Binding"]);
    let bound = world.get(&format!("{pods}/p")).await.body;
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));
    assert_eq!(bound["status"]["conditions"][0]["type"], "PodScheduled");
}
