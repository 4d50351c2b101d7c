//! The arguments of plugins, with upstream's defaults.

use api::k8s::core::v1::{NodeAffinity, TopologySpreadConstraint};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads arguments; absent ones are all default. What Go ignores, the kind and version, is taken off.
fn read<T: DeserializeOwned>(args: &Value) -> Result<T, String> {
    let mut args = match args {
        Value::Null => Value::Object(serde_json::Map::new()),
        other => other.clone(),
    };
    if let Some(map) = args.as_object_mut() {
        map.remove("apiVersion");
        map.remove("kind");
    }
    serde_json::from_value(args).map_err(|e| e.to_string())
}

/// A resource and its weight in a score.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ResourceSpec {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) weight: i64,
}

fn default_resources() -> Vec<ResourceSpec> {
    ["cpu", "memory"].map(|name| ResourceSpec { name: name.to_owned(), weight: 1 }).to_vec()
}

fn with_defaults(mut resources: Vec<ResourceSpec>) -> Vec<ResourceSpec> {
    if resources.is_empty() {
        return default_resources();
    }
    resources.iter_mut().filter(|r| r.weight == 0).for_each(|r| r.weight = 1);
    resources
}

/// A point of a user's function of use and score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Point {
    pub(crate) utilization: i32,
    pub(crate) score: i32,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ratio {
    #[serde(default)]
    pub(crate) shape: Vec<Point>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum StrategyType {
    #[default]
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct ScoringStrategy {
    #[serde(rename = "type")]
    pub(crate) kind: StrategyType,
    pub(crate) resources: Vec<ResourceSpec>,
    pub(crate) requested_to_capacity_ratio: Option<Ratio>,
}

/// NodeResourcesFit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct FitArgs {
    pub(crate) ignored_resources: Vec<String>,
    pub(crate) ignored_resource_groups: Vec<String>,
    pub(crate) scoring_strategy: ScoringStrategy,
}

fn check_resources(path: &str, resources: &[ResourceSpec]) -> Result<(), String> {
    for (at, resource) in resources.iter().enumerate() {
        if !(1..=100).contains(&resource.weight) {
            let (name, weight) = (&resource.name, resource.weight);
            return Err(format!(
                "{path}[{at}].weight: Invalid value: {weight}: resource weight of {name} not in valid range (0, 100]"
            ));
        }
    }
    Ok(())
}

fn check_shape(path: &str, shape: &[Point]) -> Result<(), String> {
    if shape.is_empty() {
        return Err(format!("{path}: Required value: at least one point must be specified"));
    }
    for (at, point) in shape.iter().enumerate() {
        if at > 0 && shape[at - 1].utilization >= point.utilization {
            let value = point.utilization;
            return Err(format!(
                "{path}[{at}].utilization: Invalid value: {value}: values must be sorted in increasing order"
            ));
        }
        for (field, value, most) in [("utilization", point.utilization, 100), ("score", point.score, 10)] {
            if !(0..=most).contains(&value) {
                return Err(format!("{path}[{at}].{field}: Invalid value: {value}: not in valid range [0, {most}]"));
            }
        }
    }
    Ok(())
}

impl FitArgs {
    pub(crate) fn parse(args: &Value) -> Result<Self, String> {
        let mut parsed: Self = read(args)?;
        for (at, group) in parsed.ignored_resource_groups.iter().enumerate() {
            if group.contains('/') {
                return Err(format!(
                    "ignoredResourceGroups[{at}]: Invalid value: \"{group}\": resource group name can't contain '/'"
                ));
            }
        }
        let strategy = &mut parsed.scoring_strategy;
        strategy.resources = with_defaults(std::mem::take(&mut strategy.resources));
        check_resources("scoringStrategy.resources", &strategy.resources)?;
        let path = "scoringStrategy.requestedToCapacityRatio";
        match (strategy.kind, &strategy.requested_to_capacity_ratio) {
            (StrategyType::RequestedToCapacityRatio, None) => {
                Err(format!("{path}: Required value: must be specified when type is RequestedToCapacityRatio"))
            }
            (StrategyType::RequestedToCapacityRatio, Some(ratio)) => {
                check_shape(&format!("{path}.shape"), &ratio.shape)
            }
            (_, Some(_)) => Err(format!("{path}: Forbidden: must be nil when type is not RequestedToCapacityRatio")),
            (_, None) => Ok(()),
        }?;
        Ok(parsed)
    }
}

/// NodeResourcesBalancedAllocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BalancedArgs {
    pub(crate) resources: Vec<ResourceSpec>,
}

impl BalancedArgs {
    pub(crate) fn parse(args: &Value) -> Result<Self, String> {
        let mut parsed: Self = read(args)?;
        parsed.resources = with_defaults(parsed.resources);
        for (at, resource) in parsed.resources.iter().enumerate() {
            if parsed.resources[..at].iter().any(|r| r.name == resource.name) {
                return Err(format!("resources[{at}].name: Duplicate value: \"{}\"", resource.name));
            }
            if resource.weight != 1 {
                return Err(format!("resources[{at}].weight: Invalid value: {}: must be 1", resource.weight));
            }
        }
        Ok(parsed)
    }
}

/// InterPodAffinity.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct InterPodAffinityArgs {
    pub(crate) hard_pod_affinity_weight: i32,
    pub(crate) ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for InterPodAffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

impl InterPodAffinityArgs {
    pub(crate) fn parse(args: &Value) -> Result<Self, String> {
        let parsed: Self = read(args)?;
        let weight = parsed.hard_pod_affinity_weight;
        if !(0..=100).contains(&weight) {
            return Err(format!("hardPodAffinityWeight: Invalid value: {weight}: not in valid range [0, 100]"));
        }
        Ok(parsed)
    }
}

/// NodeAffinity.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct NodeAffinityArgs {
    added_affinity: Option<NodeAffinity>,
}

impl NodeAffinityArgs {
    pub(crate) fn parse(args: &Value) -> Result<Option<NodeAffinity>, String> {
        let parsed: Self = read(args)?;
        let required =
            parsed.added_affinity.as_ref().and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        if required.is_some_and(|r| r.node_selector_terms.is_empty()) {
            let field = "addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
            return Err(format!("{field}: Required value: must have at least one node selector term"));
        }
        Ok(parsed.added_affinity)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
#[derive(Default)]
struct SpreadFile {
    default_constraints: Vec<TopologySpreadConstraint>,
    defaulting_type: String,
}

/// PodTopologySpread.
#[derive(Debug, Clone)]
pub(crate) struct SpreadArgs {
    pub(crate) default_constraints: Vec<TopologySpreadConstraint>,
    /// The constraints are the system's own: nodes need not be in every topology.
    pub(crate) system_defaulted: bool,
}

fn system_constraints() -> Vec<TopologySpreadConstraint> {
    let soft = |key: &str, max_skew| TopologySpreadConstraint {
        topology_key: key.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        max_skew,
        ..TopologySpreadConstraint::default()
    };
    vec![soft("kubernetes.io/hostname", 3), soft("topology.kubernetes.io/zone", 5)]
}

impl SpreadArgs {
    pub(crate) fn parse(args: &Value) -> Result<Self, String> {
        let parsed: SpreadFile = read(args)?;
        match parsed.defaulting_type.as_str() {
            "" | "System" if parsed.default_constraints.is_empty() => {
                return Ok(Self { default_constraints: system_constraints(), system_defaulted: true });
            }
            "" | "System" => {
                let text = "defaultingType: Invalid value: \"System\": when .defaultConstraints are not empty";
                return Err(text.to_owned());
            }
            "List" => {}
            other => {
                return Err(format!(
                    "defaultingType: Unsupported value: \"{other}\": supported values: \"List\", \"System\""
                ));
            }
        }
        for (at, constraint) in parsed.default_constraints.iter().enumerate() {
            let path = format!("defaultConstraints[{at}]");
            if constraint.max_skew <= 0 {
                let skew = constraint.max_skew;
                return Err(format!("{path}.maxSkew: Invalid value: {skew}: not in valid range (0, inf)"));
            }
            if constraint.topology_key.is_empty() {
                return Err(format!("{path}.topologyKey: Required value: can not be empty"));
            }
            if !["DoNotSchedule", "ScheduleAnyway"].contains(&constraint.when_unsatisfiable.as_str()) {
                return Err(format!(
                    "{path}.whenUnsatisfiable: Unsupported value: \"{}\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
                    constraint.when_unsatisfiable
                ));
            }
            if constraint.label_selector.is_some() {
                return Err(format!(
                    "{path}.labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod"
                ));
            }
        }
        Ok(Self { default_constraints: parsed.default_constraints, system_defaulted: false })
    }
}

/// VolumeBinding.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct VolumeBindingArgs {
    pub(crate) bind_timeout_seconds: u64,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self { bind_timeout_seconds: 600 }
    }
}

impl VolumeBindingArgs {
    pub(crate) fn parse(args: &Value) -> Result<Self, String> {
        if args.get("bindTimeoutSeconds").and_then(Value::as_i64).is_some_and(|s| s < 0) {
            let text = "bindTimeoutSeconds: Invalid value: invalid BindTimeoutSeconds, should not be a negative value";
            return Err(text.to_owned());
        }
        read(args)
    }
}

/// DefaultPreemption.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct PreemptionArgs {
    pub(crate) min_candidate_nodes_percentage: i32,
    pub(crate) min_candidate_nodes_absolute: i32,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

impl PreemptionArgs {
    pub(crate) fn parse(args: &Value) -> Result<Self, String> {
        let parsed: Self = read(args)?;
        let (percentage, absolute) = (parsed.min_candidate_nodes_percentage, parsed.min_candidate_nodes_absolute);
        if !(0..=100).contains(&percentage) {
            return Err(format!(
                "minCandidateNodesPercentage: Invalid value: {percentage}: not in valid range [0, 100]"
            ));
        }
        if absolute < 0 {
            return Err(format!("minCandidateNodesAbsolute: Invalid value: {absolute}: not in valid range [0, inf)"));
        }
        if percentage == 0 && absolute == 0 {
            let text = "minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute";
            return Err(text.to_owned());
        }
        Ok(parsed)
    }
}

/// DynamicResources.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct DynamicResourcesArgs {
    filter_timeout: Option<String>,
    binding_timeout: Option<String>,
}

impl DynamicResourcesArgs {
    pub(crate) fn parse(args: &Value) -> Result<Self, String> {
        let parsed: Self = read(args)?;
        for (field, text, least) in [
            ("filterTimeout", &parsed.filter_timeout, Duration::ZERO),
            ("bindingTimeout", &parsed.binding_timeout, Duration::from_secs(1)),
        ] {
            let Some(text) = text else { continue };
            let Some(duration) = super::file::go_duration(text) else {
                return Err(format!("{field}: Invalid value: \"{text}\": invalid duration"));
            };
            if duration < least {
                return Err(format!("{field}: Invalid value: \"{text}\": must be at least {} second", least.as_secs()));
            }
        }
        Ok(parsed)
    }

    /// How long the search for devices on one node may take; none is any time.
    pub(crate) fn filter_timeout(&self) -> Option<Duration> {
        let given = self.filter_timeout.as_deref().and_then(super::file::go_duration);
        Some(given.unwrap_or(Duration::from_secs(10))).filter(|d| !d.is_zero())
    }

    /// How long devices may take to become ready.
    pub(crate) fn binding_timeout(&self) -> Duration {
        self.binding_timeout.as_deref().and_then(super::file::go_duration).unwrap_or(Duration::from_secs(600))
    }
}
