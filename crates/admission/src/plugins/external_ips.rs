//! DenyServiceExternalIPs: no new external addresses on Services.

use async_trait::async_trait;
use meta::{Object, Status};
use registry::Operation;

use crate::plugin::{Plugin, Request};
use crate::pod::{items, spec};

/// The plugin.
pub struct DenyExternalIps;

#[async_trait]
impl Plugin for DenyExternalIps {
    fn handles(&self, request: &Request<'_>) -> bool {
        matches!(request.operation, Operation::Create | Operation::Update) && request.is("", "services")
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(service) = object else { return Ok(()) };
        let known = |ip| request.old.is_some_and(|old| items(spec(old), "externalIPs").any(|other| other == ip));
        if items(spec(service), "externalIPs").all(known) {
            return Ok(());
        }
        Err(request.forbidden(Some(service), "Use of external IPs is denied by admission control"))
    }
}
