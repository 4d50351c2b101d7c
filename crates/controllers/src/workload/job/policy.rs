//! Pod failure policies and success policies.

use api::Kind;
use api::k8s::batch::v1::{JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule};
use api::k8s::core::v1::{ContainerStatus, Pod};

use super::indexes::Indexes;

/// What a pod failure policy says about a failed pod.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It counts as a failure.
    Count,
    /// It does not count.
    Ignore,
    /// Its index has failed for good.
    FailIndex,
    /// The job has failed, with this message.
    FailJob(String),
}

fn by_exit_code<'a>(pod: &'a Pod, rule: &PodFailurePolicyOnExitCodesRequirement) -> Option<(&'a str, i32)> {
    let status = pod.status.as_ref()?;
    let hit = |container: &'a ContainerStatus| {
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        let named = rule.container_name.as_ref().is_none_or(|name| *name == container.name);
        let listed = rule.values.contains(&code);
        let matches = match rule.operator.as_str() {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        };
        (code != 0 && named && matches).then_some((container.name.as_str(), code))
    };
    let containers = status.container_statuses.iter().flatten();
    containers.chain(status.init_container_statuses.iter().flatten()).find_map(hit)
}

fn by_condition<'a>(pod: &'a Pod, rule: &PodFailurePolicyRule) -> Option<&'a str> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let patterns = rule.on_pod_conditions.as_deref()?;
    let hit = conditions
        .iter()
        .find(|c| patterns.iter().any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status));
    hit.map(|c| c.type_.as_str())
}

/// The first rule that matches decides.
pub(super) fn judge(spec: &JobSpec, pod: &Pod) -> Verdict {
    let rules = spec.pod_failure_policy.as_ref().map(|p| p.rules.as_slice()).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let message = match &rule.on_exit_codes {
            Some(codes) => by_exit_code(pod, codes).map(|(name, code)| {
                format!(
                    "Container {name} for pod {} failed with exit code {code} matching {} rule at index {at}",
                    pod.key(),
                    rule.action
                )
            }),
            None => by_condition(pod, rule).map(|condition| {
                format!("Pod {} has condition {condition} matching {} rule at index {at}", pod.key(), rule.action)
            }),
        };
        let Some(message) = message else { continue };
        match rule.action.as_str() {
            "Ignore" => return Verdict::Ignore,
            "FailIndex" => return Verdict::FailIndex,
            "FailJob" => return Verdict::FailJob(message),
            "Count" => return Verdict::Count,
            _ => {}
        }
    }
    Verdict::Count
}

/// The message of the first success rule that the indexes meet.
pub(super) fn success(spec: &JobSpec, succeeded: &Indexes) -> Option<String> {
    if succeeded.total() == 0 {
        return None;
    }
    let rules = spec.success_policy.as_ref()?.rules.iter().enumerate();
    for (at, rule) in rules {
        let met = match &rule.succeeded_indexes {
            Some(text) => {
                let wanted = Indexes::parse(text, spec.completions.unwrap_or(0));
                let common = wanted.common(succeeded);
                wanted.total() > 0
                    && (common == wanted.total() || rule.succeeded_count.is_some_and(|count| common >= count))
            }
            None => rule.succeeded_count.is_some_and(|count| succeeded.total() >= count),
        };
        if met {
            return Some(format!("Matched rules at index {at}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(value: serde_json::Value) -> JobSpec {
        let job = json!({"apiVersion": "batch/v1", "kind": "Job", "spec": value});
        api::from_value::<api::prelude::Job>(job).unwrap().spec.unwrap()
    }

    #[test]
    fn success_rules() {
        let rules = spec(json!({
            "completions": 10,
            "successPolicy": {"rules": [{"succeededIndexes": "0,2-3", "succeededCount": 2}, {"succeededCount": 4}]},
            "template": {},
        }));
        for (have, want) in [("0", None), ("0,3", Some("0")), ("5-8", Some("1")), ("1,4,5", None)] {
            let got = success(&rules, &Indexes::parse(have, 10));
            assert_eq!(got, want.map(|at: &str| format!("Matched rules at index {at}")), "{have}");
        }
    }

    #[test]
    fn failure_rules() {
        let rules = spec(json!({
            "podFailurePolicy": {"rules": [
                {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
            ]},
            "template": {},
        }));
        let pod = |code: i32, disrupted: &str| {
            api::from_value::<Pod>(json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "n", "name": "p"},
                "status": {
                    "conditions": [{"type": "DisruptionTarget", "status": disrupted}],
                    "containerStatuses": [{
                        "name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                        "state": {"terminated": {"exitCode": code}},
                    }],
                },
            }))
            .unwrap()
        };
        let message = "Container c for pod n/p failed with exit code 42 matching FailJob rule at index 1";
        assert_eq!(judge(&rules, &pod(42, "True")), Verdict::Ignore);
        assert_eq!(judge(&rules, &pod(42, "False")), Verdict::FailJob(message.into()));
        assert_eq!(judge(&rules, &pod(1, "False")), Verdict::Count);
    }
}
