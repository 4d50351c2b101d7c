//! What the metrics of an autoscaler ask for.

use std::sync::Arc;

use api::Kind;
use api::k8s::autoscaling::v2::{
    ContainerResourceMetricStatus, ExternalMetricStatus, HorizontalPodAutoscaler, MetricIdentifier, MetricSpec,
    MetricStatus, MetricTarget, MetricValueStatus, ObjectMetricStatus, PodsMetricStatus, ResourceMetricStatus,
};
use api::k8s::core::v1::Pod;
use api::prelude::Quantity as Wire;
use meta::quantity::Quantity;
use meta::selector::LabelSelector;
use rt::time::Instant;

use super::calculate::{self, Basis, Tolerance};
use super::monitor::Failure;
use super::round::{Scale, replicas};
use super::{Controller, set_condition, source};

/// What a metric asks for.
struct Proposal {
    replicas: i32,
    name: String,
    status: MetricStatus,
}

/// A metric that says nothing: condition's reason, cause and how it is told to the log.
struct Failed {
    reason: &'static str,
    why: String,
    context: String,
    failure: Failure,
}

impl Failed {
    fn new(reason: &'static str, context: String, why: String) -> Self {
        Self { reason, why, context, failure: Failure::Internal }
    }
}

fn wire(milli: i64) -> Wire {
    Wire(Quantity::from_millis(milli).to_string())
}

/// A value as upstream shows it: memory in powers of two.
fn amount(resource: &str, milli: i64) -> Wire {
    if resource == "memory" && milli % 1000 == 0 {
        return Wire(Quantity::from_units(milli / 1000, meta::quantity::Format::BinarySi).to_string());
    }
    wire(milli)
}

fn milli(quantity: &Wire) -> i64 {
    api::quantity(quantity).milli_value()
}

fn value_status(value: Option<Wire>, average: Option<Wire>) -> MetricValueStatus {
    MetricValueStatus { value, average_value: average, ..MetricValueStatus::default() }
}

/// What all metrics together ask for.
pub(super) struct Found {
    pub(super) replicas: i32,
    pub(super) name: String,
    pub(super) statuses: Vec<MetricStatus>,
    /// Some metrics failed while others count.
    pub(super) partial: Result<(), String>,
}

/// What the metrics of one round stand on.
struct Target<'a> {
    autoscaler: &'a HorizontalPodAutoscaler,
    selector: String,
    pods: Vec<Arc<Pod>>,
    spec_replicas: i32,
    status_replicas: i32,
}

impl Controller {
    pub(super) async fn by_metrics(
        &self,
        autoscaler: &mut HorizontalPodAutoscaler,
        scale: &Scale,
    ) -> Result<Found, (String, Vec<MetricStatus>)> {
        let selector = scale.object.get_str(&["status", "selector"]).to_owned();
        let pods = self.select(autoscaler, &selector).map_err(|why| (why, Vec::new()))?;
        let of = autoscaler.clone();
        let target = Target {
            autoscaler: &of,
            selector,
            pods,
            spec_replicas: scale.spec(),
            status_replicas: replicas(&scale.object, "status"),
        };
        let specs = of.spec.metrics.clone().unwrap_or_default();
        let mut found = Found { replicas: 0, name: String::new(), statuses: Vec::new(), partial: Ok(()) };
        let (mut failures, mut first) = (0, None);
        for spec in &specs {
            let began = Instant::now();
            let proposal = self.by_metric(&target, spec).await;
            let wanted = proposal.as_ref().map(|p| p.replicas).map_err(|failed| failed.failure);
            let before = of.status.as_ref().and_then(|s| s.current_replicas).unwrap_or(0);
            self.monitor.computed(before, wanted, &spec.type_, began.elapsed());
            match proposal {
                Ok(proposal) => {
                    found.statuses.push(proposal.status);
                    if found.replicas == 0 || proposal.replicas > found.replicas {
                        found.replicas = proposal.replicas;
                        found.name = proposal.name;
                    }
                }
                Err(failed) => {
                    self.warn(&of, failed.reason, &failed.why);
                    failures += 1;
                    found.statuses.push(MetricStatus::default());
                    first.get_or_insert(failed);
                }
            }
        }
        let Some(first) = first else {
            set_active(autoscaler, &found.name);
            return Ok(found);
        };
        let context = if first.context.is_empty() { String::new() } else { format!("{}: ", first.context) };
        let of = specs.len();
        let why = format!("invalid metrics ({failures} invalid out of {of}), first error is: {context}{}", first.why);
        if failures >= specs.len() || found.replicas < target.spec_replicas {
            let message = format!("the HPA was unable to compute the replica count: {}", first.why);
            set_condition(autoscaler, "ScalingActive", false, first.reason, message);
            return Err((why, found.statuses));
        }
        set_active(autoscaler, &found.name);
        found.partial = Err(why);
        Ok(found)
    }

    /// The target's pods.
    fn select(&self, autoscaler: &mut HorizontalPodAutoscaler, text: &str) -> Result<Vec<Arc<Pod>>, String> {
        let fail = |autoscaler: &mut HorizontalPodAutoscaler, reason: (&str, &str), message: &str, told: String| {
            self.warn(autoscaler, reason.0, &told);
            set_condition(autoscaler, "ScalingActive", false, reason.1, message);
            told
        };
        if text.is_empty() {
            let message = "the HPA target's scale is missing a selector";
            let reason = ("SelectorRequired", "InvalidSelector");
            return Err(fail(autoscaler, reason, message, "selector is required".to_owned()));
        }
        let selector = match LabelSelector::parse(text) {
            Ok(selector) => selector,
            Err(error) => {
                let told = format!("couldn't convert selector into a corresponding internal selector object: {error}");
                return Err(fail(autoscaler, ("InvalidSelector", "InvalidSelector"), &told.clone(), told));
            }
        };
        let (key, namespace) = (autoscaler.key(), autoscaler.namespace().to_owned());
        self.pods_of(&key, &namespace, text, &selector)
            .map_err(|told| fail(autoscaler, ("AmbiguousSelector", "AmbiguousSelector"), &told.clone(), told))
    }

    fn basis<'a>(&self, target: &'a Target<'_>) -> Basis<'a> {
        let options = &self.context.options.autoscaler;
        Basis {
            pods: &target.pods,
            current: target.spec_replicas,
            tolerance: self.tolerance(target.autoscaler),
            now: rt::time::now(),
            cpu_initialization: options.cpu_initialization,
            initial_readiness: options.initial_readiness,
        }
    }

    fn tolerance(&self, autoscaler: &HorizontalPodAutoscaler) -> Tolerance {
        let options = &self.context.options.autoscaler;
        let behavior = autoscaler.spec.behavior.as_ref();
        let own = |rules: Option<&api::k8s::autoscaling::v2::HPAScalingRules>| {
            rules.and_then(|r| r.tolerance.as_ref()).map_or(options.tolerance, |q| api::quantity(q).as_f64())
        };
        Tolerance {
            down: own(behavior.and_then(|b| b.scale_down.as_ref())),
            up: own(behavior.and_then(|b| b.scale_up.as_ref())),
        }
    }

    async fn by_metric(&self, target: &Target<'_>, spec: &MetricSpec) -> Result<Proposal, Failed> {
        match spec {
            MetricSpec { resource: Some(m), .. } => {
                let context = format!("failed to get {} resource metric value", m.name);
                let (replicas, name, current) = self
                    .by_resource(target, &m.target, &m.name, "")
                    .await
                    .map_err(|why| Failed::new("FailedGetResourceMetric", context, why))?;
                let own = ResourceMetricStatus { name: m.name.clone(), current };
                Ok(Proposal { replicas, name, status: status(spec, |s| s.resource = Some(own)) })
            }
            MetricSpec { container_resource: Some(m), .. } => {
                let context = format!("failed to get {} container metric value", m.container);
                let (replicas, name, current) = self
                    .by_resource(target, &m.target, &m.name, &m.container)
                    .await
                    .map_err(|why| Failed::new("FailedGetContainerResourceMetric", context, why))?;
                let own =
                    ContainerResourceMetricStatus { name: m.name.clone(), container: m.container.clone(), current };
                Ok(Proposal { replicas, name, status: status(spec, |s| s.container_resource = Some(own)) })
            }
            MetricSpec { pods: Some(_), .. } => {
                let context = "failed to get pods metric value".to_owned();
                self.by_pods(target, spec).await.map_err(|why| Failed::new("FailedGetPodsMetric", context, why))
            }
            MetricSpec { object: Some(m), .. } => {
                let mut context = "failed to get object metric value".to_owned();
                if m.target.type_ == "AverageValue" && m.target.average_value.is_some() {
                    context.push_str(&format!(": failed to get {} object metric", m.metric.name));
                }
                self.by_object(target, spec).await.map_err(|why| Failed::new("FailedGetObjectMetric", context, why))
            }
            MetricSpec { external: Some(m), .. } => {
                let name = &m.metric.name;
                let mut context = format!("failed to get {name} external metric value");
                if m.target.average_value.is_some() {
                    context.push_str(&format!(": failed to get {name} external metric"));
                } else if m.target.value.is_some() {
                    context.push_str(&format!(": failed to get external metric {name}"));
                }
                self.by_external(target, spec).await.map_err(|why| Failed::new("FailedGetExternalMetric", context, why))
            }
            _ => {
                let why = format!("unknown metric source type {:?}", spec.type_);
                let failed = Failed::new("InvalidMetricSourceType", String::new(), why);
                Err(Failed { failure: Failure::Spec, ..failed })
            }
        }
    }

    async fn by_resource(
        &self,
        target: &Target<'_>,
        asked: &MetricTarget,
        resource: &str,
        container: &str,
    ) -> Result<(i32, String, MetricValueStatus), String> {
        let namespace = target.autoscaler.namespace();
        let what = if asked.average_value.is_some() { "usage" } else { "utilization" };
        let readings =
            source::resource(&self.context.client, namespace, &target.selector, resource, container).await.map_err(
                |why| format!("failed to get {resource} {what}: unable to get metrics for resource {resource}: {why}"),
            )?;
        let basis = self.basis(target);
        let told = |why: String| format!("failed to get {resource} {what}: {why}");
        if let Some(average) = &asked.average_value {
            let (replicas, usage) = calculate::by_average(&basis, readings, milli(average), resource).map_err(told)?;
            let status = value_status(None, Some(amount(resource, usage)));
            return Ok((replicas, format!("{resource} resource"), status));
        }
        let Some(percent) = asked.average_utilization else {
            return Err("invalid resource metric source: neither an average utilization target nor an average value (usage) target was set".to_owned());
        };
        let (replicas, now, raw) =
            calculate::by_utilization(&basis, readings, percent, resource, container).map_err(told)?;
        let kind = if container.is_empty() { "resource" } else { "container resource" };
        let mut status = value_status(None, Some(amount(resource, raw)));
        status.average_utilization = Some(now);
        Ok((replicas, format!("{resource} {kind} utilization (percentage of request)"), status))
    }

    async fn by_pods(&self, target: &Target<'_>, spec: &MetricSpec) -> Result<Proposal, String> {
        let Some(m) = &spec.pods else { return Err(String::new()) };
        let name = &m.metric.name;
        let readings = source::pods(&self.context.client, target.autoscaler.namespace(), &target.selector, &m.metric)
            .await
            .map_err(|why| format!("unable to get metric {name}: {why}"))?;
        let asked = m.target.average_value.as_ref().map(milli).unwrap_or_default();
        let (replicas, usage) = calculate::by_average(&self.basis(target), readings, asked, "")?;
        let own = PodsMetricStatus { metric: m.metric.clone(), current: value_status(None, Some(wire(usage))) };
        let status = status(spec, |s| s.pods = Some(own));
        Ok(Proposal { replicas, name: format!("pods metric {name}"), status })
    }

    async fn by_object(&self, target: &Target<'_>, spec: &MetricSpec) -> Result<Proposal, String> {
        let Some(m) = &spec.object else { return Err(String::new()) };
        let (name, of, namespace) = (&m.metric.name, &m.described_object, target.autoscaler.namespace());
        let usage = source::object(&self.context.client, namespace, of, &m.metric)
            .await
            .map_err(|why| format!("unable to get metric {name}: {why} on {} {namespace}/{}", of.kind, of.name))?;
        let (replicas, current, told) = match (&m.target.value, &m.target.average_value) {
            (Some(value), _) if m.target.type_ == "Value" => {
                let replicas = calculate::by_value(&self.basis(target), usage, milli(value))?;
                (replicas, value_status(Some(wire(usage)), None), format!("{} metric {name}", of.kind))
            }
            (_, Some(average)) if m.target.type_ == "AverageValue" => {
                let tolerance = self.tolerance(target.autoscaler);
                let (replicas, share) = calculate::by_share(target.status_replicas, usage, milli(average), tolerance);
                (
                    replicas,
                    value_status(None, Some(wire(share))),
                    format!("external metric {name}({})", selector_words(&m.metric)),
                )
            }
            _ => {
                return Err("invalid object metric source: neither a value target nor an average value target was set"
                    .to_owned());
            }
        };
        let own = ObjectMetricStatus { metric: m.metric.clone(), described_object: of.clone(), current };
        Ok(Proposal { replicas, name: told, status: status(spec, |s| s.object = Some(own)) })
    }

    async fn by_external(&self, target: &Target<'_>, spec: &MetricSpec) -> Result<Proposal, String> {
        let Some(m) = &spec.external else { return Err(String::new()) };
        let (name, namespace) = (&m.metric.name, target.autoscaler.namespace());
        let values = source::external(&self.context.client, namespace, &m.metric).await.map_err(|why| {
            let selector = selector_words(&m.metric);
            format!("unable to get external metric {namespace}/{name}/{selector}: {why}")
        })?;
        let usage = values.into_iter().fold(0i64, i64::saturating_add);
        let (replicas, current) = match (&m.target.average_value, &m.target.value) {
            (Some(average), _) => {
                let tolerance = self.tolerance(target.autoscaler);
                let (replicas, share) = calculate::by_share(target.status_replicas, usage, milli(average), tolerance);
                (replicas, value_status(None, Some(wire(share))))
            }
            (None, Some(value)) => {
                let replicas = calculate::by_value(&self.basis(target), usage, milli(value))?;
                (replicas, value_status(Some(wire(usage)), None))
            }
            _ => {
                return Err(
                    "invalid external metric source: neither a value target nor an average value target was set"
                        .to_owned(),
                );
            }
        };
        let own = ExternalMetricStatus { metric: m.metric.clone(), current };
        let status = status(spec, |s| s.external = Some(own));
        let name = format!("external metric {name}({})", selector_words(&m.metric));
        Ok(Proposal { replicas, name, status })
    }
}

/// A metric's selector as Go prints it, which is how upstream's conditions and events name it.
fn selector_words(metric: &MetricIdentifier) -> String {
    let Some(selector) = &metric.selector else { return "nil".to_owned() };
    let labels: String =
        selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}: {value},")).collect();
    let requirement = |r: &api::metav1::LabelSelectorRequirement| {
        let values = r.values.as_deref().unwrap_or_default().join(" ");
        format!("LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},", r.key, r.operator)
    };
    let expressions: String = selector.match_expressions.iter().flatten().map(requirement).collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )
}

fn set_active(autoscaler: &mut HorizontalPodAutoscaler, metric: &str) {
    let message = format!("the HPA was able to successfully calculate a replica count from {metric}");
    set_condition(autoscaler, "ScalingActive", true, "ValidMetricFound", message);
}

fn status(spec: &MetricSpec, fill: impl FnOnce(&mut MetricStatus)) -> MetricStatus {
    let mut status = MetricStatus { type_: spec.type_.clone(), ..MetricStatus::default() };
    fill(&mut status);
    status
}
