//! NamespaceExists and NamespaceAutoProvision: older ways to treat absent namespaces.

use async_trait::async_trait;
use meta::{GroupVersionKind, Object, Status};
use registry::Operation;

use crate::plugin::{Plugin, Request, core};

fn concerns(request: &Request<'_>) -> bool {
    let write = matches!(request.operation, Operation::Create | Operation::Update);
    write && !request.namespace.is_empty() && !request.is_any_of("", "namespaces")
}

/// Refuses requests in absent namespaces.
pub struct Exists;

#[async_trait]
impl Plugin for Exists {
    fn handles(&self, request: &Request<'_>) -> bool {
        concerns(request)
    }

    async fn validate(&self, request: &Request<'_>, _object: Option<&Object>) -> Result<(), Status> {
        match request.core("namespaces", "", request.namespace).await? {
            Some(_) => Ok(()),
            None => Err(Status::not_found(&core("namespaces").group_resource(), request.namespace)),
        }
    }
}

/// Creates absent namespaces.
pub struct AutoProvision;

#[async_trait]
impl Plugin for AutoProvision {
    fn handles(&self, request: &Request<'_>) -> bool {
        concerns(request) && request.operation == Operation::Create && !request.dry_run
    }

    async fn admit(&self, request: &Request<'_>, _object: Option<&mut Object>) -> Result<(), Status> {
        if request.core("namespaces", "", request.namespace).await?.is_some() {
            return Ok(());
        }
        let mut namespace = Object::new(&GroupVersionKind::new("", "v1", "Namespace"));
        namespace.set_meta_str("name", request.namespace);
        match request.deps.api.create(&core("namespaces"), namespace).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        }
    }
}
