//! The kinds that have typed forms: one row each.

use k8s_openapi::Resource;
use meta::Object;

use crate::Coded;
use crate::coded::{DecodeError, read_message, read_protobuf, read_tree, write_tree};

macro_rules! kinds {
    ($($module:path => $($name:ident),+;)+) => {
        $(const _: () = {
            use $module as module;
            $(impl Coded for module::$name {
                fn decode(bytes: &[u8], resource_version: u64) -> Result<Self, DecodeError> {
                    read_protobuf(<Self as Resource>::KIND, bytes, resource_version)
                }

                fn decode_message(bytes: &[u8]) -> Result<Self, DecodeError> {
                    read_message(bytes)
                }

                fn from_tree(object: &Object) -> Result<Self, DecodeError> {
                    read_tree(object)
                }

                fn to_tree(&self) -> Result<Object, DecodeError> {
                    write_tree(<Self as Resource>::KIND, self)
                }
            })+
        };)+
    };
}

kinds! {
    k8s_openapi::api::admissionregistration::v1 =>
        MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
        ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration;
    k8s_openapi::api::apps::v1 => ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
    k8s_openapi::api::authentication::v1 => SelfSubjectReview, TokenRequest, TokenReview;
    k8s_openapi::api::authorization::v1 =>
        LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview;
    k8s_openapi::api::autoscaling::v1 => Scale;
    k8s_openapi::api::autoscaling::v2 => HorizontalPodAutoscaler;
    k8s_openapi::api::batch::v1 => CronJob, Job;
    k8s_openapi::api::certificates::v1 => CertificateSigningRequest;
    k8s_openapi::api::certificates::v1beta1 => ClusterTrustBundle, PodCertificateRequest;
    k8s_openapi::api::coordination::v1 => Lease;
    k8s_openapi::api::coordination::v1beta1 => LeaseCandidate;
    k8s_openapi::api::core::v1 =>
        Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
        PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
        ServiceAccount;
    k8s_openapi::api::discovery::v1 => EndpointSlice;
    k8s_openapi::api::events::v1 => Event;
    k8s_openapi::api::flowcontrol::v1 => FlowSchema, PriorityLevelConfiguration;
    k8s_openapi::api::networking::v1 => IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR;
    k8s_openapi::api::node::v1 => RuntimeClass;
    k8s_openapi::api::policy::v1 => Eviction, PodDisruptionBudget;
    k8s_openapi::api::rbac::v1 => ClusterRole, ClusterRoleBinding, Role, RoleBinding;
    k8s_openapi::api::resource::v1 => DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
    k8s_openapi::api::scheduling::v1 => PriorityClass;
    k8s_openapi::api::scheduling::v1alpha2 => PodGroup, Workload;
    k8s_openapi::api::storage::v1 =>
        CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass;
    k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 => CustomResourceDefinition;
    k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 => APIService;
}
