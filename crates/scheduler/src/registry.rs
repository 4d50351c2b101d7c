//! The table of plugins, and how a profile is made of it.

use std::sync::Arc;
use std::time::Duration;

use rt::HashMap;
use serde_json::Value;

use crate::config::args::{
    BalancedArgs, DynamicResourcesArgs, FitArgs, InterPodAffinityArgs, NodeAffinityArgs, PreemptionArgs, SpreadArgs,
    VolumeBindingArgs,
};
use crate::config::{InvalidConfiguration, PluginSet, ProfileConfig};
use crate::framework::{Plugin, Points, Weighted};
use crate::handle::Handle;
use crate::plugins::{
    default_binder::DefaultBinder, default_preemption::DefaultPreemption, dynamic_resources::DynamicResources,
    gang_scheduling::GangScheduling, image_locality::ImageLocality, inter_pod_affinity::InterPodAffinity,
    node_affinity::NodeAffinity, node_declared_features::NodeDeclaredFeatures, node_name::NodeName,
    node_ports::NodePorts, node_resources::BalancedAllocation, node_resources::Fit,
    node_unschedulable::NodeUnschedulable, node_volume_limits::NodeVolumeLimits,
    pod_topology_spread::PodTopologySpread, priority_sort::PrioritySort, scheduling_gates::SchedulingGates,
    taint_toleration::TaintToleration, volume_binding::VolumeBinding, volume_restrictions::VolumeRestrictions,
    volume_zone::VolumeZone,
};

type Made = Result<Arc<dyn Plugin>, String>;

/// A plugin: its name, the weight of its score by default, and how it is made of its arguments.
pub struct Row {
    /// Upstream's name.
    pub name: &'static str,
    weight: i64,
    /// The feature gate that it is in default profiles with.
    gate: Option<&'static str>,
    make: fn(&Value, &Handle) -> Made,
}

fn row(name: &'static str, weight: i64, make: fn(&Value, &Handle) -> Made) -> Row {
    Row { name, weight, gate: None, make }
}

fn made(plugin: impl Plugin + 'static) -> Made {
    Ok(Arc::new(plugin))
}

/// All plugins, in the order of upstream's default profile.
pub fn plugins() -> Vec<Row> {
    vec![
        row("SchedulingGates", 0, |_, _| made(SchedulingGates)),
        row("PrioritySort", 0, |_, _| made(PrioritySort)),
        row("NodeUnschedulable", 0, |_, _| made(NodeUnschedulable)),
        row("NodeName", 0, |_, _| made(NodeName)),
        row("TaintToleration", 3, |_, _| made(TaintToleration)),
        row("NodeAffinity", 2, |args, _| made(NodeAffinity::new(NodeAffinityArgs::parse(args)?.as_ref()))),
        row("NodePorts", 0, |_, _| made(NodePorts)),
        row("NodeResourcesFit", 1, |args, handle| made(Fit::new(FitArgs::parse(args)?, handle))),
        row("VolumeRestrictions", 0, |_, handle| made(VolumeRestrictions::new(handle))),
        row("NodeVolumeLimits", 0, |_, handle| made(NodeVolumeLimits::new(handle))),
        row("VolumeBinding", 0, |args, handle| {
            let seconds = VolumeBindingArgs::parse(args)?.bind_timeout_seconds;
            made(VolumeBinding::new(Duration::from_secs(seconds), handle))
        }),
        row("VolumeZone", 0, |_, handle| made(VolumeZone::new(handle))),
        row("PodTopologySpread", 2, |args, handle| made(PodTopologySpread::new(SpreadArgs::parse(args)?, handle))),
        row("InterPodAffinity", 2, |args, handle| {
            made(InterPodAffinity::new(InterPodAffinityArgs::parse(args)?, handle))
        }),
        row("DynamicResources", 2, |args, handle| {
            made(DynamicResources::new(&DynamicResourcesArgs::parse(args)?, handle))
        }),
        row("DefaultPreemption", 0, |args, handle| made(DefaultPreemption::new(PreemptionArgs::parse(args)?, handle))),
        row("NodeResourcesBalancedAllocation", 1, |args, _| made(BalancedAllocation::new(BalancedArgs::parse(args)?))),
        row("ImageLocality", 1, |_, _| made(ImageLocality)),
        row("DefaultBinder", 0, |_, _| made(DefaultBinder)),
        row("NodeDeclaredFeatures", 0, |_, _| made(NodeDeclaredFeatures)),
        Row {
            gate: Some("GangScheduling"),
            ..row("GangScheduling", 0, |_, handle| made(GangScheduling::new(handle)?))
        },
    ]
}

/// The names of the points in a configuration, with their bits.
pub(crate) const POINTS: [(&str, Points); Points::COUNT] = [
    ("preEnqueue", Points::PRE_ENQUEUE),
    ("preFilter", Points::PRE_FILTER),
    ("filter", Points::FILTER),
    ("postFilter", Points::POST_FILTER),
    ("preScore", Points::PRE_SCORE),
    ("score", Points::SCORE),
    ("reserve", Points::RESERVE),
    ("permit", Points::PERMIT),
    ("preBind", Points::PRE_BIND),
    ("bind", Points::BIND),
    ("postBind", Points::POST_BIND),
    ("queueSort", Points::QUEUE_SORT),
];

/// The plugins of all points: the default ones, changed as the user's set says.
fn multi_point(custom: &PluginSet, gates: &features::Gates) -> Vec<(String, Option<i64>)> {
    let mut all = Vec::new();
    let own = |name: &str| custom.enabled.iter().find(|p| p.name == name);
    if !custom.disables("*") {
        let is_default = |row: &&Row| row.gate.is_none_or(|gate| gates.enabled(gate)) && !custom.disables(row.name);
        for row in plugins().iter().filter(is_default) {
            let weight = own(row.name).map_or(Some(row.weight), |p| p.weight);
            all.push((row.name.to_owned(), weight));
        }
    }
    for plugin in &custom.enabled {
        if !all.iter().any(|(name, _)| *name == plugin.name) {
            all.push((plugin.name.clone(), plugin.weight));
        }
    }
    all
}

/// The names of the plugins of one point, in running order: those named for all points and for this one, the others
/// of all points, the others of this one.
fn order_at(set: &PluginSet, multi: &[(String, Option<i64>)], serves: impl Fn(&str) -> bool) -> Vec<String> {
    let in_multi = |name: &str| multi.iter().any(|(n, _)| n == name);
    let explicit = |name: &str| set.enabled.iter().any(|p| p.name == name);
    let all_disabled = set.disables("*");
    let mut order: Vec<String> =
        set.enabled.iter().filter(|p| !all_disabled && in_multi(&p.name)).map(|p| p.name.clone()).collect();
    if !all_disabled {
        let rest = multi.iter().map(|(name, _)| name);
        order.extend(rest.filter(|name| !explicit(name) && !set.disables(name) && serves(name)).cloned());
    }
    let rest = set.enabled.iter().filter(|p| all_disabled || !in_multi(&p.name));
    order.extend(rest.map(|p| p.name.clone()));
    order
}

/// Makes a profile.
///
/// # Errors
/// It names a plugin that is not there or that does not serve the point, or its arguments are wrong.
pub(crate) fn build(config: &ProfileConfig, handle: &Handle) -> Result<crate::profile::Profile, InvalidConfiguration> {
    let multi = multi_point(config.set("multiPoint"), &handle.gates);
    let rows = plugins();
    let mut used: Vec<String> = multi.iter().map(|(name, _)| name.clone()).collect();
    for (point, _) in POINTS {
        used.extend(config.set(point).enabled.iter().map(|p| p.name.clone()));
    }
    let mut plugins = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::default();
    for name in used {
        if places.contains_key(&name) {
            continue;
        }
        let Some(row) = rows.iter().find(|row| row.name == name) else {
            return Err(config.invalid(&format!("plugins: plugin \"{name}\" does not exist")));
        };
        let args = config.args_of(&name);
        let plugin = (row.make)(args, handle).map_err(|error| config.invalid(&error))?;
        let own = config.set("score").enabled.iter().find(|p| p.name == name).and_then(|p| p.weight);
        let weight = own.or_else(|| multi.iter().find(|(n, _)| *n == name).and_then(|(_, w)| *w));
        places.insert(name, plugins.len());
        plugins.push(Weighted { plugin, weight: weight.filter(|w| *w != 0).unwrap_or(1) });
    }
    let mut order: [Vec<usize>; Points::COUNT] = Default::default();
    for (name, point) in POINTS {
        let serves = |plugin: &str| places.get(plugin).is_some_and(|at| plugins[*at].plugin.points().has(point));
        for plugin in order_at(config.set(name), &multi, serves) {
            if !serves(&plugin) {
                let text = format!("plugins.{name}: plugin \"{plugin}\" does not extend {name} plugin");
                return Err(config.invalid(&text));
            }
            order[point.number()].push(places[&plugin]);
        }
    }
    match order[Points::QUEUE_SORT.number()].len() {
        1 => {}
        0 => return Err(config.invalid("plugins.queueSort: at least one queue sort plugin is needed")),
        _ => return Err(config.invalid("plugins.queueSort: only one queue sort plugin can be enabled")),
    }
    if order[Points::BIND.number()].is_empty() {
        return Err(config.invalid("plugins.bind: at least one bind plugin is needed"));
    }
    Ok(crate::profile::Profile::new(config.scheduler_name.clone(), plugins, order, config.percentage))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PluginRef;

    fn set(enabled: &[&str], disabled: &[&str]) -> PluginSet {
        let plugin = |name: &&str| PluginRef { name: (*name).to_owned(), weight: None };
        PluginSet { enabled: enabled.iter().map(plugin).collect(), disabled: disabled.iter().map(plugin).collect() }
    }

    #[test]
    fn order_of_a_point() {
        let multi: Vec<_> = ["A", "B", "C"].map(|n| (n.to_owned(), None)).to_vec();
        for (enabled, disabled, want) in [
            (&[][..], &[][..], "A B C"),
            (&["D", "C"], &[], "C A B D"),
            (&["D"], &["B"], "A C D"),
            (&["D", "A"], &["*"], "D A"),
            (&[], &["*"], ""),
        ] {
            assert_eq!(order_at(&set(enabled, disabled), &multi, |_| true).join(" "), want, "{enabled:?} {disabled:?}");
        }
    }

    #[test]
    fn changes_of_all_points() {
        let names = |set: &PluginSet| {
            multi_point(set, &features::Gates::default()).into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(&PluginSet::default()).len(), plugins().iter().filter(|row| row.gate.is_none()).count());
        assert!(!names(&set(&[], &["ImageLocality"])).contains(&"ImageLocality".to_owned()));
        assert_eq!(names(&set(&["DefaultBinder"], &["*"])), ["DefaultBinder"]);
    }
    #[tokio::test]
    async fn profiles_that_cannot_be_made_name_the_plugin() {
        let handle = crate::testing::handle();
        for (profile, want) in [
            (
                "plugins: {score: {enabled: [{name: Nonsense}]}}",
                "profiles[0].plugins: plugin \"Nonsense\" does not exist",
            ),
            (
                "plugins: {filter: {enabled: [{name: ImageLocality}]}}",
                "profiles[0].plugins.filter: plugin \"ImageLocality\" does not extend filter plugin",
            ),
            (
                "plugins: {bind: {disabled: [{name: '*'}]}}",
                "profiles[0].plugins.bind: at least one bind plugin is needed",
            ),
            ("plugins: {queueSort: {disabled: [{name: '*'}]}}", "profiles[0].plugins.queueSort"),
        ] {
            let head = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
            let parsed = crate::config::Configuration::parse(&format!("{head}profiles: [{{{profile}}}]\n")).unwrap();
            let error = build(&parsed.profiles[0], &handle).map(drop).unwrap_err().to_string();
            assert!(error.contains(want), "{profile}: {error}");
        }
    }
}
