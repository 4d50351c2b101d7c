//! From chosen devices to what is written into a claim.

use std::collections::BTreeMap;

use api::Kind;
use api::k8s::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use api::k8s::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
    ResourceClaim,
};
use api::prelude::Quantity as Wire;
use meta::quantity::Quantity;

use super::request::{Alternative, Request};
use super::search::Candidate;

/// A device that was chosen.
pub(super) struct Chosen {
    pub(super) candidate: usize,
    /// The request, with its alternative.
    pub(super) request: String,
    pub(super) admin: Option<bool>,
    /// What is consumed of a device that others share.
    pub(super) amounts: Option<BTreeMap<String, Quantity>>,
    /// Whether it took counters.
    pub(super) counts: bool,
}

type Picked<'a> = (&'a Request<'a>, &'a Alternative<'a>);

/// The allocation of one claim.
///
/// # Errors
/// A slice's node selector has several terms.
pub(super) fn made(
    claim: &ResourceClaim,
    picked: &[Picked<'_>],
    chosen: &[Chosen],
    candidates: &[Candidate<'_>],
    node: &str,
) -> Result<AllocationResult, String> {
    let results = chosen.iter().map(|one| device(one, &candidates[one.candidate], picked)).collect();
    let devices: Vec<&Candidate<'_>> = chosen.iter().map(|one| &candidates[one.candidate]).collect();
    let node_selector =
        node_selector(&devices, node).map_err(|e| format!("create NodeSelector for claim {}: {e}", claim.name()))?;
    let config = configuration(claim, picked);
    Ok(AllocationResult {
        devices: Some(DeviceAllocationResult {
            config: Some(config).filter(|c| !c.is_empty()),
            results: Some(results),
        }),
        node_selector,
        allocation_timestamp: None,
    })
}

fn device(chosen: &Chosen, candidate: &Candidate<'_>, picked: &[Picked<'_>]) -> DeviceRequestAllocationResult {
    let asked = picked.iter().find(|(_, alternative)| alternative.full == chosen.request);
    let tolerations = asked.and_then(|(_, alternative)| alternative.tolerations);
    let amounts = chosen.amounts.as_ref().filter(|a| !a.is_empty());
    DeviceRequestAllocationResult {
        request: chosen.request.clone(),
        driver: candidate.slice.spec.driver.clone(),
        pool: candidate.slice.spec.pool.name.clone(),
        device: candidate.device.name.clone(),
        admin_access: chosen.admin,
        tolerations: tolerations.cloned(),
        binding_conditions: candidate.device.binding_conditions.clone(),
        binding_failure_conditions: candidate.device.binding_failure_conditions.clone(),
        share_id: chosen.amounts.is_some().then(rt::rand::uid),
        consumed_capacity: amounts.map(|a| a.iter().map(|(name, q)| (name.clone(), Wire(q.to_string()))).collect()),
    }
}

/// The parameters of the classes and of the claim that concern what was picked.
fn configuration(claim: &ResourceClaim, picked: &[Picked<'_>]) -> Vec<DeviceAllocationConfiguration> {
    let mut all: Vec<DeviceAllocationConfiguration> = Vec::new();
    let mut of_class: BTreeMap<&str, std::ops::Range<usize>> = BTreeMap::new();
    for (_, alternative) in picked {
        let class = &alternative.class;
        if let Some(known) = of_class.get(class.name()) {
            for config in &mut all[known.clone()] {
                config.requests.get_or_insert_default().push(alternative.full.clone());
            }
            continue;
        }
        let begin = all.len();
        all.extend(class.spec.config.iter().flatten().map(|config| DeviceAllocationConfiguration {
            source: "FromClass".to_owned(),
            requests: Some(vec![alternative.full.clone()]),
            opaque: config.opaque.clone(),
        }));
        of_class.insert(class.name(), begin..all.len());
    }
    let own = claim.spec.devices.iter().flat_map(|d| d.config.iter().flatten());
    for config in own {
        let requests = config.requests.as_deref().unwrap_or_default();
        let concerns =
            |(request, alternative): &&Picked<'_>| requests.iter().any(|r| r == request.name || *r == alternative.full);
        let times = if requests.is_empty() { 1 } else { picked.iter().filter(concerns).count() };
        all.extend(std::iter::repeat_n(
            DeviceAllocationConfiguration {
                source: "FromClaim".to_owned(),
                requests: config.requests.clone(),
                opaque: config.opaque.clone(),
            },
            times,
        ));
    }
    all
}

fn same(a: &NodeSelectorRequirement, b: &NodeSelectorRequirement) -> bool {
    let sorted = |r: &NodeSelectorRequirement| {
        let mut values = r.values.clone().unwrap_or_default();
        values.sort();
        values
    };
    a.key == b.key && a.operator == b.operator && sorted(a) == sorted(b)
}

fn add(from: Option<&Vec<NodeSelectorRequirement>>, to: &mut Vec<NodeSelectorRequirement>) {
    for requirement in from.into_iter().flatten() {
        if !to.iter().any(|known| same(known, requirement)) {
            to.push(requirement.clone());
        }
    }
}

/// The nodes on which all of the devices can be had; none when that is everywhere.
fn node_selector(devices: &[&Candidate<'_>], node: &str) -> Result<Option<NodeSelector>, String> {
    let (mut fields, mut expressions) = (Vec::new(), Vec::new());
    for one in devices {
        let spec = &one.slice.spec;
        let (name, selector) = match spec.per_device_node_selection {
            Some(true) => (one.device.node_name.as_ref(), one.device.node_selector.as_ref()),
            _ => (spec.node_name.as_ref(), spec.node_selector.as_ref()),
        };
        if name.is_some() || one.device.binds_to_node == Some(true) {
            let only = NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            };
            let term = NodeSelectorTerm { match_fields: Some(vec![only]), ..NodeSelectorTerm::default() };
            return Ok(Some(NodeSelector { node_selector_terms: vec![term] }));
        }
        match selector.map(|s| s.node_selector_terms.as_slice()) {
            None | Some([]) => {}
            Some([term]) => {
                add(term.match_fields.as_ref(), &mut fields);
                add(term.match_expressions.as_ref(), &mut expressions);
            }
            Some(terms) => {
                return Err(format!("unsupported ResourceSlice.NodeSelector with {} terms", terms.len()));
            }
        }
    }
    if fields.is_empty() && expressions.is_empty() {
        return Ok(None);
    }
    let some = |list: Vec<NodeSelectorRequirement>| Some(list).filter(|l| !l.is_empty());
    let term = NodeSelectorTerm { match_fields: some(fields), match_expressions: some(expressions) };
    Ok(Some(NodeSelector { node_selector_terms: vec![term] }))
}
