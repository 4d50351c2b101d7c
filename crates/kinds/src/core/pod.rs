//! Pod.

use meta::Object;
use registry::{Ctx, Graceful, KindRow, SelectableField, Sub, Verbs};
use rules::core::pod;
use serde_json::{Value, json};

use crate::gvk;
use crate::printer::{AGE, NAME, text};
use crate::standard::Standard;

static POD: Standard = Standard {
    rules: pod::RULES,
    status: true,
    generation: true,
    fields: &[
        SelectableField::path("spec.nodeName", &["spec", "nodeName"]).indexed(),
        SelectableField::path("spec.restartPolicy", &["spec", "restartPolicy"]),
        SelectableField::path("spec.schedulerName", &["spec", "schedulerName"]),
        SelectableField::path("spec.serviceAccountName", &["spec", "serviceAccountName"]),
        SelectableField::path_or("spec.hostNetwork", &["spec", "hostNetwork"], "false"),
        SelectableField::path("status.phase", &["status", "phase"]),
        SelectableField::path("status.podIP", &["status", "podIP"]),
        SelectableField::joined("status.podIPs", &["status", "podIPs"], "ip"),
        SelectableField::path("status.nominatedNodeName", &["status", "nominatedNodeName"]),
    ],
    columns: &[
        NAME,
        text("Ready"),
        text("Status"),
        text("Restarts"),
        AGE,
        text("IP").wide(),
        text("Node").wide(),
        text("Nominated Node").wide(),
        text("Readiness Gates").wide(),
    ],
    cells: super::pod_printer::cells,
    prepare_create,
    graceful,
    warnings: rules::core::pod_warnings::warnings,
    return_deleted: true,
    ..Standard::PLAIN
};

/// The row.
pub fn row() -> KindRow {
    KindRow::new("", "v1", "Pod", "pods", POD.main())
        .short(&["po"])
        .categories(&["all"])
        .status(POD.part(&["status"], &["deletionTimestamp", "ownerReferences"], finish_status))
        .sub("ephemeralcontainers", Verbs::STATUS, None, Sub::Object(super::pod_parts::ephemeral_containers(&POD)))
        .sub("resize", Verbs::STATUS, None, Sub::Object(super::pod_parts::resize(&POD)))
        .sub("binding", Verbs::CREATE, Some(gvk("", "v1", "Binding")), Sub::Binding)
        .sub("eviction", Verbs::CREATE, Some(gvk("policy", "v1", "Eviction")), Sub::Eviction)
        .sub("log", Verbs::GET, None, Sub::Log)
        .sub("exec", Verbs::CREATE.and(Verbs::GET), Some(gvk("", "v1", "PodExecOptions")), Sub::Exec)
        .sub("attach", Verbs::CREATE.and(Verbs::GET), Some(gvk("", "v1", "PodAttachOptions")), Sub::Attach)
        .sub(
            "portforward",
            Verbs::CREATE.and(Verbs::GET),
            Some(gvk("", "v1", "PodPortForwardOptions")),
            Sub::PortForward,
        )
        .sub("proxy", super::PROXY_VERBS, Some(gvk("", "v1", "PodProxyOptions")), Sub::Proxy)
}

/// A new pod is Pending, knows its quality of service, and says so when its scheduling is gated.
fn prepare_create(_cx: &Ctx, pod: &mut Object) {
    pod.set(&["status", "phase"], "Pending".into());
    let qos = component_helpers::tree::qos_class(pod.body.get("spec").unwrap_or(&Value::Null));
    pod.set(&["status", "qosClass"], qos.into());
    let gated = pod.get(&["spec", "schedulingGates"]).and_then(Value::as_array).is_some_and(|g| !g.is_empty());
    if gated {
        let condition = json!({
            "type": "PodScheduled",
            "status": "False",
            "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates",
            "lastProbeTime": null,
            "lastTransitionTime": meta::time::format_seconds(rt::time::now()),
        });
        pod.set(&["status", "conditions"], json!([condition]));
    }
    // Negative periods were once taken, and mean the shortest.
    if pod.get_i64(&["spec", "terminationGracePeriodSeconds"]).is_some_and(|s| s < 0) {
        pod.set(&["spec", "terminationGracePeriodSeconds"], 1.into());
    }
    rules::core::pod_mutate::merge_match_label_keys(pod);
}

/// The spec's grace period unless the request names one; none for pods that never ran or have finished.
fn graceful(pod: &Object, requested: Option<i64>) -> Graceful {
    if pod.get_str(&["spec", "nodeName"]).is_empty()
        || matches!(pod.get_str(&["status", "phase"]), "Failed" | "Succeeded")
    {
        return Graceful::Seconds(0);
    }
    let wanted = requested.or_else(|| pod.get_i64(&["spec", "terminationGracePeriodSeconds"])).unwrap_or(0);
    Graceful::Seconds(if wanted < 0 { 1 } else { wanted })
}

/// A client that does not send the quality of service does not unset it.
fn finish_status(pod: &mut Object, old: &Object) {
    if pod.get_str(&["status", "qosClass"]).is_empty()
        && let Some(class) = old.get(&["status", "qosClass"]).cloned()
    {
        pod.set(&["status", "qosClass"], class);
    }
    if pod.get_i64(&["status", "observedGeneration"]).unwrap_or(0) == 0
        && let Some(generation) = old.get(&["status", "observedGeneration"]).cloned()
    {
        pod.set(&["status", "observedGeneration"], generation);
    }
}
