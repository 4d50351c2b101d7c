//! The whole kubelet against a runtime and an API server in memory.

mod fake_api;
mod fake_runtime;

use std::sync::Arc;
use std::time::{Duration, Instant};

use client::Client;
use fake_api::FakeApi;
use fake_runtime::Fake;
use rt::Shutdown;
use serde_json::{Value, json};

struct Node {
    api: Arc<FakeApi>,
    runtime: Arc<Fake>,
    shutdown: Shutdown,
    dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let (api, runtime) = (FakeApi::new(), Fake::new(&["img:1", "exit:0", "exit:1"]));
        let node = Self { api, runtime, shutdown: Shutdown::new(), dir: tempfile::tempdir().unwrap() };
        node.run();
        node
    }

    fn run(&self) {
        let mut config = kubelet::Config::new("node");
        config.root_dir = self.dir.path().join("kubelet");
        config.pod_logs_dir = self.dir.path().join("logs");
        config.static_pod_path = Some(self.dir.path().join("manifests"));
        std::fs::create_dir_all(self.dir.path().join("manifests")).unwrap();
        config.manage_cgroups = false;
        (config.server.port, config.server.healthz_port) = (0, 0);
        let client = Client::new(self.api.clone(), "kubelet");
        let runtime = self.runtime.clone();
        let run = kubelet::run(config, Some(client), runtime.clone(), runtime.clone(), runtime, self.shutdown.clone());
        tokio::spawn(async move { run.await.unwrap() });
    }

    fn path(name: &str) -> String {
        format!("/api/v1/namespaces/n/pods/{name}")
    }

    fn create(&self, name: &str, spec: Value) {
        let mut full = json!({"nodeName": "node", "restartPolicy": "Always", "terminationGracePeriodSeconds": 5});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let meta = json!({"name": name, "namespace": "n", "uid": format!("uid-{name}"), "generation": 1});
        self.api.put(
            &Self::path(name),
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": full, "status": {"phase": "Pending"}}),
        );
    }

    /// Waits until a pod's object satisfies a condition.
    async fn until(&self, name: &str, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let object = self.api.get(&Self::path(name)).unwrap_or_default();
            if test(&object) {
                return object;
            }
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "{what}: {object:#}\n{:?}\n{:?}",
                self.runtime.log(),
                self.api.events()
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shutdown.cancel();
        // The tmpfs of secrets, where the test could mount one.
        let _ = std::process::Command::new("umount")
            .arg(self.dir.path().join("kubelet/memory"))
            .stderr(std::process::Stdio::null())
            .status();
    }
}

fn running(object: &Value) -> bool {
    object["status"]["phase"] == "Running" && ready(object)
}

fn ready(object: &Value) -> bool {
    object["status"]["conditions"]
        .as_array()
        .is_some_and(|l| l.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_runs_survives_a_restart_and_goes() {
    let node = Node::start().await;
    let start = Instant::now();
    node.create("p", json!({"containers": [{"name": "a", "image": "img:1", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}], "volumes": [{"name": "v", "emptyDir": {}}]}));
    let object = node.until("p", "running", running).await;
    println!("created to Running: {:?}", start.elapsed());
    assert_eq!(object["status"]["podIP"], "10.0.0.2");
    assert_eq!(object["status"]["containerStatuses"][0]["restartCount"], 0);
    assert_eq!(object["status"]["containerStatuses"][0]["containerID"], "fake://c2");
    // The first kubelet still runs beside the second in this test; a restart must find the pod and start nothing.
    let before = node.runtime.log().len();
    node.run();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(node.runtime.log().len(), before, "{:?}", node.runtime.log());
    let start = Instant::now();
    node.api.delete(&Node::path("p"), 5);
    node.until("p", "gone", Value::is_null).await;
    println!("deleted to gone: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_counted_and_backed_off() {
    let node = Node::start().await;
    node.create("p", json!({"containers": [{"name": "a", "image": "exit:1"}]}));
    let object = node
        .until("p", "crash loop", |o| {
            o["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CrashLoopBackOff"
        })
        .await;
    let status = &object["status"]["containerStatuses"][0];
    assert_eq!((&status["restartCount"], &status["lastState"]["terminated"]["exitCode"]), (&json!(1), &json!(1)));
    assert_eq!(object["status"]["phase"], "Running");
    assert_eq!(node.runtime.log(), ["sandbox p", "start a", "start a"]);
    node.api.delete(&Node::path("p"), 1);
    node.until("p", "gone", Value::is_null).await;
    let start = Instant::now();
    while !node.runtime.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(node.api.events().contains(&"BackOff".to_owned()), "{:?}", node.api.events());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn init_containers_sidecars_and_the_end() {
    let node = Node::start().await;
    let init = json!([{"name": "i", "image": "exit:0"}, {"name": "s", "image": "img:1", "restartPolicy": "Always"}]);
    node.create(
        "p",
        json!({"restartPolicy": "Never", "initContainers": init, "containers": [{"name": "a", "image": "img:1"}]}),
    );
    node.until("p", "running", running).await;
    assert_eq!(node.runtime.log(), ["sandbox p", "start i", "start s", "start a"]);
    node.runtime.exit("a", 0);
    let object = node.until("p", "succeeded", |o| o["status"]["phase"] == "Succeeded").await;
    assert!(object["status"]["containerStatuses"][0]["state"]["terminated"].is_object());
    node.until("p", "stopped", |_| node.runtime.log().contains(&"stop sandbox".to_owned())).await;
    assert!(node.runtime.log().contains(&"stop s".to_owned()), "{:?}", node.runtime.log());
    node.api.delete(&Node::path("p"), 5);
    node.until("p", "gone", Value::is_null).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_config_map_is_waited_for() {
    let node = Node::start().await;
    let env = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "k"}}}]);
    node.create("p", json!({"containers": [{"name": "a", "image": "img:1", "env": env}]}));
    let object = node
        .until("p", "waiting", |o| {
            o["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        })
        .await;
    assert_eq!(object["status"]["containerStatuses"][0]["state"]["waiting"]["message"], "configmap \"m\" not found");
    node.api.put(
        "/api/v1/namespaces/n/configmaps/m",
        json!({"metadata": {"name": "m", "namespace": "n"}, "data": {"k": "v"}}),
    );
    node.until("p", "running", running).await;
    node.create("q", json!({"containers": [{"name": "a", "image": "absent"}]}));
    node.until("q", "pull", |o| {
        o["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] == "ImagePullBackOff"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_decide_readiness_and_restarts() {
    let node = Node::start().await;
    let exec = |c: &str| json!({"exec": {"command": [c]}, "periodSeconds": 1, "failureThreshold": 1});
    node.create("p", json!({"containers": [{"name": "a", "image": "img:1", "readinessProbe": exec("true"), "startupProbe": exec("true")}]}));
    node.until("p", "ready", running).await;
    node.create("q", json!({"containers": [{"name": "b", "image": "img:1", "livenessProbe": exec("false")}]}));
    node.until("q", "restarted", |o| o["status"]["containerStatuses"][0]["restartCount"] == 1).await;
    assert!(node.api.events().contains(&"Unhealthy".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_pods_at_once() {
    let node = Node::start().await;
    let start = Instant::now();
    for i in 0..50 {
        node.create(&format!("p{i}"), json!({"containers": [{"name": "a", "image": "img:1"}]}));
    }
    for i in 0..50 {
        node.until(&format!("p{i}"), "running", running).await;
    }
    println!("50 pods: {:?}, {} status phases", start.elapsed(), node.api.phases().len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_pods_come_and_go() {
    let node = Node::start().await;
    let manifest = node.dir.path().join("manifests/web.yaml");
    std::fs::write(
        &manifest,
        "kind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: w, image: 'img:1', imagePullPolicy: Never}]}\n",
    )
    .unwrap();
    node.until("none", "started", |_| node.runtime.log().contains(&"start w".to_owned())).await;
    std::fs::remove_file(manifest).unwrap();
    node.until("none", "removed", |_| node.runtime.is_empty()).await;
}
