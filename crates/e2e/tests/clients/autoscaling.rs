//! Horizontal pod autoscalers by pods, object and external metrics, and without any metrics API: our controller manager with an
//! API server of the test's own and a metrics server behind the aggregator. Pods run nowhere: the test says that they are ready.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use async_trait::async_trait;
use base64::Engine;
use e2e::server::{ApiServer, own_etcd};
use serde_json::{Value, json};
use wire::{Body, ConnInfo, Service};

use crate::kubectl::Kubectl;
use crate::report::Report;

const CREATE: &[&str] = &["create", "-f", "-"];
const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";

/// What the metrics server says, and what it was asked.
#[derive(Default)]
struct Readings {
    /// Of each pod, and their names.
    pods: &'static str,
    names: Vec<String>,
    object: &'static str,
    external: &'static [&'static str],
    asked: Vec<String>,
}

struct Metrics(Arc<Mutex<Readings>>);

fn discovery(group: &str, version: &str, resources: &[&str]) -> Value {
    let resource = |name: &&str| json!({"name": name, "namespaced": true, "kind": "MetricValueList", "verbs": ["get"]});
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("{group}/{version}"),
        "resources": resources.iter().map(resource).collect::<Vec<_>>(),
    })
}

fn value(kind: &str, name: &str, value: &str) -> Value {
    json!({
        "describedObject": {"kind": kind, "name": name, "namespace": "default", "apiVersion": "/v1"},
        "metric": {"name": "any"}, "timestamp": "2026-01-01T00:00:00Z", "value": value,
    })
}

impl Metrics {
    fn answer(&self, path: &str, query: &str) -> Option<Value> {
        let mut readings = lock(&self.0);
        let custom = |items: Vec<Value>| json!({"kind": "MetricValueList", "apiVersion": format!("{CUSTOM}/v1beta2"), "metadata": {}, "items": items});
        let discovered = match path {
            "/apis/custom.metrics.k8s.io/v1beta2" => {
                Some(discovery(CUSTOM, "v1beta2", &["pods/qps", "services/requests"]))
            }
            "/apis/external.metrics.k8s.io/v1beta1" => Some(discovery(EXTERNAL, "v1beta1", &["queue_messages"])),
            _ => None,
        };
        if discovered.is_some() {
            return discovered;
        }
        readings.asked.push(format!("{path}?{query}"));
        let default = path.split_once("/namespaces/default/")?.1;
        Some(match default {
            "pods/*/qps" => custom(readings.names.iter().map(|name| value("Pod", name, readings.pods)).collect()),
            "services/front/requests" => custom(vec![value("Service", "front", readings.object)]),
            "queue_messages" => {
                let item = |value: &&str| json!({"metricName": "queue_messages", "metricLabels": {"queue": "q"}, "timestamp": "2026-01-01T00:00:00Z", "value": value});
                let items: Vec<Value> = readings.external.iter().map(item).collect();
                json!({"kind": "ExternalMetricValueList", "apiVersion": format!("{EXTERNAL}/v1beta1"), "metadata": {}, "items": items})
            }
            _ => return None,
        })
    }
}

#[async_trait]
impl Service for Metrics {
    async fn call(&self, request: http::Request<Body>, _: Arc<ConnInfo>) -> http::Response<Body> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let said = self.answer(path, query);
        let code = if said.is_some() { 200 } else { 404 };
        let missing = || {
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "NotFound", "code": 404,
                   "message": "the server could not find the metric for this"})
        };
        let mut response = http::Response::new(wire::full(said.unwrap_or_else(missing).to_string()));
        *response.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
        response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
        response
    }
}

/// The controller manager; dropping it ends it.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Manager {
    fn start(binary: &Path, kubeconfig: &Path, log: &Path) -> Result<Self> {
        let log = std::fs::File::create(log).context("make a log")?;
        let mut command = Command::new(binary);
        command.arg("kube-controller-manager").arg("--kubeconfig").arg(kubeconfig);
        command.args(["--leader-elect=false", "--secure-port=0", "--horizontal-pod-autoscaler-sync-period=1s"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        Ok(Self(child.context("start the controller manager")?))
    }
}

/// An autoscaler of a Deployment of its name.
fn autoscaler(name: &str, max: u32, metric: &Value, behavior: &Value) -> Value {
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 1, "maxReplicas": max, "metrics": [metric], "behavior": behavior,
        },
    })
}

fn target(name: &str) -> Value {
    let pod = json!({"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "none"}]}});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": pod},
    })
}

struct World {
    kubectl: Kubectl,
}

impl World {
    fn wait(&self, what: &str, path: &str, value: &str) -> Result<()> {
        let wanted = format!("--for=jsonpath={{{path}}}={value}");
        let said = self.kubectl.ok(&["wait", what, &wanted, "--timeout=60s"], &Value::Null);
        said.map(drop).with_context(|| {
            let now = self.kubectl.ok(&["get", what, "-o", "json"], &Value::Null);
            format!("{what} as it is: {}", now.unwrap_or_default())
        })
    }

    fn condition(&self, name: &str, type_: &str, status: &str, reason: &str, message: &str) -> Result<()> {
        let path = |field: &str| format!(".status.conditions[?(@.type==\"{type_}\")].{field}");
        let what = format!("hpa/{name}");
        self.wait(&what, &path("reason"), reason)?;
        let found = self.kubectl.get(&["hpa", name])?;
        let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let own = conditions.iter().find(|c| c["type"] == type_).context("no condition")?;
        ensure!(own["status"] == status && own["message"] == message, "{own} is not {status} {message:?}");
        Ok(())
    }

    fn event(&self, name: &str, reason: &str, text: &str) -> Result<()> {
        let selector = format!("involvedObject.name={name},reason={reason}");
        let mut said = Vec::new();
        for _ in 0..100 {
            let found = self.kubectl.get(&["events", "--field-selector", &selector])?;
            let messages = found["items"].as_array().into_iter().flatten().filter_map(|e| e["message"].as_str());
            said = messages.map(str::to_owned).collect();
            if said.iter().any(|message| message.contains(text)) {
                return Ok(());
            }
        }
        anyhow::bail!("no event {reason} {text:?} of {name}: {said:?}")
    }

    /// The pods of a Deployment run and are ready; nothing else would say so here.
    fn make_ready(&self, name: &str) -> Result<()> {
        self.wait(&format!("deployment/{name}"), ".status.replicas", "2")?;
        let pods = self.kubectl.get(&["pods", "-l", &format!("app={name}")])?;
        for pod in pods["items"].as_array().into_iter().flatten() {
            let name = pod["metadata"]["name"].as_str().context("no name")?;
            let now = "2026-01-01T00:00:00Z";
            let status = json!({"status": {"phase": "Running", "startTime": now, "conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": now},
            ]}});
            self.kubectl
                .ok(&["patch", "pod", name, "--subresource=status", "-p", &status.to_string()], &Value::Null)?;
        }
        Ok(())
    }
}

fn pods_metric() -> Value {
    let target = json!({"type": "AverageValue", "averageValue": "10"});
    json!({"type": "Pods", "pods": {"metric": {"name": "qps"}, "target": target}})
}

fn object_metric() -> Value {
    let of = json!({"apiVersion": "v1", "kind": "Service", "name": "front"});
    let target = json!({"type": "Value", "value": "50"});
    json!({"type": "Object", "object": {"metric": {"name": "requests"}, "describedObject": of, "target": target}})
}

fn external_metric() -> Value {
    let metric = json!({"name": "queue_messages", "selector": {"matchLabels": {"queue": "q"}}});
    let target = json!({"type": "AverageValue", "averageValue": "25"});
    json!({"type": "External", "external": {"metric": metric, "target": target}})
}

fn resource_metric() -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}})
}

/// Nobody serves any metrics: a condition and an event say which is missing, and nothing is scaled.
fn without_metrics(world: &World) -> Result<()> {
    let upwards = json!({"scaleDown": {"stabilizationWindowSeconds": 0, "selectPolicy": "Disabled"}});
    for (name, max, metric, behavior) in [
        ("by-pods", 4, pods_metric(), Value::Null),
        ("by-object", 9, object_metric(), upwards),
        ("by-external", 9, external_metric(), Value::Null),
        ("by-cpu", 9, resource_metric(), Value::Null),
    ] {
        world.kubectl.ok(CREATE, &target(name))?;
        world.kubectl.ok(CREATE, &autoscaler(name, max, &metric, &behavior))?;
        world.make_ready(name)?;
    }
    let custom =
        "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered";
    let queue =
        "&LabelSelector{MatchLabels:map[string]string{queue: q,},MatchExpressions:[]LabelSelectorRequirement{},}";
    let absent = "the server could not find the requested resource";
    for (name, reason, why) in [
        ("by-pods", "FailedGetPodsMetric", format!("unable to get metric qps: {custom}")),
        (
            "by-object",
            "FailedGetObjectMetric",
            format!("unable to get metric requests: {custom} on Service default/front"),
        ),
        (
            "by-external",
            "FailedGetExternalMetric",
            format!(
                "unable to get external metric default/queue_messages/{queue}: unable to fetch metrics from external metrics API: {absent} (get queue_messages.external.metrics.k8s.io)"
            ),
        ),
        (
            "by-cpu",
            "FailedGetResourceMetric",
            format!(
                "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: {absent} (get pods.metrics.k8s.io)"
            ),
        ),
    ] {
        let message = format!("the HPA was unable to compute the replica count: {why}");
        world.condition(name, "ScalingActive", "False", reason, &message)?;
        world.event(name, reason, "unable to fetch metrics from")?;
        world.event(
            name,
            "FailedComputeMetricsReplicas",
            "invalid metrics (1 invalid out of 1), first error is: failed to get",
        )?;
        world.wait(&format!("deployment/{name}"), ".spec.replicas", "2")?;
    }
    Ok(())
}

fn register(world: &World, ca: &pki::Pair, port: u16) -> Result<()> {
    let bundle = base64::engine::general_purpose::STANDARD.encode(ca.cert_pem());
    world.kubectl.ok(
        CREATE,
        &json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "metrics", "namespace": "default"},
            "spec": {"type": "ExternalName", "externalName": "localhost"},
        }),
    )?;
    for (group, version) in [(CUSTOM, "v1beta2"), (EXTERNAL, "v1beta1")] {
        let name = format!("{version}.{group}");
        let api = json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 10,
                     "caBundle": bundle, "service": {"name": "metrics", "namespace": "default", "port": port}},
        });
        world.kubectl.ok(CREATE, &api)?;
        let what = format!("apiservice/{name}");
        world.kubectl.ok(&["wait", "--for=condition=Available=True", &what, "--timeout=60s"], &Value::Null)?;
    }
    Ok(())
}

fn lock(readings: &Mutex<Readings>) -> MutexGuard<'_, Readings> {
    readings.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name_pods(world: &World, readings: &Mutex<Readings>) -> Result<()> {
    let pods = world.kubectl.get(&["pods", "-l", "app=by-pods"])?;
    let names = pods["items"].as_array().into_iter().flatten().filter_map(|pod| pod["metadata"]["name"].as_str());
    lock(readings).names = names.map(str::to_owned).collect();
    Ok(())
}

fn grows(world: &World, readings: &Mutex<Readings>) -> Result<()> {
    let valid = |metric: &str| format!("the HPA was able to successfully calculate a replica count from {metric}");
    let queue = "queue_messages(&LabelSelector{MatchLabels:map[string]string{queue: q,},MatchExpressions:[]LabelSelectorRequirement{},})";
    for (name, metric) in [
        ("by-pods", "pods metric qps".to_owned()),
        ("by-object", "Service metric requests".to_owned()),
        ("by-external", format!("external metric {queue}")),
    ] {
        world.wait(&format!("deployment/{name}"), ".spec.replicas", "4")?;
        world.event(name, "SuccessfulRescale", &format!("New size: 4; reason: {metric} above target"))?;
        world.condition(name, "ScalingActive", "True", "ValidMetricFound", &valid(&metric))?;
    }
    let asked = lock(readings).asked.join("\n");
    for wanted in [
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/pods/*/qps?labelSelector=app%3Dby-pods",
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/default/services/front/requests?",
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/default/queue_messages?labelSelector=queue%3Dq",
    ] {
        ensure!(asked.contains(wanted), "{wanted} was not asked: {asked}");
    }
    // Nobody serves metrics.k8s.io: that one stays as it is.
    world.wait("deployment/by-cpu", ".spec.replicas", "2")
}

fn limits(world: &World, readings: &Mutex<Readings>) -> Result<()> {
    let most = "the desired replica count is more than the maximum replica count";
    // Three times what is wanted of each, but no more than four are allowed.
    lock(readings).pods = "90";
    world.condition("by-pods", "ScalingLimited", "True", "TooManyReplicas", most)?;
    lock(readings).object = "10";
    let rate = "the desired replica count is decreasing faster than the maximum scale rate";
    world.condition("by-object", "ScalingLimited", "True", "ScaleDownLimit", rate)?;
    world.wait("deployment/by-object", ".spec.replicas", "4")
}

/// Runs the cases.
///
/// # Errors
/// What they need does not start.
pub async fn run(report: &Report, binary: &Path) -> Result<()> {
    let Some(program) = e2e::kubectl() else {
        report.skip("autoscaling", "there is no kubectl");
        return Ok(());
    };
    let dir = tempfile::Builder::new().prefix("corten-autoscaling-").tempdir().context("make a folder")?;
    let (_etcd, url) = own_etcd(binary, &dir.path().join("etcd"))?;
    let server = ApiServer::start(binary, dir.path(), &url, &["--authorization-mode=RBAC".to_owned()])?;
    let log = dir.path().join("manager.log");
    let _manager = Manager::start(binary, server.kubeconfig(), &log)?;
    let world = World { kubectl: Kubectl { program, kubeconfig: server.kubeconfig().to_owned() } };
    let readings = Arc::new(Mutex::new(Readings {
        pods: "30",
        names: Vec::new(),
        object: "100",
        external: &["60", "40"],
        asked: Vec::new(),
    }));
    let ca = pki::Pair::new_ca("metrics").context("make an authority")?;
    let shutdown = rt::Shutdown::new();
    let source = crate::hooks::identity(&ca, &["metrics.default.svc"], &[&server.pki.front_proxy_ca])?;
    let port = crate::hooks::serve(&source, Arc::new(Metrics(readings.clone())), &shutdown).await?;
    let before = report.failures();
    // kubectl is waited for on this thread, while the metrics server runs on others.
    report.note("autoscaling::without_metrics", without_metrics(&world));
    name_pods(&world, &readings)?;
    report.note("autoscaling::registration", register(&world, &ca, port));
    report.note("autoscaling::grows", grows(&world, &readings));
    report.note("autoscaling::limits", limits(&world, &readings));
    if report.failures() > before {
        eprintln!("== controller manager\n{}", std::fs::read_to_string(&log).unwrap_or_default());
    }
    shutdown.cancel();
    Ok(())
}
