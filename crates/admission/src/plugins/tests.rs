//! The optional plugins, in upstream's words.

use serde_json::{Value, json};

use crate::tests::Bench;

fn pod(spec: Value) -> Option<Value> {
    let mut pod = json!({"metadata": {"namespace": "ns", "name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i", "imagePullPolicy": "IfNotPresent"}]}});
    for (field, value) in spec.as_object().unwrap() {
        pod["spec"][field] = value.clone();
    }
    Some(pod)
}

fn namespace(bench: &Bench, annotations: Value) {
    bench.world.put(
        "namespaces",
        json!({"metadata": {"name": "ns", "annotations": annotations}, "status": {"phase": "Active"}}),
    );
}

#[tokio::test]
async fn images_are_always_pulled() {
    let bench = Bench::configured(&["AlwaysPullImages"], json!({})).unwrap();
    let volumes = json!({"volumes": [{"name": "v", "image": {"reference": "r"}}]});
    let made = bench.run("CREATE pods ns p", None, pod(volumes)).await.unwrap().unwrap();
    assert_eq!(made.get(&["spec", "containers"]).unwrap()[0]["imagePullPolicy"], "Always");
    assert_eq!(made.get(&["spec", "volumes"]).unwrap()[0]["image"]["pullPolicy"], "Always");
}

#[tokio::test]
async fn devices_are_tolerated() {
    let bench = Bench::configured(&["ExtendedResourceToleration"], json!({})).unwrap();
    let containers =
        json!({"containers": [{"name": "c", "resources": {"requests": {"example.com/gpu": "1", "cpu": "1"}}}]});
    let made = bench.run("CREATE pods ns p", None, pod(containers)).await.unwrap().unwrap();
    let tolerations = made.get(&["spec", "tolerations"]).unwrap().as_array().unwrap().clone();
    assert!(tolerations.contains(&json!({"key": "example.com/gpu", "operator": "Exists", "effect": "NoSchedule"})));
    assert!(!tolerations.iter().any(|t| t["key"] == "cpu"));
}

#[tokio::test]
async fn node_selectors_come_from_namespaces_and_configuration() {
    let config = json!({"PodNodeSelector": {"podNodeSelectorPluginConfig":
        {"clusterDefaultNodeSelector": "tier=std", "ns": "tier=std,disk=ssd"}}});
    let bench = Bench::configured(&["PodNodeSelector"], config).unwrap();
    let made = bench.run("CREATE pods ns p", None, pod(json!({}))).await.unwrap().unwrap();
    assert_eq!(made.get(&["spec", "nodeSelector"]), Some(&json!({"tier": "std"})));
    for (selector, message) in [
        (json!({"tier": "x"}), "pod node label selector conflicts with its namespace node label selector"),
        (json!({"zone": "x"}), "pod node label selector labels conflict with its namespace whitelist"),
    ] {
        let refused = bench.run("CREATE pods ns p", None, pod(json!({"nodeSelector": selector}))).await.unwrap_err();
        assert_eq!(refused.message, format!("pods \"p\" is forbidden: {message}"));
    }
    namespace(&bench, json!({"scheduler.alpha.kubernetes.io/node-selector": "disk=ssd"}));
    let made = bench.run("CREATE pods ns p", None, pod(json!({}))).await.unwrap().unwrap();
    assert_eq!(made.get(&["spec", "nodeSelector"]), Some(&json!({"disk": "ssd"})));
}

#[tokio::test]
async fn tolerations_are_given_and_bounded() {
    let config = json!({"PodTolerationRestriction": {"apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1",
        "kind": "Configuration", "default": [{"key": "a", "operator": "Exists"}], "whitelist": []}});
    let bench = Bench::configured(&["PodTolerationRestriction"], config).unwrap();
    let keys = |pod: meta::Object| -> Vec<String> {
        let all = pod.get(&["spec", "tolerations"]).unwrap().as_array().unwrap().clone();
        all.iter().map(|t| t["key"].as_str().unwrap().to_owned()).collect()
    };
    let small = pod(json!({"tolerations": [{"key": "a", "operator": "Equal", "value": "x"}]}));
    let made = bench.run("CREATE pods ns p", None, small).await.unwrap().unwrap();
    assert_eq!(keys(made), ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable", "a"]);
    namespace(
        &bench,
        json!({"scheduler.alpha.kubernetes.io/defaultTolerations": "[{\"key\": \"b\", \"operator\": \"Exists\"}]",
        "scheduler.alpha.kubernetes.io/tolerationsWhitelist": "[{\"key\": \"b\", \"operator\": \"Exists\"}]"}),
    );
    let refused = bench.run("CREATE pods ns p", None, pod(json!({}))).await.unwrap_err().message;
    assert!(refused.ends_with(
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its namespace whitelist"
    ));
}

#[tokio::test(start_paused = true)]
async fn events_are_limited() {
    let limits = json!([{"type": "User", "qps": 1, "burst": 2}, {"type": "Namespace", "qps": 100, "burst": 100}]);
    let config = |limits: Value| json!({"EventRateLimit": {"apiVersion": "eventratelimit.admission.k8s.io/v1alpha1", "kind": "Configuration", "limits": limits}});
    let bench = Bench::configured(&["EventRateLimit"], config(limits)).unwrap();
    let event = || Some(json!({"metadata": {"namespace": "ns", "name": "e"}}));
    for _ in 0..2 {
        bench.run("CREATE events ns e", None, event()).await.unwrap();
    }
    let refused = bench.run("CREATE events ns e", None, event()).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (429, "limit reached on type User for key jane"));
    rt::time::sleep(std::time::Duration::from_secs(1)).await;
    bench.run("CREATE events ns e", None, event()).await.unwrap();
    for (limits, wanted) in [
        (json!([]), "limits: Invalid value: []: must not be empty"),
        (json!([{"type": "Server", "qps": 0, "burst": 1}]), "limits[0].qps: Invalid value: 0: must be positive"),
    ] {
        let wrong = Bench::configured(&["EventRateLimit"], config(limits)).err().unwrap();
        assert_eq!(wrong, format!("couldn't init admission plugin \"EventRateLimit\": {wanted}"));
    }
}

#[tokio::test]
async fn limited_resources_need_a_quota() {
    let config = json!({"ResourceQuota": {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration",
        "limitedResources": [{"resource": "pods", "matchContains": ["requests.cpu"]},
            {"resource": "pods", "matchScopes": [{"scopeName": "PriorityClass", "operator": "In", "values": ["gold"]}]}]}});
    let bench = Bench::configured(&[], config).unwrap();
    let asks = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]});
    let refused = bench.run("CREATE pods ns p", None, pod(asks.clone())).await.unwrap_err().message;
    assert_eq!(refused, "pods \"p\" is forbidden: insufficient quota to consume: requests.cpu");
    bench.world.put(
        "resourcequotas",
        json!({"metadata": {"namespace": "ns", "name": "q", "uid": "1", "resourceVersion": "5"},
        "status": {"hard": {"requests.cpu": "2"}, "used": {"requests.cpu": "0"}}}),
    );
    bench.run("CREATE pods ns p", None, pod(asks)).await.unwrap();
}

#[tokio::test]
async fn pod_security_has_defaults_and_exemptions() {
    let config = json!({"PodSecurity": {"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration",
        "defaults": {"enforce": "baseline", "warn": "restricted"},
        "exemptions": {"usernames": ["root"], "namespaces": ["kube-system"], "runtimeClasses": ["sand"]}}});
    let bench = Bench::configured(&[], config).unwrap();
    let host = || pod(json!({"hostNetwork": true}));
    let refused = bench.run("CREATE pods ns p", None, host()).await.unwrap_err().message;
    assert!(refused.contains("violates PodSecurity \"baseline:latest\": host namespaces"), "{refused}");
    bench.world.put("namespaces", json!({"metadata": {"name": "kube-system"}, "status": {"phase": "Active"}}));
    bench.world.put("serviceaccounts", json!({"metadata": {"namespace": "kube-system", "name": "default"}}));
    bench.run("CREATE pods kube-system p", None, host()).await.unwrap();
    let wrong = json!({"PodSecurity": {"apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration", "defaults": {"enforce": "strict"}}});
    let wrong = Bench::configured(&[], wrong).err().unwrap();
    assert!(
        wrong.ends_with("defaults.enforce: Invalid value: \"strict\": must be one of privileged, baseline, restricted")
    );
}

#[tokio::test]
async fn resizes_fit_the_node() {
    let bench = Bench::configured(&[], json!({})).unwrap();
    bench
        .world
        .put("nodes", json!({"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1", "memory": "1Gi"}}}));
    let asks = |cpu: &str, generation: i64| {
        json!({"metadata": {"namespace": "ns", "name": "p", "generation": generation}, "spec": {"nodeName": "n",
            "containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    let old = meta::Object::from_value(asks("100m", 1)).unwrap();
    let refused = bench.run("UPDATE pods/resize ns p", Some(&old), Some(asks("2", 2))).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000"
    );
    assert_eq!(refused.details.unwrap().causes[0].reason, "NodeCapacity");
    bench.run("UPDATE pods/resize ns p", Some(&old), Some(asks("500m", 2))).await.unwrap();
    let mut whole = asks("100m", 2);
    whole["spec"]["resources"] = json!({"requests": {"cpu": "200m"}});
    let refused = bench.run("UPDATE pods/resize ns p", Some(&old), Some(whole)).await.unwrap_err();
    assert_eq!(
        refused.message,
        "pods \"p\" is forbidden: pod update requires features InPlacePodLevelResourcesVerticalScaling which are not \
         available on node \"n\""
    );
}

#[test]
fn the_table_is_upstreams() {
    let on: Vec<&str> = crate::PLUGINS.iter().filter(|row| row.default_on).map(|row| row.name).collect();
    assert_eq!(
        on.join(" "),
        "NamespaceLifecycle LimitRanger ServiceAccount TaintNodesByCondition PodSecurity Priority DefaultTolerationSeconds \
         DefaultStorageClass StorageObjectInUseProtection PodGroupProtection PersistentVolumeClaimResize RuntimeClass \
         CertificateApproval CertificateSigning ClusterTrustBundleAttest CertificateSubjectRestriction DefaultIngressClass \
         PodTopologyLabels PodGroupWorkloadExists NodeDeclaredFeatureValidator JobValidation PodResizeValidator \
         MutatingAdmissionPolicy MutatingAdmissionWebhook ValidatingAdmissionPolicy ValidatingAdmissionWebhook ResourceQuota"
    );
}
