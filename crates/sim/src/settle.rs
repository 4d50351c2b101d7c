//! What must hold once faults are over and time has gone by: everything is as its specification says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::model::Model;
use crate::objects::has_quota;
use crate::tree::{active, deleting, is, list, name, namespace, number, over, owner, selected, text, uid};

/// Everything that is not as it should be.
pub fn problems(model: &Model) -> Vec<String> {
    let mut found = Vec::new();
    namespaces(model, &mut found);
    ownership(model, &mut found);
    nodes(model, &mut found);
    pods(model, &mut found);
    replica_sets(model, &mut found);
    deployments(model, &mut found);
    stateful_sets(model, &mut found);
    daemon_sets(model, &mut found);
    jobs(model, &mut found);
    cron_jobs(model, &mut found);
    services(model, &mut found);
    budgets(model, &mut found);
    quotas(model, &mut found);
    found
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn expect(found: &mut Vec<String>, of: &Value, what: &str, is: Option<i64>, wanted: i64) {
    let is = is.unwrap_or(0);
    if is != wanted {
        found.push(format!("{} {}: {what} is {is}, not {wanted}", text(of, "/kind"), name(of)));
    }
}

fn observed(found: &mut Vec<String>, of: &Value) {
    let generation = number(of, "/metadata/generation").unwrap_or(0);
    expect(found, of, "observedGeneration", number(of, "/status/observedGeneration"), generation);
}

/// Namespaces that are deleted are gone, with everything in them.
fn namespaces(model: &Model, found: &mut Vec<String>) {
    let mut there = BTreeSet::new();
    for space in model.all("namespaces") {
        there.insert(name(space));
        if deleting(space) {
            found.push(format!("namespace {} is still being deleted", name(space)));
        }
    }
    for (key, object) in model.everything() {
        let space = namespace(object);
        if !space.is_empty() && !there.contains(space) {
            found.push(format!("{key} is in a namespace that is gone"));
        }
    }
}

/// Whether a pod is kept for its count of failures: a Job with a limit per index lets go of an index's last failed pod when
/// the next one is made, as upstream, and makes none while it is suspended.
fn kept_by_suspended_job(model: &Model, object: &Value) -> bool {
    let owners = list(object, "/metadata/ownerReferences");
    let mut jobs = model
        .everything()
        .map(|(_, other)| other)
        .filter(|other| other["kind"] == "Job" && owners.iter().any(|owner| text(owner, "/uid") == uid(other)));
    let suspended = |job: &Value| job["spec"]["suspend"] == true && job["spec"]["backoffLimitPerIndex"].is_number();
    object["metadata"]["finalizers"] == serde_json::json!(["batch.kubernetes.io/job-tracking"]) && jobs.any(suspended)
}

/// No object outlives its owners, or waits for its deletion.
fn ownership(model: &Model, found: &mut Vec<String>) {
    let living: BTreeSet<&str> = model.everything().map(|(_, object)| uid(object)).collect();
    for (key, object) in model.everything() {
        let owners = list(object, "/metadata/ownerReferences");
        if !owners.is_empty() && !owners.iter().any(|owner| living.contains(text(owner, "/uid"))) {
            found.push(format!("{key} is an orphan"));
        }
        if deleting(object) && !kept_by_suspended_job(model, object) {
            found.push(format!("{key} is being deleted, held by {}", object["metadata"]["finalizers"]));
        }
    }
}

fn nodes(model: &Model, found: &mut Vec<String>) {
    for node in model.all("minions") {
        if !is(node, "Ready") {
            found.push(format!("node {} is not ready", name(node)));
        }
        if !list(node, "/spec/taints").is_empty() {
            found.push(format!("node {} is tainted: {}", name(node), node["spec"]["taints"]));
        }
    }
}

fn pods(model: &Model, found: &mut Vec<String>) {
    let nodes: BTreeSet<String> = model.all("minions").map(name).collect();
    for pod in model.all("pods").filter(|pod| !over(pod)) {
        let node = text(pod, "/spec/nodeName");
        if node.is_empty() {
            found.push(format!("pod {} has no node: {}", name(pod), pod["status"]["conditions"]));
        } else if !nodes.contains(node) {
            found.push(format!("pod {} is on node {node}, which is gone", name(pod)));
        } else if !is(pod, "Ready") {
            found.push(format!("pod {} is not ready: {}", name(pod), text(pod, "/status/phase")));
        }
    }
}

/// The quota's namespace may lack pods, never have too many.
fn replicas(found: &mut Vec<String>, of: &Value, live: i64) {
    let wanted = number(of, "/spec/replicas").unwrap_or(1);
    if has_quota(namespace(of)).is_some() && live < wanted {
        return;
    }
    expect(found, of, "the number of its pods", Some(live), wanted);
    expect(found, of, "readyReplicas", number(of, "/status/readyReplicas"), wanted);
}

fn replica_sets(model: &Model, found: &mut Vec<String>) {
    for set in model.all("replicasets") {
        let live = signed(model.pods_of(uid(set)).filter(|pod| active(pod)).count());
        observed(found, set);
        expect(found, set, "status.replicas", number(set, "/status/replicas"), live);
        replicas(found, set, live);
    }
}

fn deployments(model: &Model, found: &mut Vec<String>) {
    for deployment in model.all("deployments") {
        observed(found, deployment);
        let sets: Vec<&Value> =
            model.all("replicasets").filter(|set| owner(set).is_some_and(|(_, u)| u == uid(deployment))).collect();
        let wanted: i64 = sets.iter().filter_map(|set| number(set, "/spec/replicas")).sum();
        let limited = has_quota(namespace(deployment)).is_some();
        if limited {
            continue;
        }
        expect(found, deployment, "status.replicas", number(deployment, "/status/replicas"), wanted);
        expect(found, deployment, "readyReplicas", number(deployment, "/status/readyReplicas"), wanted);
        if deployment.pointer("/spec/paused") == Some(&Value::Bool(true)) {
            continue;
        }
        let replicas = number(deployment, "/spec/replicas").unwrap_or(1);
        expect(found, deployment, "the sum of its sets", Some(wanted), replicas);
        expect(found, deployment, "updatedReplicas", number(deployment, "/status/updatedReplicas"), replicas);
        expect(found, deployment, "availableReplicas", number(deployment, "/status/availableReplicas"), replicas);
        let old = sets.iter().filter(|set| number(set, "/spec/replicas") == Some(0)).count();
        if old > 3 {
            found.push(format!("Deployment {} keeps {old} old sets", name(deployment)));
        }
    }
}

fn stateful_sets(model: &Model, found: &mut Vec<String>) {
    for set in model.all("statefulsets") {
        observed(found, set);
        let pods: Vec<&Value> = model.pods_of(uid(set)).collect();
        let live = signed(pods.len());
        expect(found, set, "status.replicas", number(set, "/status/replicas"), live);
        replicas(found, set, live);
        let wanted = number(set, "/spec/replicas").unwrap_or(1);
        for pod in &pods {
            let ordinal = name(pod).rsplit('-').next().and_then(|n| n.parse::<i64>().ok()).unwrap_or(-1);
            if ordinal < 0 || ordinal >= wanted {
                found.push(format!("StatefulSet {} has a pod {}", name(set), name(pod)));
            }
        }
        if live == wanted {
            let (current, update) = (text(set, "/status/currentRevision"), text(set, "/status/updateRevision"));
            if current != update {
                found.push(format!("StatefulSet {} is at {current}, not {update}", name(set)));
            }
            let old = pods.iter().filter(|p| p["metadata"]["labels"]["controller-revision-hash"] != *update).count();
            expect(found, set, "pods of old revisions", Some(signed(old)), 0);
        }
    }
}

fn daemon_sets(model: &Model, found: &mut Vec<String>) {
    for set in model.all("daemonsets") {
        observed(found, set);
        let nodes = signed(model.all("minions").count());
        expect(found, set, "desiredNumberScheduled", number(set, "/status/desiredNumberScheduled"), nodes);
        if has_quota(namespace(set)).is_some() {
            continue;
        }
        for field in ["currentNumberScheduled", "numberReady", "updatedNumberScheduled", "numberAvailable"] {
            expect(found, set, field, number(set, &format!("/status/{field}")), nodes);
        }
        let mut on: BTreeMap<&str, i64> = BTreeMap::new();
        for pod in model.pods_of(uid(set)).filter(|pod| active(pod)) {
            *on.entry(text(pod, "/spec/nodeName")).or_default() += 1;
        }
        if signed(on.len()) != nodes || on.values().any(|count| *count != 1) {
            found.push(format!("DaemonSet {} has pods {on:?}", name(set)));
        }
    }
}

fn jobs(model: &Model, found: &mut Vec<String>) {
    for job in model.all("jobs") {
        let finished = is(job, "Complete") || is(job, "Failed");
        let suspended = job.pointer("/spec/suspend") == Some(&Value::Bool(true));
        if !finished && !suspended && has_quota(namespace(job)).is_none() {
            found.push(format!("Job {} is not finished: {}", name(job), job["status"]));
        }
        if !finished {
            continue;
        }
        expect(found, job, "active", number(job, "/status/active"), 0);
        if is(job, "Complete") {
            let wanted = number(job, "/spec/completions").unwrap_or(1);
            let succeeded = number(job, "/status/succeeded").unwrap_or(0);
            let most =
                if text(job, "/spec/completionMode") == "Indexed" { wanted } else { wanted + model.too_many(job) };
            expect(found, job, "succeeded", Some(succeeded), succeeded.clamp(wanted, most));
        }
        for path in ["/status/uncountedTerminatedPods/succeeded", "/status/uncountedTerminatedPods/failed"] {
            if !list(job, path).is_empty() {
                found.push(format!("Job {} has uncounted pods", name(job)));
            }
        }
        for pod in model.pods_of(uid(job)) {
            if !over(pod) {
                found.push(format!("Job {} is finished and has pod {} running", name(job), name(pod)));
            }
            if list(pod, "/metadata/finalizers").iter().any(|f| f == "batch.kubernetes.io/job-tracking") {
                found.push(format!("Job {} is finished and holds pod {}", name(job), name(pod)));
            }
        }
    }
}

fn cron_jobs(model: &Model, found: &mut Vec<String>) {
    for cron in model.all("cronjobs") {
        let own = model.all("jobs").filter(|job| owner(job).is_some_and(|(_, u)| u == uid(cron)));
        let own: Vec<&Value> = own.collect();
        for condition in ["Complete", "Failed"] {
            let count = own.iter().filter(|job| is(job, condition)).count();
            if count > 1 {
                found.push(format!("CronJob {} keeps {count} jobs that are {condition}", name(cron)));
            }
        }
        let running = own.iter().filter(|job| !is(job, "Complete") && !is(job, "Failed")).count();
        expect(found, cron, "active jobs", Some(signed(list(cron, "/status/active").len())), signed(running));
    }
}

/// Slices and endpoints have the ready pods, and no others.
fn services(model: &Model, found: &mut Vec<String>) {
    for service in model.all("services/specs").filter(|service| service["spec"]["selector"].is_object()) {
        let pods = model
            .all("pods")
            .filter(|pod| namespace(pod) == namespace(service) && selected(pod, &service["spec"]["selector"]));
        let ready: BTreeSet<&str> =
            pods.filter(|pod| active(pod) && is(pod, "Ready")).map(|pod| text(pod, "/status/podIP")).collect();
        let own = text(service, "/metadata/name");
        let mut told: Vec<&str> = Vec::new();
        for slice in model.all("endpointslices").filter(|slice| namespace(slice) == namespace(service)) {
            if slice["metadata"]["labels"]["kubernetes.io/service-name"] == own {
                let endpoints = list(slice, "/endpoints").iter();
                let endpoints = endpoints.filter(|e| e["conditions"]["ready"] != Value::Bool(false));
                told.extend(endpoints.flat_map(|e| list(e, "/addresses")).filter_map(Value::as_str));
            }
        }
        told.sort_unstable();
        if told.iter().ne(ready.iter()) {
            found.push(format!("Service {} has slices with {told:?}, its ready pods are {ready:?}", name(service)));
        }
        let endpoints = model.all("services/endpoints").find(|e| name(e) == name(service));
        let subsets = endpoints.map(|e| list(e, "/subsets")).unwrap_or_default().iter();
        let mut told: Vec<&str> = subsets.flat_map(|s| list(s, "/addresses")).map(|a| text(a, "/ip")).collect();
        told.sort_unstable();
        if told.iter().ne(ready.iter()) {
            found.push(format!("Service {} has endpoints {told:?}, its ready pods are {ready:?}", name(service)));
        }
    }
}

fn budgets(model: &Model, found: &mut Vec<String>) {
    for budget in model.all("poddisruptionbudgets") {
        observed(found, budget);
        let pods = model.all("pods").filter(|pod| {
            namespace(pod) == namespace(budget)
                && selected(pod, &budget["spec"]["selector"]["matchLabels"])
                && active(pod)
                && is(pod, "Ready")
        });
        expect(found, budget, "currentHealthy", number(budget, "/status/currentHealthy"), signed(pods.count()));
    }
}

fn quotas(model: &Model, found: &mut Vec<String>) {
    for quota in model.all("resourcequotas") {
        let pods = model.all("pods").filter(|pod| namespace(pod) == namespace(quota) && !over(pod)).count();
        let used = text(quota, "/status/used/pods").parse().ok();
        expect(found, quota, "used pods", used, signed(pods));
        if let Some(hard) = has_quota(namespace(quota)).filter(|hard| signed(pods) > *hard) {
            found.push(format!("quota {} allows {hard} pods, there are {pods}", name(quota)));
        }
    }
}
