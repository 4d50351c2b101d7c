//! A sample extension API server: one group, one resource, documents, and the front proxy's word on who asks.

use std::sync::Arc;

use anyhow::Result;
use async_trait::async_trait;
use serde_json::{Value, json};
use wire::{Body, ConnInfo, Service};

/// Its group and version.
pub const GROUP: &str = "things.test";
const VERSION: &str = "v1alpha1";

struct Extension;

fn documents(path: &str) -> Option<Value> {
    let group_version = format!("{GROUP}/{VERSION}");
    let version = json!({"groupVersion": group_version, "version": VERSION});
    let group = json!({"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version});
    let definition = json!({"test.things.v1alpha1.Thing": {
        "type": "object", "description": "A thing of the extension.", "properties": {"user": {"type": "string"}},
        "x-kubernetes-group-version-kind": [{"group": GROUP, "version": VERSION, "kind": "Thing"}],
    }});
    let operation = json!({"get": {
        "operationId": "listThings", "responses": {"200": {"description": "OK"}},
        "x-kubernetes-group-version-kind": {"group": GROUP, "version": VERSION, "kind": "Thing"},
    }});
    let paths = json!({format!("/apis/{group_version}/things"): operation});
    let info = json!({"title": "things", "version": "v1"});
    Some(match path {
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}),
        "/apis/things.test" => group,
        "/apis/things.test/v1alpha1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version,
            "resources": [{"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
                           "shortNames": ["th"], "verbs": ["get", "list"]}],
        }),
        "/openapi/v2" => json!({"swagger": "2.0", "info": info, "paths": paths, "definitions": definition}),
        "/openapi/v3" => {
            json!({"paths": {format!("apis/{group_version}"): {"serverRelativeURL": "/openapi/v3/apis/things.test/v1alpha1?hash=1"}}})
        }
        "/openapi/v3/apis/things.test/v1alpha1" => {
            json!({"openapi": "3.0.0", "info": info, "paths": paths, "components": {"schemas": definition}})
        }
        _ => return None,
    })
}

fn respond(code: u16, body: &Value) -> http::Response<Body> {
    let mut response = http::Response::new(wire::full(body.to_string()));
    *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

#[async_trait]
impl Service for Extension {
    async fn call(&self, request: http::Request<Body>, connection: Arc<ConnInfo>) -> http::Response<Body> {
        let path = request.uri().path().to_owned();
        // The listener takes only certificates that the front proxy's authority signed, or none.
        let proxy = connection.peer_certificates.first().and_then(|cert| pki::Info::parse(cert).ok());
        let trusted = proxy.is_some_and(|info| info.subject.common_name == "front-proxy-client");
        let header = |name: &str| {
            let all = request.headers().get_all(name).iter();
            all.filter_map(|value| value.to_str().ok().map(str::to_owned)).collect::<Vec<_>>()
        };
        if !trusted {
            return respond(401, &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 401}));
        }
        if let Some(document) = documents(&path) {
            return respond(200, &document);
        }
        if !path.ends_with("/things") {
            return respond(
                404,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404}),
            );
        }
        let thing = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "Thing", "metadata": {"name": "only", "namespace": "default"},
            "user": header("x-remote-user").join(","), "groups": header("x-remote-group"),
            "bearer": header("authorization").len(),
        });
        respond(
            200,
            &json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ThingList", "metadata": {}, "items": [thing]}),
        )
    }
}

/// Serves it as the Service `things` of `default`, to the front proxy of these keys.
///
/// # Errors
/// It cannot listen.
pub async fn start(ca: &pki::Pair, keys: &pki::Pki, shutdown: &rt::Shutdown) -> Result<u16> {
    let source = crate::hooks::identity(ca, &["things.default.svc"], &[&keys.front_proxy_ca])?;
    crate::hooks::serve(&source, Arc::new(Extension), shutdown).await
}
