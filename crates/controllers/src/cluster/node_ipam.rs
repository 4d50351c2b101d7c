//! Gives every node its share of the pod networks (`spec.podCIDRs`).

use std::net::IpAddr;
use std::sync::Arc;

use api::Kind;
use api::k8s::core::v1::Node;
use client::{Error, PatchKind};
use informer::{Delta, EventType, Informer, Queue, run_workers};
use parking_lot::Mutex;
use rt::HashMap;
use serde_json::json;

use crate::frame::Context;

/// One pod network cut into equal shares.
#[derive(Debug)]
pub(crate) struct Range {
    base: u128,
    bits: u32,
    share: u32,
    count: u128,
    next: u128,
    taken: HashMap<u128, String>,
}

impl Range {
    /// Cuts `cidr` into shares with prefix length `share`.
    ///
    /// # Errors
    /// The network is malformed or smaller than a share.
    pub(crate) fn new(cidr: &str, share: (u8, u8)) -> Result<Self, String> {
        let bad = || format!("bad pod network {cidr:?}");
        let (address, length) = cidr.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let length: u32 = length.parse().map_err(|_| bad())?;
        let (value, bits, share) = match address {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32, u32::from(share.0)),
            IpAddr::V6(v6) => (u128::from(v6), 128, u32::from(share.1)),
        };
        if length > share || share > bits || share - length > 16 {
            return Err(format!("pod network {cidr:?} cannot be cut into shares of /{share}"));
        }
        let host = bits - length;
        let base = if host >= 128 { 0 } else { value >> host << host };
        Ok(Self { base, bits, share, count: 1 << (share - length), next: 0, taken: HashMap::default() })
    }

    fn text(&self, index: u128) -> String {
        let shift = self.bits - self.share;
        let value = self.base + if shift >= 128 { 0 } else { index << shift };
        let address = if self.bits == 32 {
            IpAddr::V4(u32::try_from(value).unwrap_or(0).into())
        } else {
            IpAddr::V6(value.into())
        };
        format!("{address}/{}", self.share)
    }

    fn index(&self, share: &str) -> Option<u128> {
        let address: IpAddr = share.split_once('/')?.0.parse().ok()?;
        let value = match address {
            IpAddr::V4(v4) => u128::from(u32::from(v4)),
            IpAddr::V6(v6) => u128::from(v6),
        };
        let shift = self.bits - self.share;
        let offset = value.checked_sub(self.base)?;
        let index = if shift >= 128 { 0 } else { offset >> shift };
        (index < self.count && self.text(index) == share).then_some(index)
    }

    /// Notes that a node has a share.
    pub(crate) fn occupy(&mut self, share: &str, node: &str) {
        if let Some(index) = self.index(share) {
            self.taken.insert(index, node.to_owned());
        }
    }

    /// A free share for a node; the one it has already, if any.
    pub(crate) fn allocate(&mut self, node: &str) -> Option<String> {
        if let Some((index, _)) = self.taken.iter().find(|(_, owner)| *owner == node) {
            return Some(self.text(*index));
        }
        let index =
            (0..self.count).map(|step| (self.next + step) % self.count).find(|i| !self.taken.contains_key(i))?;
        self.next = (index + 1) % self.count;
        self.taken.insert(index, node.to_owned());
        Some(self.text(index))
    }

    /// Frees a node's share.
    pub(crate) fn release(&mut self, node: &str) {
        self.taken.retain(|_, owner| owner != node);
    }
}

fn pod_cidrs(node: &Node) -> &[String] {
    node.spec.as_ref().and_then(|s| s.pod_cidrs.as_deref()).unwrap_or_default()
}

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    ranges: Mutex<Vec<Range>>,
}

/// Runs the controller; without pod networks it has nothing to do.
pub(crate) async fn run(context: Context) {
    let options = context.options.clone();
    let ranges: Result<Vec<Range>, String> =
        options.cluster_cidrs.iter().map(|cidr| Range::new(cidr, options.node_cidr_mask)).collect();
    let ranges = match ranges {
        Ok(ranges) if !ranges.is_empty() => ranges,
        Ok(_) => return context.shutdown.cancelled().await,
        Err(error) => {
            tracing::error!(error, "node IPAM is off");
            return context.shutdown.cancelled().await;
        }
    };
    let nodes = context.factory.informer::<Node>();
    let queue = Arc::new(Queue::new());
    let (shutdown, handed) = (context.shutdown.clone(), queue.clone());
    let controller = Arc::new(Controller { context, nodes: nodes.clone(), ranges: Mutex::new(ranges) });
    nodes.synced().await;
    // Shares in use first, so that no new node gets one of them.
    nodes.cache().list().iter().for_each(|node| controller.occupy(node));
    let events = Arc::downgrade(&controller);
    nodes.add_handler(move |delta| {
        let Some(controller) = events.upgrade() else { return };
        let node = delta.object();
        match delta {
            Delta::Deleted(_) => controller.ranges.lock().iter_mut().for_each(|r| r.release(node.name())),
            _ if pod_cidrs(node).is_empty() => handed.add(node.name().to_owned()),
            _ => controller.occupy(node),
        }
    });
    run_workers("node ipam", queue, 1, shutdown, move |name: String| {
        let controller = controller.clone();
        async move { controller.sync(&name).await }
    })
    .await;
}

impl Controller {
    fn occupy(&self, node: &Node) {
        for (range, share) in self.ranges.lock().iter_mut().zip(pod_cidrs(node)) {
            range.occupy(share, node.name());
        }
    }

    async fn sync(&self, name: &str) -> Result<(), Error> {
        let Some(node) = self.nodes.cache().get_key(name) else { return Ok(()) };
        if !pod_cidrs(&node).is_empty() {
            return Ok(());
        }
        let shares: Option<Vec<String>> = self.ranges.lock().iter_mut().map(|r| r.allocate(name)).collect();
        let Some(shares) = shares else {
            let message = format!("Node {name} status is now: CIDRNotAvailable");
            self.context.recorder.event(&*node, EventType::Normal, "CIDRNotAvailable", message);
            return Err(Error::Request("the pod networks have no share left".into()));
        };
        let patch = json!({"spec": {"podCIDR": shares[0], "podCIDRs": shares}});
        match self.context.client.patch::<Node>("", name, &PatchKind::Strategic, &patch).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Range;

    #[test]
    fn shares_are_distinct_until_none_is_left() {
        let mut range = Range::new("10.1.0.0/22", (24, 64)).unwrap();
        range.occupy("10.1.1.0/24", "old");
        assert_eq!(range.allocate("a").as_deref(), Some("10.1.0.0/24"));
        assert_eq!(range.allocate("a").as_deref(), Some("10.1.0.0/24"));
        assert_eq!(range.allocate("b").as_deref(), Some("10.1.2.0/24"));
        assert_eq!(range.allocate("c").as_deref(), Some("10.1.3.0/24"));
        assert_eq!(range.allocate("d"), None);
        range.release("b");
        assert_eq!(range.allocate("d").as_deref(), Some("10.1.2.0/24"));
        let mut six = Range::new("fd00:1::/56", (24, 64)).unwrap();
        assert_eq!(six.allocate("a").as_deref(), Some("fd00:1::/64"));
        assert_eq!(six.allocate("b").as_deref(), Some("fd00:1:0:1::/64"));
    }
}
