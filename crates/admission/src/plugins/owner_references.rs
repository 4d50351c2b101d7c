//! OwnerReferencesPermissionEnforcement: owners are set by those who may delete, and block only with leave.

use async_trait::async_trait;
use auth_api::{Attributes, Decision};
use meta::{GroupVersionKind, Object, OwnerReference, Status};
use registry::Operation;

use crate::plugin::{Plugin, Request};

/// The plugin.
pub struct OwnerReferences;

async fn ask(request: &Request<'_>, attributes: Attributes) -> Result<(), String> {
    let Some(authorizer) = &request.deps.authorizer else { return Ok(()) };
    let attributes = Attributes { user: request.user.clone(), resource_request: true, ..attributes };
    match authorizer.authorize(&attributes).await {
        Ok((Decision::Allow, _)) => Ok(()),
        Ok((_, reason)) => Err(format!("{reason}, <nil>")),
        Err(error) => Err(format!(", {error}")),
    }
}

fn finalizers_of(group: &str, version: &str, resource: &str, name: &str) -> Attributes {
    Attributes {
        verb: "update".into(),
        api_group: group.into(),
        api_version: version.into(),
        resource: resource.into(),
        subresource: "finalizers".into(),
        name: name.into(),
        ..Attributes::default()
    }
}

async fn check_block(request: &Request<'_>, object: &Object, owner: &OwnerReference) -> Result<(), Status> {
    let start = "cannot set blockOwnerDeletion";
    let found = GroupVersionKind::from_api_version(&owner.api_version, &owner.kind)
        .ok()
        .and_then(|gvk| Some((request.registry?.by_kind(&gvk)?, gvk)));
    let Some((resource, gvk)) = found else {
        let cause = format!(
            "{start} in this case because cannot find RESTMapping for APIVersion {} Kind {}",
            owner.api_version, owner.kind
        );
        return Err(request.forbidden(Some(object), cause));
    };
    let mut attributes = finalizers_of(&gvk.group, &gvk.version, &resource.row.plural, &owner.name);
    if resource.row.namespaced {
        attributes.namespace = request.namespace.to_owned();
    }
    ask(request, attributes).await.map_err(|reason| {
        let cause = format!("{start} if an ownerReference refers to a resource you can't set finalizers on: {reason}");
        request.forbidden(Some(object), cause)
    })
}

#[async_trait]
impl Plugin for OwnerReferences {
    fn handles(&self, request: &Request<'_>) -> bool {
        let exempt = request.is_any_of("", "pods") && matches!(request.subresource, "status" | "binding" | "eviction");
        matches!(request.operation, Operation::Create | Operation::Update) && !exempt
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        let owners = object.owner_references();
        let before = request.old.map(Object::owner_references).unwrap_or_default();
        if owners == before {
            return Ok(());
        }
        if request.operation != Operation::Create {
            let attributes = Attributes {
                verb: "delete".into(),
                namespace: request.namespace.into(),
                api_group: request.resource.group.clone(),
                api_version: request.resource.version.clone(),
                resource: request.resource.resource.clone(),
                subresource: request.subresource.into(),
                name: request.name.into(),
                ..Attributes::default()
            };
            ask(request, attributes).await.map_err(|reason| {
                request
                    .forbidden(Some(object), format!("cannot set an ownerRef on a resource you can't delete: {reason}"))
            })?;
        }
        let blocked = |list: &[OwnerReference], uid: &str| {
            list.iter().any(|o| o.uid == uid && o.block_owner_deletion == Some(true))
        };
        let new: Vec<&OwnerReference> =
            owners.iter().filter(|o| o.block_owner_deletion == Some(true) && !blocked(&before, &o.uid)).collect();
        if new.is_empty() || ask(request, finalizers_of("*", "*", "*", "*")).await.is_ok() {
            return Ok(());
        }
        for owner in new {
            check_block(request, object, owner).await?;
        }
        Ok(())
    }
}
