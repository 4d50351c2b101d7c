//! pods/binding and the old `bindings` resource.

use async_trait::async_trait;
use http::{Response, StatusCode};
use meta::{GroupVersionKind, Object, Status};
use registry::{Ctx, Operation, Strategy, UpdateOptions, Updater};
use serde_json::{Value, json};
use wire::Body;

use crate::chain::Call;
use crate::decode::{self, FieldValidation};
use crate::respond;
use crate::route::Target;

/// Writes what a binding changes; nothing else is to be prepared or validated.
struct Assign;

impl Strategy for Assign {
    fn prepare_for_update(&self, _cx: &Ctx, _object: &mut Object, _old: &Object) {}
}

struct Bind<'a> {
    binding: &'a Object,
    name: &'a str,
}

#[async_trait]
impl Updater for Bind<'_> {
    async fn next(&self, old: Option<&Object>) -> Result<Object, Status> {
        let pods = meta::GroupResource::new("", "pods");
        let Some(old) = old else { return Err(Status::not_found(&pods, self.name)) };
        let conflict =
            |cause: String| Err(Status::conflict(&meta::GroupResource::new("", "pods/binding"), self.name, cause));
        let (uid, version) = (self.binding.uid(), self.binding.resource_version());
        if !uid.is_empty() && uid != old.uid() {
            return conflict(format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old.uid()
            ));
        }
        if !version.is_empty() && version != old.resource_version() {
            return conflict(format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
                old.resource_version()
            ));
        }
        if old.deletion_timestamp().is_some() {
            return conflict(format!("pod {} is being deleted, cannot be assigned to a host", self.name));
        }
        let assigned = old.get_str(&["spec", "nodeName"]);
        if !assigned.is_empty() {
            return conflict(format!("pod {} is already assigned to node {assigned:?}", self.name));
        }
        if old.get(&["spec", "schedulingGates"]).and_then(Value::as_array).is_some_and(|g| !g.is_empty()) {
            return conflict(format!("pod {} has non-empty .spec.schedulingGates", self.name));
        }
        let mut pod = old.clone();
        pod.set(&["spec", "nodeName"], self.binding.get_str(&["target", "name"]).into());
        for (key, value) in self.binding.annotations() {
            pod.set_annotation(key, value);
        }
        for (key, value) in self.binding.labels().filter(|(k, _)| k.starts_with("topology.kubernetes.io/")) {
            pod.set_label(key, value);
        }
        let now = meta::time::format_seconds(rt::time::now());
        let scheduled = json!({
            "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now,
            "observedGeneration": old.generation(),
        });
        // The pod has its place; what was kept for it elsewhere is free.
        pod.status_mut().remove("nominatedNodeName");
        let conditions = pod.status_mut().entry("conditions").or_insert_with(|| json!([]));
        if let Some(list) = conditions.as_array_mut() {
            match list.iter_mut().find(|c| c["type"] == "PodScheduled") {
                Some(found) => *found = scheduled,
                None => list.push(scheduled),
            }
        }
        Ok(pod)
    }
}

/// POST of a Binding to pods/NAME/binding.
pub(crate) async fn binding(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let binding = read_binding(call, target).await?;
    let given = binding.name();
    if !given.is_empty() && given != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let name = call.info.name.clone();
    bind(call, target, target, binding, &name).await
}

/// POST of a Binding to the `bindings` resource: its name is the pod's.
pub(crate) async fn binding_resource(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    let binding = read_binding(call, target).await?;
    let pods = Target {
        resource: call.state.registry.need("", "pods")?,
        gvk: GroupVersionKind::new("", "v1", "Pod"),
        namespace: target.namespace.clone(),
    };
    let name = binding.name().to_owned();
    bind(call, target, &pods, binding, &name).await
}

async fn read_binding(call: &mut Call, target: &Target) -> Result<Object, Status> {
    let gvk = GroupVersionKind::new("", "v1", "Binding");
    let bytes = decode::read(call.take_body()).await?;
    let decoded = decode::built_in(&bytes, decode::media(call.headers())?, &gvk)?;
    let validation = FieldValidation::parse(call.query.get("fieldValidation"), "CreateOptions")?;
    let request = target.request(call, "CreateOptions")?;
    validation.judge(&gvk, decoded.strict, &request.warnings)?;
    let binding = decoded.object;
    let kind = binding.get_str(&["target", "kind"]);
    let path = meta::field::Path::new("target");
    let mut errors = Vec::new();
    if !kind.is_empty() && kind != "Node" {
        errors.push(meta::field::Error::not_supported(&path.child("kind"), kind, &["Node", "<empty>"]));
    }
    if binding.get_str(&["target", "name"]).is_empty() {
        errors.push(meta::field::Error::required(&path.child("name"), ""));
    }
    if errors.is_empty() {
        return Ok(binding);
    }
    Err(crate::words::nameless(meta::field::aggregate(&errors)))
}

/// Binds a pod. `asked` is the resource of the request: it is a Binding that is created, and that admission looks at; the pod
/// that changes by it is not.
async fn bind(
    call: &Call,
    asked: &Target,
    pods: &Target,
    mut binding: Object,
    name: &str,
) -> Result<Response<Body>, Status> {
    let mut request = asked.request(call, "CreateOptions")?;
    request.kind = GroupVersionKind::new("", "v1", "Binding");
    registry::ensure_namespace(&mut binding, &asked.namespace)?;
    let admit = call.state.registry.admit();
    let attributes = request.attributes(Operation::Create, name, None);
    admit.mutate(&attributes, Some(&mut binding)).await?;
    admit.validate(&attributes, Some(&binding)).await?;
    let mut request = pods.request(call, "CreateOptions")?;
    request.cx.subresource = "binding".into();
    let updater = Bind { binding: &binding, name };
    let options = UpdateOptions { strategy: &Assign, create: false, main: false, admitted: true };
    pods.resource.update(&request, name, &updater, options).await?;
    let mut status = Status::success(None);
    status.code = 201;
    let mut response = respond::status_response(call.headers(), &status);
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}
