//! One look at an autoscaler.

use api::Kind;
use api::k8s::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus, MetricStatus};
use api::metav1::Time;
use client::{Error, Resource};
use informer::EventType;
use meta::{GroupVersionResource, Object};
use rt::time::Instant;
use serde_json::json;

use super::monitor::Failure;
use super::normalize::Range;
use super::{Controller, set_condition};
use crate::discovery::resource_of;

const CONFLICTS: usize = 5;

/// The target's scale and where it is.
pub(super) struct Scale {
    gvr: GroupVersionResource,
    pub(super) object: Object,
}

impl Scale {
    pub(super) fn spec(&self) -> i32 {
        replicas(&self.object, "spec")
    }
}

pub(super) fn replicas(scale: &Object, part: &str) -> i32 {
    scale.get_i64(&[part, "replicas"]).and_then(|n| i32::try_from(n).ok()).unwrap_or(0)
}

fn words(error: &Error) -> String {
    error.status().map_or_else(|| error.chain(), |status| status.message.clone())
}

impl Controller {
    pub(super) async fn sync(&self, found: &HorizontalPodAutoscaler) -> Result<(), String> {
        let mut autoscaler = found.clone();
        let began = Instant::now();
        let mut change = None;
        let outcome = self.round(&mut autoscaler, &mut change).await;
        let failure = match &outcome {
            Ok(()) => Failure::None,
            Err(_) if self.is_misspelled(&autoscaler) => Failure::Spec,
            Err(_) => Failure::Internal,
        };
        self.monitor.reconciled(change, failure, began);
        let before = found.status.clone().unwrap_or_default();
        if autoscaler.status.as_ref() != Some(&before)
            && let Err(error) = self.context.client.update_status(&autoscaler).await
            && !error.is_not_found()
            && !error.is_conflict()
        {
            self.warn(found, "FailedUpdateStatus", &words(&error));
            return Err(words(&error));
        }
        outcome
    }

    pub(super) fn warn(&self, autoscaler: &HorizontalPodAutoscaler, reason: &str, message: &str) {
        self.context.recorder.event(autoscaler, EventType::Warning, reason, message);
    }

    /// Whether the reference to the target cannot be read.
    fn is_misspelled(&self, autoscaler: &HorizontalPodAutoscaler) -> bool {
        let version = autoscaler.spec.scale_target_ref.api_version.as_deref().unwrap_or("v1");
        version.parse::<meta::GroupVersion>().is_err()
    }

    /// One look; tells the change it made to the scale.
    async fn round(
        &self,
        autoscaler: &mut HorizontalPodAutoscaler,
        change: &mut Option<(i32, i32)>,
    ) -> Result<(), String> {
        let key = autoscaler.key();
        let mut scale = match self.scale_of(autoscaler).await {
            Ok(scale) => scale,
            Err(why) => {
                self.warn(autoscaler, "FailedGetScale", &why);
                let message = format!("the HPA controller was unable to get the target's current scale: {why}");
                set_condition(autoscaler, "AbleToScale", false, "FailedGetScale", message);
                return Err(why);
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        set_condition(autoscaler, "AbleToScale", true, "SucceededGetScale", message);
        let current = scale.spec();
        self.memory.lock().entry(key.clone()).or_default().begin(Instant::now(), current);
        let (min, max) = (autoscaler.spec.min_replicas.unwrap_or(1), autoscaler.spec.max_replicas);
        let mut statuses = Vec::new();
        let mut partial = Ok(());
        let (desired, reason) = if current == 0 && !self.may_wake(autoscaler, min) {
            let message = "scaling is disabled since the replica count of the target is zero";
            set_condition(autoscaler, "ScalingActive", false, "ScalingDisabled", message);
            (0, String::new())
        } else if current > max {
            (max, "Current number of replicas above Spec.MaxReplicas".to_owned())
        } else if current < min && current != 0 {
            (min, "Current number of replicas below Spec.MinReplicas".to_owned())
        } else {
            match self.by_metrics(autoscaler, &scale).await {
                Err((why, told)) => {
                    set_status(autoscaler, current, None, told, false);
                    self.warn(autoscaler, "FailedComputeMetricsReplicas", &why);
                    return Err(why);
                }
                Ok(found) => {
                    statuses = found.statuses;
                    partial = found.partial;
                    let wanted = self.normalize(autoscaler, &key, Range { min, max, current }, found.replicas);
                    let mut reason = match found.replicas.cmp(&current) {
                        std::cmp::Ordering::Greater => format!("{} above target", found.name),
                        std::cmp::Ordering::Less => "All metrics below target".to_owned(),
                        std::cmp::Ordering::Equal => String::new(),
                    };
                    if current == 0 && min != 0 && wanted < min {
                        if reason.is_empty() {
                            "Current number of replicas below Spec.MinReplicas".clone_into(&mut reason);
                        }
                        (min, reason)
                    } else {
                        (wanted, reason)
                    }
                }
            }
        };
        let rescale = desired != current;
        if rescale {
            self.rescale(autoscaler, &mut scale, (current, desired), &reason).await.inspect_err(|_| {
                set_status(autoscaler, current, None, statuses.clone(), false);
            })?;
            self.remember_zero(autoscaler, current, desired, min);
            *change = Some((current, desired));
        }
        self.monitor.desired(autoscaler.namespace(), autoscaler.name(), desired);
        set_status(autoscaler, current, Some(desired), statuses, rescale);
        partial
    }

    /// Whether a target without replicas is looked at: only one that we ourselves brought to zero.
    fn may_wake(&self, autoscaler: &HorizontalPodAutoscaler, min: i32) -> bool {
        let conditions = autoscaler.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let zeroed = self.context.options.autoscaler.scale_to_zero
            && conditions.into_iter().any(|c| c.type_ == "ScaledToZero" && c.status == "True");
        zeroed && (min != 0 || has_outer_metrics(autoscaler))
    }

    /// Keeps condition `ScaledToZero` true to what was done.
    fn remember_zero(&self, autoscaler: &mut HorizontalPodAutoscaler, from: i32, to: i32, min: i32) {
        if !self.context.options.autoscaler.scale_to_zero {
            if let Some(list) = autoscaler.status.as_mut().and_then(|s| s.conditions.as_mut()) {
                list.retain(|c| c.type_ != "ScaledToZero");
            }
        } else if from > 0 && to == 0 && min == 0 && has_outer_metrics(autoscaler) {
            let message = "the HPA controller scaled the workload to zero";
            set_condition(autoscaler, "ScaledToZero", true, "ScaledToZero", message);
        } else {
            let message = "the HPA controller did not scale the workload to zero";
            set_condition(autoscaler, "ScaledToZero", false, "NotScaledToZero", message);
        }
    }

    fn normalize(&self, autoscaler: &mut HorizontalPodAutoscaler, key: &str, range: Range, desired: i32) -> i32 {
        let window = self.context.options.autoscaler.downscale_stabilization;
        let now = Instant::now();
        let behavior = autoscaler.spec.behavior.clone();
        let found = {
            let mut memory = self.memory.lock();
            let memory = memory.entry(key.to_owned()).or_default();
            match &behavior {
                None => memory.plain(range, desired, window, now),
                Some(behavior) => memory.with_behavior(behavior, range, desired, window, now),
            }
        };
        set_condition(autoscaler, "AbleToScale", true, found.able.0, found.able.1);
        set_condition(autoscaler, "ScalingLimited", found.limited, found.why.0, found.why.1);
        found.replicas
    }

    async fn scale_of(&self, autoscaler: &HorizontalPodAutoscaler) -> Result<Scale, String> {
        let target = &autoscaler.spec.scale_target_ref;
        let version = target.api_version.as_deref().unwrap_or("v1");
        let gv: meta::GroupVersion =
            version.parse().map_err(|_| format!("unexpected GroupVersion string: {version}"))?;
        let client = &self.context.client;
        let found = resource_of(client, &gv, &target.kind).await.map_err(|e| words(&e))?;
        let Some(gvr) = found else {
            return Err(format!("no matches for kind {:?} in group {:?}", target.kind, gv.group));
        };
        let of = Resource { gvr: &gvr, namespace: Some(autoscaler.namespace()) };
        let object = client.get_object_part(&of, &target.name, "scale").await.map_err(|e| words(&e))?;
        Ok(Scale { gvr, object })
    }

    async fn rescale(
        &self,
        autoscaler: &mut HorizontalPodAutoscaler,
        scale: &mut Scale,
        (from, to): (i32, i32),
        reason: &str,
    ) -> Result<(), String> {
        let namespace = autoscaler.namespace().to_owned();
        let of = Resource { gvr: &scale.gvr, namespace: Some(&namespace) };
        let client = &self.context.client;
        let mut tries = 0;
        let outcome = loop {
            scale.object.set(&["spec", "replicas"], json!(to));
            match client.update_object(&of, "scale", &scale.object).await {
                Err(error) if error.is_conflict() && tries < CONFLICTS => {
                    tries += 1;
                    let name = scale.object.name().to_owned();
                    match client.get_object_part(&of, &name, "scale").await {
                        Ok(fresh) => scale.object = fresh,
                        Err(error) => break Err(error),
                    }
                }
                other => break other.map(drop),
            }
        };
        if let Err(error) = outcome {
            let why = words(&error);
            self.warn(autoscaler, "FailedRescale", &format!("New size: {to}; reason: {reason}; error: {why}"));
            let message = format!("the HPA controller was unable to update the target scale: {why}");
            set_condition(autoscaler, "AbleToScale", false, "FailedUpdateScale", message);
            return Err(why);
        }
        let message = format!("the HPA controller was able to update the target scale to {to}");
        set_condition(autoscaler, "AbleToScale", true, "SucceededRescale", message);
        let message = format!("New size: {to}; reason: {reason}");
        self.context.recorder.event(&*autoscaler, EventType::Normal, "SuccessfulRescale", message);
        let behavior = autoscaler.spec.behavior.as_ref();
        if let Some(memory) = self.memory.lock().get_mut(&autoscaler.key()) {
            memory.scaled(behavior, Instant::now(), from, to);
        }
        Ok(())
    }
}

fn has_outer_metrics(autoscaler: &HorizontalPodAutoscaler) -> bool {
    autoscaler.spec.metrics.iter().flatten().any(|m| matches!(m.type_.as_str(), "Object" | "External"))
}

fn set_status(
    autoscaler: &mut HorizontalPodAutoscaler,
    current: i32,
    desired: Option<i32>,
    metrics: Vec<MetricStatus>,
    scaled: bool,
) {
    let old = autoscaler.status.take().unwrap_or_default();
    autoscaler.status = Some(HorizontalPodAutoscalerStatus {
        current_replicas: Some(current),
        desired_replicas: desired.unwrap_or(old.desired_replicas),
        current_metrics: Some(metrics).filter(|m| !m.is_empty()),
        last_scale_time: if scaled { Some(Time(rt::time::now())) } else { old.last_scale_time },
        conditions: old.conditions,
        observed_generation: old.observed_generation,
    });
}
