//! NamespaceLifecycle: nothing is created in a namespace that is absent or going away; the system's own stay.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use meta::{Object, Status};
use parking_lot::Mutex;
use registry::Operation;
use rt::time::Instant;

use crate::plugin::{Plugin, Request, core};

const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];
/// How long a namespace whose deletion was asked for is read past the cache.
const LIVE_FOR: Duration = Duration::from_secs(30);
/// Namespaces remembered so.
const REMEMBERED: usize = 100;

/// The plugin.
#[derive(Default)]
pub struct NamespaceLifecycle {
    deleted: Mutex<BTreeMap<String, Instant>>,
}

impl NamespaceLifecycle {
    fn remember(&self, name: &str) {
        let mut deleted = self.deleted.lock();
        let now = Instant::now();
        deleted.retain(|_, until| now < *until);
        if deleted.len() >= REMEMBERED
            && let Some(first) = deleted.iter().min_by_key(|(_, until)| **until).map(|(name, _)| name.clone())
        {
            deleted.remove(&first);
        }
        deleted.insert(name.to_owned(), now + LIVE_FOR);
    }

    fn is_remembered(&self, name: &str) -> bool {
        self.deleted.lock().get(name).is_some_and(|until| Instant::now() < *until)
    }

    async fn check(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        let namespaces = core("namespaces");
        let api = &request.deps.api;
        let mut found = api.get(&namespaces, "", request.namespace).await?;
        let active = found.as_ref().is_some_and(|ns| ns.get_str(&["status", "phase"]) != "Terminating");
        if active && self.is_remembered(request.namespace) {
            found = api.get_live(&namespaces, "", request.namespace).await?;
        }
        let Some(namespace) = found else {
            return Err(Status::not_found(&namespaces.group_resource(), request.namespace));
        };
        if request.operation != Operation::Create || namespace.get_str(&["status", "phase"]) != "Terminating" {
            return Ok(());
        }
        let name = request.namespace;
        let cause = format!("unable to create new content in namespace {name} because it is being terminated");
        Err(request.forbidden(object, cause).with_cause(
            "NamespaceTerminating",
            format!("namespace {name} is being terminated"),
            "metadata.namespace",
        ))
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn handles(&self, request: &Request<'_>) -> bool {
        request.operation != Operation::Connect
    }

    async fn admit(&self, request: &Request<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        if request.is_any_of("", "namespaces") {
            if request.operation == Operation::Delete {
                if IMMORTAL.contains(&request.name) {
                    return Err(request.forbidden(None, "this namespace may not be deleted"));
                }
                self.remember(request.name);
            }
            return Ok(());
        }
        let review = request.is_any_of("authorization.k8s.io", "localsubjectaccessreviews");
        if request.namespace.is_empty() || request.operation == Operation::Delete || review {
            return Ok(());
        }
        self.check(request, object.as_deref()).await
    }
}
