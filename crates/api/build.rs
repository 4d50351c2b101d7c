//! Packs the texts of upstream's API for OpenAPI and `kubectl explain`.
//!
//! They come from k8s-openapi's `schemars` feature, which only this build script turns on, and go into the binary
//! compressed: lines of definition, field (empty for the definition itself) and text. The one build script of the
//! project: the texts are upstream's and are not kept in the repository.

use std::io::Write;
use std::path::PathBuf;

use schemars::SchemaGenerator;
use serde_json::Value;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut generator = SchemaGenerator::default();
    add_all(&mut generator);
    let mut lines = String::new();
    for (name, schema) in generator.definitions() {
        collect(&mut lines, name, schema);
    }
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(lines.as_bytes()).expect("compress the texts");
    let packed = encoder.finish().expect("compress the texts");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo gives OUT_DIR"));
    std::fs::write(out.join("descriptions.z"), packed).expect("write the texts");
}

fn collect(lines: &mut String, name: &str, schema: &Value) {
    let mut add = |field: &str, schema: &Value| {
        if let Some(text) = schema["description"].as_str() {
            // One text, one line.
            let text = text.replace('\\', "\\\\").replace('\n', "\\n");
            lines.push_str(&format!("{name}\t{field}\t{text}\n"));
        }
    };
    add("", schema);
    for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
        add(field, schema);
    }
}

macro_rules! add {
    ($generator:ident: $($module:path => $($name:ident),+;)+) => {
        $({
            use $module as module;
            $($generator.subschema_for::<module::$name>();)+
        })+
    };
}

/// Every kind; what they refer to comes with them.
fn add_all(generator: &mut SchemaGenerator) {
    use k8s_openapi::{api, apiextensions_apiserver, apimachinery, kube_aggregator};
    add! { generator:
        api::admissionregistration::v1 =>
            MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding, MutatingWebhookConfiguration,
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration;
        api::admissionregistration::v1alpha1 => MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding;
        api::admissionregistration::v1beta1 => MutatingAdmissionPolicy, MutatingAdmissionPolicyBinding;
        api::apiserverinternal::v1alpha1 => StorageVersion;
        api::apps::v1 => ControllerRevision, DaemonSet, Deployment, ReplicaSet, StatefulSet;
        api::authentication::v1 => SelfSubjectReview, TokenRequest, TokenReview;
        api::authorization::v1 =>
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview;
        api::autoscaling::v1 => HorizontalPodAutoscaler, Scale;
        api::autoscaling::v2 => HorizontalPodAutoscaler;
        api::batch::v1 => CronJob, Job;
        api::certificates::v1 => CertificateSigningRequest;
        api::certificates::v1alpha1 => ClusterTrustBundle;
        api::certificates::v1beta1 => ClusterTrustBundle, PodCertificateRequest;
        api::coordination::v1 => Lease;
        api::coordination::v1alpha2 => LeaseCandidate;
        api::coordination::v1beta1 => LeaseCandidate;
        api::core::v1 =>
            Binding, ComponentStatus, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, PodTemplate, ReplicationController, ResourceQuota, Secret, Service,
            ServiceAccount;
        api::discovery::v1 => EndpointSlice;
        api::events::v1 => Event;
        api::flowcontrol::v1 => FlowSchema, PriorityLevelConfiguration;
        api::networking::v1 => IPAddress, Ingress, IngressClass, NetworkPolicy, ServiceCIDR;
        api::networking::v1beta1 => IPAddress, ServiceCIDR;
        api::node::v1 => RuntimeClass;
        api::policy::v1 => Eviction, PodDisruptionBudget;
        api::rbac::v1 => ClusterRole, ClusterRoleBinding, Role, RoleBinding;
        api::resource::v1 => DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        api::resource::v1alpha3 => DeviceTaintRule, ResourcePoolStatusRequest;
        api::resource::v1beta1 => DeviceClass, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        api::resource::v1beta2 => DeviceClass, DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice;
        api::scheduling::v1 => PriorityClass;
        api::scheduling::v1alpha2 => PodGroup, Workload;
        api::storage::v1 =>
            CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment, VolumeAttributesClass;
        api::storage::v1beta1 => VolumeAttributesClass;
        api::storagemigration::v1beta1 => StorageVersionMigration;
        apiextensions_apiserver::pkg::apis::apiextensions::v1 => CustomResourceDefinition;
        apimachinery::pkg::apis::meta::v1 =>
            APIGroup, APIGroupList, APIResourceList, APIVersions, DeleteOptions, Status;
        kube_aggregator::pkg::apis::apiregistration::v1 => APIService;
    }
}
