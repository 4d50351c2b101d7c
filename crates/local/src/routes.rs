//! Routes to pods: each node's podCIDRs by way of its address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::core::v1::Node;
use informer::{Delta, Factory};
use ipnet::IpNet;
use parking_lot::Mutex;
use rt::Shutdown;
use rt::sync::Notify;

/// When routes that could not be set are tried again, unless a node changes before.
const RETRY: Duration = Duration::from_secs(5);

/// What routes need to know of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    address: IpAddr,
    ranges: Vec<IpNet>,
}

impl Place {
    fn of(node: &Node) -> Option<Self> {
        let addresses = node.status.as_ref()?.addresses.as_ref()?;
        let address = addresses.iter().find(|a| a.type_ == "InternalIP")?.address.parse().ok()?;
        let cidrs = node.spec.as_ref().and_then(|s| s.pod_cidrs.as_deref()).unwrap_or_default();
        Some(Self { address, ranges: cidrs.iter().filter_map(|cidr| cidr.parse().ok()).collect() })
    }
}

/// The other nodes by name, kept as their Nodes change.
#[derive(Debug, Default)]
struct Places(BTreeMap<String, Place>);

impl Places {
    /// Takes a change of a Node in; whether it matters to routes. Most do not: leases aside, a Node changes with every status.
    fn take(&mut self, delta: &Delta<Node>, own: Option<&str>) -> bool {
        let name = delta.object().name();
        if Some(name) == own {
            return false;
        }
        let place = match delta {
            Delta::Deleted(_) => None,
            Delta::Added(node) | Delta::Updated { new: node, .. } => Place::of(node),
        };
        match place {
            None => self.0.remove(name).is_some(),
            Some(place) if self.0.get(name) == Some(&place) => false,
            Some(place) => {
                self.0.insert(name.to_owned(), place);
                true
            }
        }
    }

    /// What is to be routed where: the nodes' ranges, and `services` by way of any one node.
    fn routes(&self, services: Option<IpNet>) -> Vec<(IpNet, IpAddr)> {
        let each = self.0.values().flat_map(|place| place.ranges.iter().map(|range| (*range, place.address)));
        let mut routes: Vec<_> = each.collect();
        if let (Some(services), Some(first)) = (services, self.0.values().next()) {
            routes.push((services, first.address));
        }
        routes
    }
}

/// Keeps the routes of this network namespace as the Nodes say, until told to stop.
///
/// With `own`, that node's ranges are left out; with `services`, Services are reached by way of a node.
pub async fn follow_routes(
    factory: Factory,
    own: Option<String>,
    services: Option<IpNet>,
    nodes_net: IpNet,
    shutdown: Shutdown,
) {
    let nodes = factory.informer::<Node>();
    let (changed, places) = (Arc::new(Notify::new()), Arc::new(Mutex::new(Places::default())));
    let (wake, known) = (changed.clone(), places.clone());
    nodes.add_handler(move |delta| {
        if known.lock().take(delta, own.as_deref()) {
            wake.notify_one();
        }
    });
    let work = async move {
        nodes.synced().await;
        loop {
            let routes = places.lock().routes(services);
            match rt::spawn_blocking(move || cni::hostnet::sync_routes(&routes, nodes_net)).await {
                Ok(Ok(())) => {
                    changed.notified().await;
                    continue;
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot set the routes to pods"),
                Err(error) => tracing::warn!(%error, "setting the routes to pods was cut off"),
            }
            // A link that is not there yet, most likely.
            let _ = rt::time::timeout(RETRY, changed.notified()).await;
        }
    };
    shutdown.run(work).await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(name: &str, address: &str, cidr: &str, ready: bool) -> Arc<Node> {
        let node = json!({
            "metadata": {"name": name}, "spec": {"podCIDRs": [cidr]},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
            },
        });
        Arc::new(serde_json::from_value(node).expect("a node"))
    }

    #[test]
    fn only_addresses_and_ranges_matter() {
        let mut places = Places::default();
        let (a, b) = (node("a", "10.0.0.1", "10.1.0.0/24", false), node("b", "10.0.0.2", "10.1.1.0/24", false));
        assert!(places.take(&Delta::Added(b.clone()), Some("own")));
        assert!(places.take(&Delta::Added(a.clone()), Some("own")));
        assert!(!places.take(&Delta::Added(node("own", "10.0.0.3", "10.1.2.0/24", true)), Some("own")));
        let ready = Delta::Updated { old: a.clone(), new: node("a", "10.0.0.1", "10.1.0.0/24", true) };
        assert!(!places.take(&ready, Some("own")));
        let parse = |net: &str, via: &str| -> (IpNet, IpAddr) { (net.parse().expect("net"), via.parse().expect("ip")) };
        let services = parse("10.96.0.0/16", "10.0.0.1");
        let all = [parse("10.1.0.0/24", "10.0.0.1"), parse("10.1.1.0/24", "10.0.0.2"), services];
        assert_eq!(places.routes(Some(services.0)), all);
        assert!(places.take(&Delta::Deleted(a), Some("own")));
        assert_eq!(places.routes(None), all[1..2]);
        assert!(places.take(&Delta::Updated { old: b.clone(), new: node("b", "10.0.0.9", "10.1.1.0/24", true) }, None));
    }
}
