//! The plugins in upstream's order, and the chain that the pipeline calls.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{Object, Status};
use registry::{Admit, Attributes, Operation};
use rt::time::Instant;

use crate::metrics::{Step, metrics};
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
    /// Makes it, or says why its configuration cannot be used.
    pub make: fn(&Deps) -> Result<Arc<dyn Plugin>, String>,
}

macro_rules! plugins {
    ($($name:literal $on:literal $make:expr;)*) => {
        &[$(PluginRow { name: $name, default_on: $on, make: $make }),*]
    };
}

/// All plugins in upstream's order, which flags do not change.
pub const PLUGINS: &[PluginRow] = plugins! {
    "AlwaysAdmit" false |_| Ok(Arc::new(always::AlwaysAdmit));
    "NamespaceAutoProvision" false |_| Ok(Arc::new(namespace_exists::AutoProvision));
    "NamespaceLifecycle" true |_| Ok(Arc::new(namespace_lifecycle::NamespaceLifecycle::default()));
    "NamespaceExists" false |_| Ok(Arc::new(namespace_exists::Exists));
    "LimitPodHardAntiAffinityTopology" false |_| Ok(Arc::new(pod_rules::AntiAffinity));
    "LimitRanger" true |_| Ok(Arc::new(limit_ranger::LimitRanger));
    "ServiceAccount" true |_| Ok(Arc::new(service_account::ServiceAccount));
    "NodeRestriction" false |_| Ok(Arc::new(node_restriction::NodeRestriction));
    "TaintNodesByCondition" true |_| Ok(Arc::new(taint_nodes::TaintNodes));
    "AlwaysPullImages" false |_| Ok(Arc::new(pod_rules::AlwaysPullImages));
    "ImagePolicyWebhook" false image_policy::make;
    "PodSecurity" true pod_security::make;
    "PodNodeSelector" false node_selector::make;
    "Priority" true |_| Ok(Arc::new(priority::Priority));
    "DefaultTolerationSeconds" true |_| Ok(Arc::new(pod_rules::DefaultTolerationSeconds));
    "PodTolerationRestriction" false tolerations::make;
    "EventRateLimit" false event_rate_limit::make;
    "ExtendedResourceToleration" false |_| Ok(Arc::new(pod_rules::ExtendedResourceToleration));
    "DefaultStorageClass" true |_| Ok(Arc::new(storage::DefaultStorageClass));
    "StorageObjectInUseProtection" true |_| Ok(Arc::new(storage::InUseProtection));
    "PodGroupProtection" true |_| Ok(Arc::new(pod_groups::Protection));
    "OwnerReferencesPermissionEnforcement" false |_| Ok(Arc::new(owner_references::OwnerReferences));
    "PersistentVolumeClaimResize" true |_| Ok(Arc::new(storage::ClaimResize));
    "RuntimeClass" true |_| Ok(Arc::new(runtime_class::RuntimeClass));
    "CertificateApproval" true |_| Ok(Arc::new(certificates::Approval));
    "CertificateSigning" true |_| Ok(Arc::new(certificates::Signing));
    "ClusterTrustBundleAttest" true |_| Ok(Arc::new(certificates::TrustBundleAttest));
    "CertificateSubjectRestriction" true |_| Ok(Arc::new(certificates::SubjectRestriction));
    "DefaultIngressClass" true |_| Ok(Arc::new(ingress_class::DefaultIngressClass));
    "DenyServiceExternalIPs" false |_| Ok(Arc::new(external_ips::DenyExternalIps));
    "PodTopologyLabels" true |_| Ok(Arc::new(pod_rules::TopologyLabels));
    "PodGroupWorkloadExists" true |_| Ok(Arc::new(pod_groups::WorkloadExists));
    "NodeDeclaredFeatureValidator" true |_| Ok(Arc::new(node_features::DeclaredFeatures));
    "JobValidation" true |_| Ok(Arc::new(pod_groups::JobValidation));
    "PodResizeValidator" true |_| Ok(Arc::new(node_features::PodResize));
    "MutatingAdmissionPolicy" true |deps| Ok(policy::mutating(deps));
    "MutatingAdmissionWebhook" true webhook::mutating;
    "ValidatingAdmissionPolicy" true |deps| Ok(policy::validating(deps));
    "ValidatingAdmissionWebhook" true webhook::validating;
    "ResourceQuota" true quota::make;
    "AlwaysDeny" false |_| Ok(Arc::new(always::AlwaysDeny));
};

/// The plugins that a set of flags enables.
///
/// # Errors
/// A name is unknown, or both enabled and disabled.
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
    Ok(PLUGINS.iter().filter(wanted).collect())
}

/// The admission chain.
pub struct Chain {
    plugins: Vec<(&'static str, Arc<dyn Plugin>)>,
    deps: Deps,
}

impl Chain {
    /// The chain of the selected plugins (see [`select`]).
    ///
    /// # Errors
    /// A plugin's configuration cannot be used.
    pub fn new(rows: &[&'static PluginRow], deps: Deps) -> Result<Self, String> {
        let make = |row: &&'static PluginRow| match (row.make)(&deps) {
            Ok(plugin) => Ok((row.name, plugin)),
            Err(cause) => Err(format!("couldn't init admission plugin {:?}: {cause}", row.name)),
        };
        let plugins = rows.iter().map(make).collect::<Result<_, _>>()?;
        Ok(Self { plugins, deps })
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
        for (name, plugin) in &self.plugins {
            if plugin.handles(request) {
                let started = Instant::now();
                let outcome = plugin.admit(request, object.as_deref_mut()).await;
                metrics().plugin(name, Step::Admit, request.operation, outcome.is_err(), started.elapsed());
                outcome?;
            }
        }
        Ok(())
    }

    /// Runs the validating half.
    ///
    /// # Errors
    /// The first refusal.
    pub async fn run_validating(&self, request: &Request<'_>, object: Option<&Object>) -> Result<(), Status> {
        for (name, plugin) in &self.plugins {
            if plugin.handles(request) {
                let started = Instant::now();
                let outcome = plugin.validate(request, object).await;
                metrics().plugin(name, Step::Validate, request.operation, outcome.is_err(), started.elapsed());
                outcome?;
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
        let (round, started) = (webhook::Round::default(), Instant::now());
        let outcome = self.run_mutating(&self.request(attributes, &round), object).await;
        metrics().step(Step::Admit, attributes.operation, outcome.is_err(), started.elapsed());
        outcome
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let round = webhook::Round::default();
        let request = self.request(attributes, &round);
        if attributes.operation == Operation::Delete {
            self.run_mutating(&request, None).await?;
        }
        let started = Instant::now();
        let outcome = self.run_validating(&request, object).await;
        metrics().step(Step::Validate, attributes.operation, outcome.is_err(), started.elapsed());
        outcome
    }
}
