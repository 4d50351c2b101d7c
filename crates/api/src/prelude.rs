//! The kinds that most rooms use.

pub use crate::Kind;
pub use crate::k8s::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet};
pub use crate::k8s::batch::v1::{CronJob, Job};
pub use crate::k8s::coordination::v1::Lease;
pub use crate::k8s::core::v1::{
    ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod,
    ReplicationController, ResourceQuota, Secret, Service, ServiceAccount,
};
pub use crate::k8s::discovery::v1::EndpointSlice;
pub use crate::metav1::{LabelSelector, MicroTime, ObjectMeta, OwnerReference, Time};
pub use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
pub use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
