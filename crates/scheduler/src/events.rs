//! What happened in the cluster that may make a pod fit.

use std::sync::Arc;

use api::k8s::core::v1::{Node, PersistentVolumeClaim};
use api::k8s::resource::v1::{DeviceClass, ResourceClaim};
use api::k8s::scheduling::v1alpha2::PodGroup;
use api::k8s::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass};

use crate::pod_info::PodInfo;

/// A kind of event, one bit each, so that plugins name the set they wait for.
pub mod kind {
    #![allow(missing_docs, reason = "upstream's resources and ActionTypes; the names say it all")]
    pub const NODE_ADD: u64 = 1;
    pub const NODE_DELETE: u64 = 1 << 1;
    pub const NODE_ALLOCATABLE: u64 = 1 << 2;
    pub const NODE_LABEL: u64 = 1 << 3;
    pub const NODE_TAINT: u64 = 1 << 4;
    pub const POD_ADD: u64 = 1 << 5;
    pub const POD_DELETE: u64 = 1 << 6;
    pub const POD_LABEL: u64 = 1 << 7;
    pub const POD_SCALE_DOWN: u64 = 1 << 8;
    pub const POD_GATES: u64 = 1 << 9;
    pub const POD_TOLERATIONS: u64 = 1 << 10;
    pub const POD_CLAIMS: u64 = 1 << 11;
    pub const CLAIM_ADD: u64 = 1 << 12;
    pub const CLAIM_UPDATE: u64 = 1 << 13;
    pub const VOLUME: u64 = 1 << 14;
    pub const CLASS: u64 = 1 << 15;
    pub const CSI_NODE: u64 = 1 << 16;
    pub const CSI_DRIVER: u64 = 1 << 17;
    pub const CSI_CAPACITY: u64 = 1 << 18;
    pub const ATTACHMENT_DELETE: u64 = 1 << 19;
    pub const DEVICE: u64 = 1 << 20;
    pub const DEVICE_CLAIM: u64 = 1 << 21;
    pub const NODE_FEATURES: u64 = 1 << 22;
    pub const DEVICE_CLASS: u64 = 1 << 23;
    pub const POD_GROUP_ADD: u64 = 1 << 24;
    /// A pod of a group that is to be scheduled.
    pub const POD_NEW: u64 = 1 << 25;
}

/// What an event is about.
#[derive(Clone)]
pub enum Subject {
    /// A pod: one on a node, or the waiting pod itself.
    Pod {
        /// Before; none when it is new.
        old: Option<Arc<PodInfo>>,
        /// After; none when it is gone.
        new: Option<Arc<PodInfo>>,
    },
    /// A node.
    Node {
        /// Before; none when it is new.
        old: Option<Arc<Node>>,
        /// After; none when it is gone.
        new: Option<Arc<Node>>,
    },
    /// A claim on a volume.
    Claim(Arc<PersistentVolumeClaim>),
    /// A storage class.
    Class {
        /// Before; none when it is new.
        old: Option<Arc<StorageClass>>,
        /// After.
        new: Arc<StorageClass>,
    },
    /// What CSI drivers a node has.
    CsiNode {
        /// Before; none when it is new.
        old: Option<Arc<CSINode>>,
        /// After.
        new: Arc<CSINode>,
    },
    /// A CSI driver.
    CsiDriver {
        /// Before.
        old: Arc<CSIDriver>,
        /// After.
        new: Arc<CSIDriver>,
    },
    /// The room a storage system has.
    CsiCapacity {
        /// Before; none when it is new.
        old: Option<Arc<CSIStorageCapacity>>,
        /// After.
        new: Arc<CSIStorageCapacity>,
    },
    /// A claim on devices.
    DeviceClaim {
        /// Before; none when it is new.
        old: Option<Arc<ResourceClaim>>,
        /// After.
        new: Arc<ResourceClaim>,
    },
    /// A class of devices.
    DeviceClass {
        /// Before; none when it is new.
        old: Option<Arc<DeviceClass>>,
        /// After.
        new: Arc<DeviceClass>,
    },
    /// A new group of pods that are scheduled together.
    PodGroup(Arc<PodGroup>),
    /// Something that no plugin looks at closer.
    Other,
}

/// An event with what it is about.
#[derive(Clone)]
pub struct ClusterEvent {
    /// Bits of [`kind`].
    pub kinds: u64,
    /// What it is about.
    pub subject: Subject,
}

impl ClusterEvent {
    pub(crate) fn pod_added(pod: Arc<PodInfo>) -> Self {
        Self { kinds: kind::POD_ADD, subject: Subject::Pod { old: None, new: Some(pod) } }
    }

    pub(crate) fn pod_new(pod: Arc<PodInfo>) -> Self {
        Self { kinds: kind::POD_NEW, subject: Subject::Pod { old: None, new: Some(pod) } }
    }

    pub(crate) fn pod_deleted(pod: Arc<PodInfo>) -> Self {
        Self { kinds: kind::POD_DELETE, subject: Subject::Pod { old: Some(pod), new: None } }
    }

    pub(crate) fn pod_changed(kinds: u64, old: Arc<PodInfo>, new: Arc<PodInfo>) -> Self {
        Self { kinds, subject: Subject::Pod { old: Some(old), new: Some(new) } }
    }

    pub(crate) fn other(kinds: u64) -> Self {
        Self { kinds, subject: Subject::Other }
    }
}
