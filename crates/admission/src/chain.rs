//! The plugins in upstream's order, and the chain that the pipeline calls.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{Object, Status};
use registry::{Admit, Attributes, Operation};

use crate::plugin::{Deps, Plugin, Request};
use crate::plugins::*;
use crate::policy;
use crate::webhook;

/// One row of the table.
pub struct PluginRow {
    /// Name, as in `--enable-admission-plugins`.
    pub name: &'static str,
    /// Whether it is on unless disabled.
    pub default_on: bool,
    /// Makes it; `None` when Corten does not have it.
    pub make: Option<fn(&Deps) -> Arc<dyn Plugin>>,
}

macro_rules! plugins {
    ($($name:literal $on:literal $make:expr;)*) => {
        &[$(PluginRow { name: $name, default_on: $on, make: $make }),*]
    };
}

/// All plugins in upstream's order, which flags do not change.
pub const PLUGINS: &[PluginRow] = plugins! {
    "AlwaysAdmit" false Some(|_| Arc::new(always::AlwaysAdmit));
    "NamespaceAutoProvision" false Some(|_| Arc::new(namespace_exists::AutoProvision));
    "NamespaceLifecycle" true Some(|_| Arc::new(namespace_lifecycle::NamespaceLifecycle::default()));
    "NamespaceExists" false Some(|_| Arc::new(namespace_exists::Exists));
    "LimitPodHardAntiAffinityTopology" false Some(|_| Arc::new(pod_rules::AntiAffinity));
    "LimitRanger" true Some(|_| Arc::new(limit_ranger::LimitRanger));
    "ServiceAccount" true Some(|_| Arc::new(service_account::ServiceAccount));
    "NodeRestriction" false Some(|_| Arc::new(node_restriction::NodeRestriction));
    "TaintNodesByCondition" true Some(|_| Arc::new(taint_nodes::TaintNodes));
    "AlwaysPullImages" false Some(|_| Arc::new(pod_rules::AlwaysPullImages));
    "ImagePolicyWebhook" false None;
    "PodSecurity" true Some(|_| Arc::new(pod_security::PodSecurity));
    "PodNodeSelector" false Some(|_| Arc::new(pod_rules::PodNodeSelector));
    "Priority" true Some(|_| Arc::new(priority::Priority));
    "DefaultTolerationSeconds" true Some(|_| Arc::new(pod_rules::DefaultTolerationSeconds));
    "PodTolerationRestriction" false None;
    "EventRateLimit" false None;
    "ExtendedResourceToleration" false Some(|_| Arc::new(pod_rules::ExtendedResourceToleration));
    "DefaultStorageClass" true Some(|_| Arc::new(storage::DefaultStorageClass));
    "StorageObjectInUseProtection" true Some(|_| Arc::new(storage::InUseProtection));
    "OwnerReferencesPermissionEnforcement" false Some(|_| Arc::new(owner_references::OwnerReferences));
    "PersistentVolumeClaimResize" true Some(|_| Arc::new(storage::ClaimResize));
    "RuntimeClass" true Some(|_| Arc::new(runtime_class::RuntimeClass));
    "CertificateApproval" true Some(|_| Arc::new(certificates::Approval));
    "CertificateSigning" true Some(|_| Arc::new(certificates::Signing));
    "ClusterTrustBundleAttest" true Some(|_| Arc::new(certificates::TrustBundleAttest));
    "CertificateSubjectRestriction" true Some(|_| Arc::new(certificates::SubjectRestriction));
    "DefaultIngressClass" true Some(|_| Arc::new(ingress_class::DefaultIngressClass));
    "DenyServiceExternalIPs" false Some(|_| Arc::new(external_ips::DenyExternalIps));
    "PodTopologyLabels" true Some(|_| Arc::new(pod_rules::TopologyLabels));
    "MutatingAdmissionPolicy" true Some(|deps| policy::mutating(deps));
    "MutatingAdmissionWebhook" true Some(|deps| webhook::mutating(deps));
    "ValidatingAdmissionPolicy" true Some(|deps| policy::validating(deps));
    "ValidatingAdmissionWebhook" true Some(|deps| webhook::validating(deps));
    "ResourceQuota" true Some(|_| Arc::new(quota::ResourceQuota::default()));
    "AlwaysDeny" false Some(|_| Arc::new(always::AlwaysDeny));
};

/// The plugins that a set of flags enables.
///
/// # Errors
/// A name is unknown, or enabled though Corten does not have it, or both enabled and disabled.
pub fn select(enable: &[String], disable: &[String]) -> Result<Vec<&'static PluginRow>, String> {
    for name in enable.iter().chain(disable) {
        if !PLUGINS.iter().any(|row| row.name == name) {
            return Err(format!("admission plugin \"{name}\" is unknown"));
        }
        if enable.contains(name) && disable.contains(name) {
            return Err(format!("[{name}] in enable-admission-plugins and disable-admission-plugins overlapped"));
        }
    }
    let wanted = |row: &&PluginRow| {
        let named = |list: &[String]| list.iter().any(|name| name == row.name);
        !named(disable) && (row.default_on || named(enable))
    };
    let rows: Vec<&PluginRow> = PLUGINS.iter().filter(wanted).collect();
    match rows.iter().find(|row| row.make.is_none()) {
        Some(row) => Err(format!("admission plugin \"{}\" is not implemented", row.name)),
        None => Ok(rows),
    }
}

/// The admission chain.
pub struct Chain {
    plugins: Vec<(&'static str, Arc<dyn Plugin>)>,
    deps: Deps,
}

impl Chain {
    /// The chain of the selected plugins (see [`select`]).
    pub fn new(rows: &[&'static PluginRow], deps: Deps) -> Self {
        let plugins = rows.iter().filter_map(|row| Some((row.name, row.make?(&deps)))).collect();
        Self { plugins, deps }
    }

    /// The enabled plugins' names, in order.
    pub fn names(&self) -> Vec<&'static str> {
        self.plugins.iter().map(|(name, _)| *name).collect()
    }

    fn request<'a>(&'a self, attributes: &'a Attributes<'_>, round: &'a webhook::Round) -> Request<'a> {
        Request {
            operation: attributes.operation,
            kind: &attributes.kind,
            resource: &attributes.resource,
            subresource: attributes.subresource,
            namespace: attributes.namespace,
            name: attributes.name,
            old: attributes.old,
            options: attributes.options,
            dry_run: attributes.dry_run,
            user: attributes.user,
            warnings: attributes.warnings,
            registry: Some(attributes.registry),
            deps: &self.deps,
            round,
        }
    }

    /// Runs the mutating half.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn run_mutating(&self, request: &Request<'_>, mut object: Option<&mut Object>) -> Result<(), Status> {
        self.admit_once(request, object.as_deref_mut()).await?;
        // What a webhook changed is seen again by everybody, once: it may have added a container without a token.
        if request.round.begin_second() {
            self.admit_once(request, object.as_deref_mut()).await?;
        }
        // Not a plugin upstream but part of the storage of roles and bindings: it cannot be disabled.
        if let (Some(escalation), Some(object)) = (&self.deps.escalation, object.as_deref()) {
            check_escalation(escalation, request, object).await?;
        }
        Ok(())
    }

    async fn admit_once(&self, request: &Request<'_>, mut object: Option<&mut Object>) -> Result<(), Status> {
        for (_, plugin) in &self.plugins {
            if plugin.handles(request) {
                plugin.admit(request, object.as_deref_mut()).await?;
            }
        }
        Ok(())
    }

    /// Runs the validating half.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn run_validating(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        for (_, plugin) in &self.plugins {
            if plugin.handles(request) {
                plugin.validate(request, object).await?;
            }
        }
        Ok(())
    }
}

async fn check_escalation(
    escalation: &authz::rbac::Escalation,
    request: &Request<'_>,
    object: &Object,
) -> Result<(), Status> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    if !writes || request.resource.group != "rbac.authorization.k8s.io" || !request.subresource.is_empty() {
        return Ok(());
    }
    let write = authz::rbac::Write {
        user: request.user,
        resource: &request.resource.resource,
        namespace: request.namespace,
        object,
        old: request.old,
    };
    escalation.check(&write).await
}

#[async_trait]
impl Admit for Chain {
    async fn mutate(&self, attributes: &Attributes<'_>, object: Option<&mut Object>) -> Result<(), Status> {
        // A delete's mutating half needs the stored object, which the pipeline knows only at validation.
        if attributes.operation == Operation::Delete {
            return Ok(());
        }
        let round = webhook::Round::default();
        self.run_mutating(&self.request(attributes, &round), object).await
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let round = webhook::Round::default();
        let request = self.request(attributes, &round);
        if attributes.operation == Operation::Delete {
            self.run_mutating(&request, None).await?;
        }
        self.run_validating(&request, object).await
    }
}
