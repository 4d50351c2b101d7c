//! What an admission plugin sees and does.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Authorizer, Edit, UserInfo};
use meta::{GroupResource, GroupVersionKind, GroupVersionResource, Object, Status};
use registry::{Operation, Registry, Warnings};
use serde_json::Value;

/// What plugins may use.
#[derive(Clone)]
pub struct Deps {
    /// Reads objects from the watch cache, writes as the API server itself.
    pub api: Arc<dyn Edit>,
    /// The whole authorizer chain, for plugins that ask it.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// Escalation checks for roles and bindings; none without RBAC.
    pub escalation: Option<Arc<authz::rbac::Escalation>>,
    /// Calls webhooks; `None` for the usual way over HTTPS.
    pub webhooks: Option<Arc<dyn crate::webhook::Caller>>,
    /// Settings of single plugins.
    pub settings: Settings,
}

/// Flags that plugins look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `--default-not-ready-toleration-seconds`.
    pub not_ready_toleration_seconds: i64,
    /// `--default-unreachable-toleration-seconds`.
    pub unreachable_toleration_seconds: i64,
    /// The 2019 workshop: pods without a token are refused in words of its time.
    pub workshop: bool,
    /// `--admission-control-config-file`.
    pub configs: crate::Configs,
    /// `--feature-gates`.
    pub gates: features::Gates,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            not_ready_toleration_seconds: 300,
            unreachable_toleration_seconds: 300,
            workshop: false,
            configs: crate::Configs::default(),
            gates: features::Gates::default(),
        }
    }
}

/// One request under admission, without the new object.
pub struct Request<'a> {
    /// Operation.
    pub operation: Operation,
    /// Kind in the request's version.
    pub kind: &'a GroupVersionKind,
    /// Resource in the request's version.
    pub resource: &'a GroupVersionResource,
    /// Subresource, may be empty.
    pub subresource: &'a str,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// Name, may be empty on create.
    pub name: &'a str,
    /// The stored object on update and delete.
    pub old: Option<&'a Object>,
    /// The request's options.
    pub options: &'a Value,
    /// Whether nothing will be kept.
    pub dry_run: bool,
    /// Who asks.
    pub user: &'a UserInfo,
    /// Warnings for the client.
    pub warnings: &'a Warnings,
    /// The storage of every kind, for conversions.
    pub registry: Option<&'a Arc<Registry>>,
    /// What plugins may use.
    pub deps: &'a Deps,
    /// Whether the mutating half runs again because a webhook changed the object, and what webhooks remember.
    pub round: &'a crate::webhook::Round,
}

impl Request<'_> {
    /// Whether the request is on this resource of this group itself.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.subresource.is_empty() && self.is_any_of(group, resource)
    }

    /// Whether it is on this resource or one of its subresources.
    pub fn is_any_of(&self, group: &str, resource: &str) -> bool {
        self.resource.group == group && self.resource.resource == resource
    }

    /// Whether a pod is being created.
    pub fn creates_pod(&self) -> bool {
        self.operation == Operation::Create && self.is("", "pods")
    }

    /// Group and resource, for messages.
    pub fn group_resource(&self) -> GroupResource {
        self.resource.group_resource()
    }

    /// The object's name as refusals show it: a generated name is not there yet.
    pub fn shown_name(&self, object: Option<&Object>) -> String {
        if !self.name.is_empty() {
            return self.name.to_owned();
        }
        match object {
            Some(object) if !object.name().is_empty() => object.name().to_owned(),
            Some(object) if !object.generate_name().is_empty() => object.generate_name().to_owned(),
            _ => "Unknown".to_owned(),
        }
    }

    /// 403 with a cause.
    pub fn forbidden(&self, object: Option<&Object>, cause: impl std::fmt::Display) -> Status {
        Status::forbidden(&self.group_resource(), &self.shown_name(object), cause)
    }

    /// A core object by cache, then store.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn core(&self, resource: &str, namespace: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        self.deps.api.get(&core(resource), namespace, name).await
    }
}

/// A resource of the core group.
pub fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("", "v1", resource)
}

/// An admission plugin. Both methods run again on every retry of an update; neither may keep anything of a dry run.
#[async_trait]
pub trait Plugin: Send + Sync {
    /// Whether the plugin has anything to do with such a request; keeps the hot path free of calls.
    fn handles(&self, request: &Request<'_>) -> bool;

    /// Changes or refuses the object. `object` is `None` on delete.
    ///
    /// # Errors
    /// The refusal, as the client gets it.
    async fn admit(&self, _request: &Request<'_>, _object: Option<&mut Object>) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the object as it will be written.
    ///
    /// # Errors
    /// The refusal, as the client gets it.
    async fn validate(&self, _request: &Request<'_>, _object: Option<&Object>) -> Result<(), Status> {
        Ok(())
    }
}
