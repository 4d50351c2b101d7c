//! Bounds of a configuration.

use rt::HashSet;
use serde_json::Value;

use super::args::{
    BalancedArgs, DynamicResourcesArgs, FitArgs, InterPodAffinityArgs, NodeAffinityArgs, PreemptionArgs, SpreadArgs,
    VolumeBindingArgs,
};
use super::{Configuration, ExtenderConfig, InvalidConfiguration};
use crate::resources::is_extended;

fn error(text: String) -> InvalidConfiguration {
    InvalidConfiguration(text)
}

/// Checks the arguments of a plugin.
pub(super) fn check_args(path: &str, name: &str, args: &Value) -> Result<(), InvalidConfiguration> {
    let kind = args.get("kind").and_then(Value::as_str);
    if let Some(kind) = kind.filter(|kind| *kind != format!("{name}Args")) {
        return Err(error(format!("{path}.args: args for plugin {name} were not of type {name}Args, got {kind}")));
    }
    let checked = match name {
        "DefaultPreemption" => PreemptionArgs::parse(args).map(drop),
        "DynamicResources" => DynamicResourcesArgs::parse(args).map(drop),
        "InterPodAffinity" => InterPodAffinityArgs::parse(args).map(drop),
        "NodeAffinity" => NodeAffinityArgs::parse(args).map(drop),
        "NodeResourcesBalancedAllocation" => BalancedArgs::parse(args).map(drop),
        "NodeResourcesFit" => FitArgs::parse(args).map(drop),
        "PodTopologySpread" => SpreadArgs::parse(args).map(drop),
        "VolumeBinding" => VolumeBindingArgs::parse(args).map(drop),
        _ => Ok(()),
    };
    checked.map_err(|text| error(format!("{path}.args.{text}")))
}

fn check_percentage(path: &str, percentage: Option<i32>) -> Result<(), InvalidConfiguration> {
    match percentage.filter(|p| !(0..=100).contains(p)) {
        Some(p) => {
            Err(error(format!("{path}percentageOfNodesToScore: Invalid value: {p}: not in valid range [0-100]")))
        }
        None => Ok(()),
    }
}

fn check_extenders(extenders: &[ExtenderConfig]) -> Result<(), InvalidConfiguration> {
    let mut managed = HashSet::default();
    for (at, extender) in extenders.iter().enumerate() {
        let path = format!("extenders[{at}]");
        if extender.url_prefix.is_empty() {
            return Err(error(format!("{path}.urlPrefix: Required value")));
        }
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let weight = extender.weight;
            return Err(error(format!(
                "{path}.weight: Invalid value: {weight}: must have a positive weight applied to it"
            )));
        }
        for (place, resource) in extender.managed_resources.iter().enumerate() {
            let (path, name) = (format!("{path}.managedResources[{place}].name"), &resource.name);
            if !is_extended(name) {
                return Err(error(format!("{path}: Invalid value: \"{name}\": is an invalid extended resource name")));
            }
            if !managed.insert(name.clone()) {
                let text = format!("{path}: Invalid value: \"{name}\": duplicate extender managed resource name");
                return Err(error(text));
            }
        }
    }
    let binders = extenders.iter().filter(|e| !e.bind_verb.is_empty()).count();
    if binders > 1 {
        let text = format!("found {binders} extenders implementing bind");
        return Err(error(format!("extenders: Invalid value: \"{text}\": only one extender can implement bind")));
    }
    Ok(())
}

pub(super) fn check(configuration: &Configuration) -> Result<(), InvalidConfiguration> {
    check_percentage("", configuration.percentage)?;
    let (initial, max) = (configuration.initial_backoff, configuration.max_backoff);
    if initial.is_zero() {
        return Err(error("podInitialBackoffSeconds: Invalid value: 0: must be greater than 0".to_owned()));
    }
    if max < initial {
        let text = "must be greater than or equal to PodInitialBackoffSeconds";
        return Err(error(format!("podMaxBackoffSeconds: Invalid value: {}: {text}", max.as_secs())));
    }
    let profiles = &configuration.profiles;
    for (at, profile) in profiles.iter().enumerate() {
        let path = &profile.path;
        if profile.scheduler_name.is_empty() {
            return Err(error(format!("{path}.schedulerName: Required value")));
        }
        if profiles[..at].iter().any(|p| p.scheduler_name == profile.scheduler_name) {
            return Err(error(format!("{path}.schedulerName: Duplicate value: \"{}\"", profile.scheduler_name)));
        }
        if profile.set("queueSort") != profiles[0].set("queueSort") {
            let text = "must be the same for all profiles";
            return Err(error(format!("{path}.plugins.queueSort: Invalid value: {text}")));
        }
        check_percentage(&format!("{path}."), profile.percentage)?;
    }
    check_extenders(&configuration.extenders)
}
