//! The chain with its default plugins against a small fixed world.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Edit, Lookup, ObjectEvent, UserInfo};
use futures::stream::{self, BoxStream, StreamExt};
use meta::{GroupVersionKind, GroupVersionResource, Object, Status};
use parking_lot::Mutex;
use registry::{Operation, Warnings};
use serde_json::{Value, json};

use super::*;

/// Objects by resource, namespace and name; writes count up the version.
#[derive(Default)]
pub(crate) struct World(Mutex<BTreeMap<(String, String, String), Arc<Object>>>);

impl World {
    pub(crate) fn put(&self, resource: &str, value: Value) {
        let object = Object::from_value(value).unwrap();
        let key = (resource.to_owned(), object.namespace().to_owned(), object.name().to_owned());
        self.0.lock().insert(key, Arc::new(object));
    }

    fn all(&self, resource: &str, namespace: &str) -> Vec<Arc<Object>> {
        let fits = |(r, ns, _): &(String, String, String)| r == resource && (namespace.is_empty() || ns == namespace);
        self.0.lock().iter().filter(|(key, _)| fits(key)).map(|(_, o)| o.clone()).collect()
    }
}

#[async_trait]
impl Lookup for World {
    async fn get(&self, r: &GroupVersionResource, ns: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        Ok(self.0.lock().get(&(r.resource.clone(), ns.to_owned(), name.to_owned())).cloned())
    }
    async fn get_live(&self, r: &GroupVersionResource, ns: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        self.get(r, ns, name).await
    }
    async fn list(&self, r: &GroupVersionResource, ns: &str) -> Result<Vec<Arc<Object>>, Status> {
        Ok(self.all(&r.resource, ns))
    }
    fn watch(&self, r: &GroupVersionResource) -> BoxStream<'static, ObjectEvent> {
        stream::iter([ObjectEvent::Replace(self.all(&r.resource, ""))]).chain(stream::pending()).boxed()
    }
}

#[async_trait]
impl Edit for World {
    async fn create(&self, r: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        self.put(&r.resource, object.clone().into());
        Ok(object)
    }
    async fn update(&self, r: &GroupVersionResource, object: Object) -> Result<Object, Status> {
        self.create(r, object).await
    }
    async fn update_status(&self, r: &GroupVersionResource, mut object: Object) -> Result<Object, Status> {
        let version: u64 = object.resource_version().parse().unwrap_or(0);
        object.set_meta_str("resourceVersion", &(version + 1).to_string());
        self.create(r, object).await
    }
    async fn delete(&self, _r: &GroupVersionResource, _object: &Object) -> Result<(), Status> {
        Ok(())
    }
}

/// A chain in a small world.
pub(crate) struct Bench {
    pub(crate) world: Arc<World>,
    chain: Chain,
    deps: Deps,
    user: UserInfo,
    pub(crate) warnings: Warnings,
}

impl Bench {
    fn new(enable: &[&str]) -> Self {
        Self::with_caller(enable, None)
    }

    pub(crate) fn with_caller(enable: &[&str], webhooks: Option<Arc<dyn webhook::Caller>>) -> Self {
        Self::build(enable, webhooks, Settings::default()).unwrap()
    }

    /// With configurations by plugin.
    pub(crate) fn configured(enable: &[&str], configs: Value) -> Result<Self, String> {
        let configs = configs.as_object().unwrap().clone().into_iter().collect();
        Self::build(enable, None, Settings { configs, ..Settings::default() })
    }

    fn build(enable: &[&str], webhooks: Option<Arc<dyn webhook::Caller>>, settings: Settings) -> Result<Self, String> {
        let world = Arc::new(World::default());
        world.put("namespaces", json!({"metadata": {"name": "ns"}, "status": {"phase": "Active"}}));
        world.put(
            "serviceaccounts",
            json!({"metadata": {"namespace": "ns", "name": "default"}, "imagePullSecrets": [{"name": "pull"}]}),
        );
        let deps = Deps { api: world.clone(), authorizer: None, escalation: None, webhooks, settings };
        let enable: Vec<String> = enable.iter().map(|s| (*s).to_owned()).collect();
        let chain = Chain::new(&select(&enable, &[]).unwrap(), deps.clone())?;
        Ok(Self { world, chain, deps, user: UserInfo::new("jane", &[]), warnings: Warnings::default() })
    }

    /// Runs both halves of a request such as `CREATE pods ns` or `UPDATE nodes/status - n1`.
    pub(crate) async fn run(
        &self,
        line: &str,
        old: Option<&Object>,
        object: Option<Value>,
    ) -> Result<Option<Object>, Status> {
        let words: Vec<&str> = line.split(' ').collect();
        let operation = match words[0] {
            "CREATE" => Operation::Create,
            "UPDATE" => Operation::Update,
            _ => Operation::Delete,
        };
        let (resource, subresource) = words[1].split_once('/').unwrap_or((words[1], ""));
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let gvr = GroupVersionResource::new(group, "v1", resource);
        let kind = GroupVersionKind::new(group, "v1", "Kind");
        let request = Request {
            operation,
            kind: &kind,
            resource: &gvr,
            subresource,
            namespace: words[2].trim_matches('-'),
            name: words.get(3).copied().unwrap_or(""),
            old,
            options: &Value::Null,
            dry_run: false,
            user: &self.user,
            warnings: &self.warnings,
            registry: None,
            deps: &self.deps,
            round: &webhook::Round::default(),
        };
        let mut object = object.map(|o| Object::from_value(o).unwrap());
        self.chain.run_mutating(&request, object.as_mut()).await?;
        self.chain.run_validating(&request, object.as_ref()).await?;
        Ok(object)
    }

    async fn refusal(&self, line: &str, old: Option<&Object>, object: Option<Value>) -> String {
        self.run(line, old, object).await.unwrap_err().message
    }
}

fn pod(spec: Value) -> Value {
    let mut pod =
        json!({"metadata": {"namespace": "ns", "name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    pod
}

#[tokio::test(start_paused = true)]
async fn a_plain_pod_gets_what_upstream_gives() {
    let bench = Bench::new(&[]);
    let made = bench.run("CREATE pods ns p", None, Some(pod(json!({})))).await.unwrap().unwrap();
    assert_eq!(made.get_str(&["spec", "serviceAccountName"]), "default");
    assert_eq!(made.get(&["spec", "priority"]), Some(&json!(0)));
    assert_eq!(made.get_str(&["spec", "preemptionPolicy"]), "PreemptLowerPriority");
    assert_eq!(made.get(&["spec", "imagePullSecrets"]), Some(&json!([{"name": "pull"}])));
    assert_eq!(made.get(&["spec", "tolerations"]).unwrap().as_array().unwrap().len(), 2);
    let mount = &made.get(&["spec", "containers"]).unwrap()[0]["volumeMounts"][0];
    assert_eq!(mount["mountPath"], "/var/run/secrets/kubernetes.io/serviceaccount");
    let volume = &made.get(&["spec", "volumes"]).unwrap()[0];
    assert_eq!((volume["name"].clone(), &volume["projected"]["defaultMode"]), (mount["name"].clone(), &json!(420)));

    let off =
        bench.run("CREATE pods ns p", None, Some(pod(json!({"automountServiceAccountToken": false})))).await.unwrap();
    assert!(off.unwrap().get(&["spec", "volumes"]).is_none());
    for (spec, message) in [
        (
            json!({"serviceAccountName": "x"}),
            "pods \"p\" is forbidden: error looking up service account ns/x: serviceaccount \"x\" not found",
        ),
        (json!({"priorityClassName": "x"}), "pods \"p\" is forbidden: no PriorityClass with name x was found"),
        (json!({"runtimeClassName": "x"}), "pods \"p\" is forbidden: pod rejected: RuntimeClass \"x\" not found"),
        (
            json!({"priority": 5}),
            "pods \"p\" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 0 from the given PriorityClass name",
        ),
    ] {
        assert_eq!(bench.refusal("CREATE pods ns p", None, Some(pod(spec))).await, message);
    }
}

#[tokio::test]
async fn namespaces_bound_what_is_in_them() {
    let bench = Bench::new(&[]);
    let map = || Some(json!({"metadata": {"name": "m"}}));
    assert_eq!(bench.refusal("CREATE configmaps gone m", None, map()).await, "namespaces \"gone\" not found");
    bench.world.put("namespaces", json!({"metadata": {"name": "ns"}, "status": {"phase": "Terminating"}}));
    assert_eq!(
        bench.refusal("CREATE configmaps ns m", None, map()).await,
        "configmaps \"m\" is forbidden: unable to create new content in namespace ns because it is being terminated"
    );
    bench.run("UPDATE configmaps ns m", Some(&Object::default()), map()).await.unwrap();
    let kept = bench.refusal("DELETE namespaces - default", Some(&Object::default()), None).await;
    assert_eq!(kept, "namespaces \"default\" is forbidden: this namespace may not be deleted");
}

#[tokio::test]
async fn limits_and_quotas_hold() {
    let bench = Bench::new(&[]);
    bench.world.put(
        "limitranges",
        json!({"metadata": {"namespace": "ns", "name": "l"}, "spec": {"limits": [
        {"type": "Container", "defaultRequest": {"cpu": "100m"}, "default": {"cpu": "200m"}, "max": {"cpu": "1"}}]}}),
    );
    let made = bench.run("CREATE pods ns p", None, Some(pod(json!({})))).await.unwrap().unwrap();
    assert_eq!(
        made.get(&["spec", "containers"]).unwrap()[0]["resources"],
        json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "200m"}})
    );
    assert_eq!(
        made.annotation("kubernetes.io/limit-ranger"),
        Some("LimitRanger plugin set: cpu request for container c; cpu limit for container c")
    );
    let big = json!({"containers": [{"name": "c", "resources": {"limits": {"cpu": "2"}}}]});
    assert_eq!(
        bench.refusal("CREATE pods ns p", None, Some(pod(big))).await,
        "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
    bench.world.put(
        "resourcequotas",
        json!({"metadata": {"namespace": "ns", "name": "q", "uid": "1", "resourceVersion": "5"},
        "status": {"hard": {"pods": "2", "requests.cpu": "150m"}, "used": {"pods": "0", "requests.cpu": "0"}}}),
    );
    bench.run("CREATE pods ns p", None, Some(pod(json!({})))).await.unwrap();
    let stored = bench.world.all("resourcequotas", "ns")[0].clone();
    assert_eq!(stored.get(&["status", "used"]), Some(&json!({"pods": "1", "requests.cpu": "100m"})));
    assert_eq!(
        bench.refusal("CREATE pods ns p", None, Some(pod(json!({})))).await,
        "pods \"p\" is forbidden: exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=100m, limited: requests.cpu=150m"
    );
    assert_eq!(bench.world.all("resourcequotas", "ns")[0], stored, "a refused pod is not charged");
}

#[tokio::test]
async fn pod_security_is_enforced_and_warned() {
    let bench = Bench::new(&[]);
    let labelled = |level: &str| json!({"metadata": {"name": "ns", "labels": {"pod-security.kubernetes.io/enforce": level}}, "status": {"phase": "Active"}});
    bench.world.put("namespaces", labelled("baseline"));
    bench.run("CREATE pods ns p", None, Some(pod(json!({})))).await.unwrap();
    assert_eq!(
        bench.refusal("CREATE pods ns p", None, Some(pod(json!({"hostNetwork": true})))).await,
        "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)"
    );
    let template =
        json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": {"hostPID": true, "containers": []}}}});
    bench.run("CREATE deployments.apps ns d", None, Some(template)).await.unwrap();
    assert_eq!(
        bench.warnings.take(),
        ["would violate PodSecurity \"baseline:latest\": host namespaces (hostPID=true)"]
    );
}

#[tokio::test]
async fn nodes_keep_to_themselves() {
    let mut bench = Bench::new(&["NodeRestriction"]);
    bench.user = UserInfo::node("n1");
    let node = |labels: Value| json!({"metadata": {"name": "n1", "labels": labels}, "spec": {}});
    let made = bench
        .run("CREATE nodes - n1", None, Some(node(json!({"kubernetes.io/hostname": "n1", "a": "b"}))))
        .await
        .unwrap();
    assert_eq!(
        made.unwrap().get(&["spec", "taints"]),
        Some(&json!([{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]))
    );
    let old = Object::from_value(node(json!({}))).unwrap();
    assert_eq!(
        bench.refusal("UPDATE nodes - n1", Some(&old), Some(node(json!({"node-role.kubernetes.io/master": ""})))).await,
        "nodes \"n1\" is forbidden: is not allowed to modify labels: node-role.kubernetes.io/master"
    );
    assert_eq!(
        bench.refusal("UPDATE nodes/status - n2", Some(&old), Some(node(json!({})))).await,
        "nodes \"n2\" is forbidden: node \"n1\" is not allowed to modify node \"n2\""
    );
    let bound = Object::from_value(pod(json!({"nodeName": "n2"}))).unwrap();
    assert!(bench.run("DELETE pods ns p", Some(&bound), None).await.is_err());
}

#[test]
fn flags_select_plugins() {
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let on = select(&names(&["NodeRestriction"]), &names(&["ServiceAccount"])).unwrap();
    let position = |name: &str| on.iter().position(|row| row.name == name);
    assert!(position("ServiceAccount").is_none());
    assert!(
        position("LimitRanger") < position("NodeRestriction")
            && position("NodeRestriction") < position("ResourceQuota")
    );
    for (enable, disable) in [(vec!["Nonsense"], vec![]), (vec!["Priority"], vec!["Priority"])] {
        assert!(select(&names(&enable), &names(&disable)).is_err(), "{enable:?}");
    }
}
