//! AlwaysAdmit and AlwaysDeny: for tests and teaching.

use async_trait::async_trait;
use meta::{Object, Status};

use crate::plugin::{Plugin, Request};

/// Admits everything.
pub struct AlwaysAdmit;

impl Plugin for AlwaysAdmit {
    fn handles(&self, _request: &Request<'_>) -> bool {
        false
    }
}

/// Refuses everything.
pub struct AlwaysDeny;

#[async_trait]
impl Plugin for AlwaysDeny {
    fn handles(&self, _request: &Request<'_>) -> bool {
        true
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        Err(request.forbidden(object.as_deref(), "admission control is denying all modifications"))
    }

    async fn validate(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        Err(request.forbidden(object, "admission control is denying all modifications"))
    }
}
