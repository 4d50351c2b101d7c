//! The objects that the user makes.

use rt::rand::below;
use serde_json::{Value, json};

use crate::user::QUOTA;

fn chance(percent: u64) -> bool {
    below(100) < percent
}

fn meta(name: &str) -> Value {
    json!({"name": name, "labels": {"app": name}})
}

fn template(name: &str, restart: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": name}, "annotations": {"version": "0"}},
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1 + below(20),
            "containers": [{
                "name": "main", "image": "registry.example/app:1",
                "resources": {"requests": {"cpu": "100m"}},
            }],
        },
    })
}

/// A namespace.
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

/// A quota on pods.
pub fn quota(pods: i64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"},
        "spec": {"hard": {"pods": pods.to_string()}},
    })
}

/// A Deployment.
pub fn deployment(name: &str, replicas: u64) -> Value {
    let strategy = if chance(20) {
        json!({"type": "Recreate"})
    } else {
        let surge = below(3);
        let unavailable = if surge == 0 { 1 } else { below(2) };
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}})
    };
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta(name),
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "strategy": strategy,
            "minReadySeconds": if chance(30) { 2 } else { 0 }, "revisionHistoryLimit": 2,
            "template": template(name, "Always"),
        },
    })
}

/// A ReplicaSet.
pub fn replica_set(name: &str, replicas: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": meta(name),
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template(name, "Always"),
        },
    })
}

/// A StatefulSet.
pub fn stateful_set(name: &str, replicas: u64) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": meta(name),
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "serviceName": name,
            "podManagementPolicy": if chance(50) { "Parallel" } else { "OrderedReady" },
            "template": template(name, "Always"),
        },
    })
}

/// A DaemonSet.
pub fn daemon_set(name: &str) -> Value {
    let rolling = if chance(50) { json!({"maxSurge": 1, "maxUnavailable": 0}) } else { json!({"maxUnavailable": 1}) };
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": meta(name),
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": rolling},
            "template": template(name, "Always"),
        },
    })
}

fn job_spec(name: &str, parallelism: u64) -> Value {
    let mut spec = json!({
        "completions": 1 + below(5), "parallelism": parallelism, "backoffLimit": 6,
        "template": template(name, if chance(60) { "Never" } else { "OnFailure" }),
    });
    if chance(40) {
        spec["completionMode"] = "Indexed".into();
        if chance(40) {
            spec["backoffLimitPerIndex"] = 2.into();
            spec["template"]["spec"]["restartPolicy"] = "Never".into();
        }
    }
    if chance(20) {
        spec["template"]["spec"]["restartPolicy"] = "Never".into();
        spec["podReplacementPolicy"] = "Failed".into();
    }
    spec
}

/// A Job.
pub fn job(name: &str, parallelism: u64) -> Value {
    let mut spec = job_spec(name, parallelism);
    if chance(10) {
        spec["ttlSecondsAfterFinished"] = 20.into();
    }
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": meta(name), "spec": spec})
}

/// A CronJob that is due every minute.
pub fn cron_job(name: &str) -> Value {
    let policy = ["Allow", "Forbid", "Replace"][below(3) as usize];
    let mut spec = job_spec(name, 1);
    spec["completions"] = 1.into();
    json!({
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta(name),
        "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": policy, "successfulJobsHistoryLimit": 1,
            "failedJobsHistoryLimit": 1, "jobTemplate": {"spec": spec},
        },
    })
}

/// A Service for a workload's pods.
pub fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": meta(name),
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}]},
    })
}

/// A budget that lets one pod be missing.
pub fn budget(name: &str) -> Value {
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": meta(name),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": name}}},
    })
}

/// Whether a namespace's pods are bounded by the quota.
pub fn has_quota(namespace: &str) -> Option<i64> {
    (namespace == "quota").then_some(QUOTA)
}
