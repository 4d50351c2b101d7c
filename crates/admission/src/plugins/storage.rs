//! DefaultStorageClass, StorageObjectInUseProtection, PersistentVolumeClaimResize.

use async_trait::async_trait;
use meta::{GroupVersionResource, Object, Status};
use registry::Operation;
use serde_json::{Value, json};

use crate::plugin::{Plugin, Request};
use crate::pod::resources;

const GROUP: &str = "storage.k8s.io";
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

fn classes() -> GroupVersionResource {
    GroupVersionResource::new(GROUP, "v1", "storageclasses")
}

fn is_claim(request: &Request<'_>, operation: Operation) -> bool {
    request.operation == operation && request.is("", "persistentvolumeclaims")
}

/// Gives claims that name no class the default one.
pub struct DefaultStorageClass;

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn handles(&self, request: &Request<'_>) -> bool {
        is_claim(request, Operation::Create)
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        let Some(claim) = object else { return Ok(()) };
        let named = claim.get(&["spec", "storageClassName"]).is_some_and(|v| !v.is_null());
        if named || claim.annotation(CLASS_ANNOTATION).is_some() {
            return Ok(());
        }
        let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        let all = request.deps.api.list(&classes(), "").await?;
        let defaults = all.into_iter().filter(|c| marks.iter().any(|m| c.annotation(m) == Some("true")));
        // The newest default wins; of equally old ones the first by name.
        let newest = defaults.max_by(|a, b| {
            let age = a.meta_str("creationTimestamp").cmp(b.meta_str("creationTimestamp"));
            age.then_with(|| b.name().cmp(a.name()))
        });
        if let Some(class) = newest {
            claim.set(&["spec", "storageClassName"], json!(class.name()));
        }
        Ok(())
    }
}

/// Keeps volumes and claims while pods use them, by a finalizer.
pub struct InUseProtection;

const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    (GROUP, "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

fn finalizer(request: &Request<'_>) -> Option<&'static str> {
    PROTECTED.iter().find(|(group, resource, _)| request.is(group, resource)).map(|(_, _, finalizer)| *finalizer)
}

#[async_trait]
impl Plugin for InUseProtection {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation == Operation::Create && finalizer(request).is_some()
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        if let (Some(object), Some(finalizer)) = (object, finalizer(request)) {
            let mut all: Vec<String> = object.finalizers().into_iter().map(str::to_owned).collect();
            if !all.iter().any(|f| f == finalizer) {
                all.push(finalizer.to_owned());
                object.set_finalizers(all);
            }
        }
        Ok(())
    }
}

/// Lets claims grow only where their class allows it.
pub struct ClaimResize;

fn class_name(claim: &Object) -> &str {
    claim.annotation(CLASS_ANNOTATION).unwrap_or_else(|| claim.get_str(&["spec", "storageClassName"]))
}

#[async_trait]
impl Plugin for ClaimResize {
    fn handles(&self, request: &Request<'_>) -> bool {
        is_claim(request, Operation::Update)
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let (Some(claim), Some(old)) = (object, request.old) else { return Ok(()) };
        let size = |claim: &Object| {
            resources(claim.get(&["spec", "resources", "requests"])).get("storage").copied().unwrap_or_default()
        };
        if size(claim) <= size(old) {
            return Ok(());
        }
        if old.get_str(&["status", "phase"]) != "Bound" {
            return Err(request.forbidden(Some(claim), "Only bound persistent volume claims can be expanded"));
        }
        let (name, before) = (class_name(claim), class_name(old));
        let class = match name {
            "" => None,
            name if name != before => None,
            name => request.deps.api.get(&classes(), "", name).await?,
        };
        if class.and_then(|c| c.get(&["allowVolumeExpansion"]).and_then(Value::as_bool)) == Some(true) {
            return Ok(());
        }
        let cause = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
        Err(request.forbidden(Some(claim), cause))
    }
}
