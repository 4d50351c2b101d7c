//! ImageLocality: prefers nodes that have the pod's images, less so when few nodes have them, lest these are swamped.

use std::collections::BTreeMap;

use crate::framework::{CycleState, CycleView, MAX_NODE_SCORE, Plugin, Points};
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

const MIN_THRESHOLD: i64 = 23 * 1024 * 1024;
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * 1024 * 1024;

pub(crate) struct ImageLocality;

/// The pod's images that some node has: by name, the share of nodes that have it and how often the pod names it.
#[derive(Clone)]
struct Wanted {
    images: BTreeMap<String, (f64, i64)>,
    containers: i64,
}

/// The name with a tag.
fn normalized(name: &str) -> String {
    let tagged = name.rfind(':').is_some_and(|colon| name.rfind('/').is_none_or(|slash| colon > slash));
    if tagged { name.to_owned() } else { format!("{name}:latest") }
}

fn priority(sum: i64, containers: i64) -> i64 {
    let max = MAX_CONTAINER_THRESHOLD * containers.max(1);
    let sum = sum.clamp(MIN_THRESHOLD, max);
    MAX_NODE_SCORE * (sum - MIN_THRESHOLD) / (max - MIN_THRESHOLD)
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, _: &[usize], view: CycleView<'_>) -> bool {
        let (spread, nodes) = (&view.snapshot.images, view.snapshot.nodes().len());
        let Some(spec) = pod.pod.spec.as_ref().filter(|_| !spread.is_empty()) else { return false };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let count = i64::try_from(containers.clone().count()).unwrap_or(i64::MAX);
        let of_containers = containers.filter_map(|c| c.image.as_deref());
        let of_volumes = spec.volumes.iter().flatten().filter_map(|v| v.image.as_ref()?.reference.as_deref());
        let mut images: BTreeMap<String, (f64, i64)> = BTreeMap::new();
        for name in of_containers.chain(of_volumes).map(normalized) {
            if let Some(on) = spread.get(name.as_str()) {
                images.entry(name).or_insert((f64::from(*on) / nodes as f64, 0)).1 += 1;
            }
        }
        let any = !images.is_empty();
        if any {
            state.put_score(view.plugin, Wanted { images, containers: count });
        }
        any
    }

    fn score(&self, state: &CycleState, _: &PodInfo, node: &NodeInfo, view: CycleView<'_>) -> i64 {
        let Some(wanted) = state.get_score::<Wanted>(view.plugin) else { return 0 };
        let scaled = wanted
            .images
            .iter()
            .map(|(name, (share, times))| node.image(name).map_or(0, |size| (size as f64 * share) as i64 * times));
        priority(scaled.sum(), wanted.containers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_scale() {
        assert_eq!(normalized("a"), "a:latest");
        assert_eq!(normalized("host:5000/a"), "host:5000/a:latest");
        assert_eq!(normalized("host:5000/a:1"), "host:5000/a:1");
        for (megabytes, containers, want) in [(0, 1, 0), (23, 1, 0), (1000, 1, 100), (9000, 2, 100), (511, 1, 49)] {
            assert_eq!(priority(megabytes * 1024 * 1024, containers), want, "{megabytes} MiB");
        }
    }
}
