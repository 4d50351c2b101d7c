//! Defaulting and validation by example.

use meta::Object;
use rules::Rules;
use serde_json::{Value, json};

fn object(value: Value) -> Object {
    Object::from_value(value).expect("an object")
}

fn defaulted(rules: &Rules, value: Value) -> Object {
    let mut object = object(value);
    (rules.default)(&mut object.body);
    object
}

fn findings(rules: &Rules, value: Value) -> Vec<String> {
    let object = defaulted(rules, value);
    rules.check(&object).iter().map(ToString::to_string).collect()
}

fn changes(rules: &Rules, old: Value, change: impl FnOnce(&mut Object)) -> Vec<String> {
    let old = defaulted(rules, old);
    let mut new = old.clone();
    change(&mut new);
    rules.check_update(&new, &old).iter().map(ToString::to_string).collect()
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"containers": [{"name": "web", "image": "nginx"}]},
    })
}

fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "nginx:1"}]}},
        },
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    })
}

#[test]
fn pod_defaults() {
    let mut value = pod();
    value["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "1"}});
    value["spec"]["containers"][0]["livenessProbe"] = json!({"httpGet": {"port": 80}});
    value["spec"]["volumes"] = json!([{"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}]);
    let pod = defaulted(&rules::core::pod::RULES, value);
    let spec = &pod.body["spec"];
    assert_eq!(spec["restartPolicy"], "Always");
    assert_eq!(spec["terminationGracePeriodSeconds"], 30);
    assert_eq!(spec["enableServiceLinks"], true);
    assert_eq!(spec["securityContext"], json!({}));
    assert_eq!(spec["volumes"][0]["emptyDir"], json!({}));
    assert_eq!(spec["volumes"][1]["secret"]["defaultMode"], 420);
    let container = &spec["containers"][0];
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(container["resources"]["requests"]["cpu"], "1");
    assert_eq!(
        container["livenessProbe"],
        json!({"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
               "successThreshold": 1, "failureThreshold": 3})
    );
}

#[test]
fn pull_policies() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:aa", "IfNotPresent"),
    ] {
        assert_eq!(rules::core::pod_defaults::pull_policy(image), policy, "{image}");
    }
}

#[test]
fn pod_findings() {
    let cases: [(&str, Value, &str); 9] = [
        ("/spec/containers", json!([]), "spec.containers: Required value"),
        ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
        (
            "/spec/restartPolicy",
            json!("Sometimes"),
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "data", "mountPath": "/data"}]),
            "spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
        ),
        (
            "/spec/containers/0/resources",
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            "/spec/volumes",
            json!([{"name": "a", "emptyDir": {}, "hostPath": {"path": "/x"}}]),
            "spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type",
        ),
        (
            "/spec/activeDeadlineSeconds",
            json!(0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.host"}}}]),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.host\": error converting fieldPath: field label not supported: spec.host",
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Equal", "value": "x"}]),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
        ),
    ];
    assert_eq!(findings(&rules::core::pod::RULES, pod()), Vec::<String>::new());
    for (path, bad, expected) in cases {
        let mut object = object(pod());
        let steps: Vec<&str> = path.split('/').skip(1).collect();
        if steps.get(2) == Some(&"0") {
            let container = &mut object.spec_mut()["containers"][0];
            container[steps[3]] = bad;
        } else {
            object.set(&steps, bad);
        }
        assert_eq!(findings(&rules::core::pod::RULES, object.into()), vec![expected.to_owned()], "{path}");
    }
}

#[test]
fn pod_updates() {
    let rules = &rules::core::pod::RULES;
    let image = changes(rules, pod(), |pod| pod.spec_mut()["containers"][0]["image"] = "nginx:2".into());
    assert_eq!(image, Vec::<String>::new());
    let command = changes(rules, pod(), |pod| pod.spec_mut()["containers"][0]["command"] = json!(["sh"]));
    assert_eq!(command.len(), 1);
    assert!(
        command[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`")
    );
    let more = changes(rules, pod(), |pod| {
        pod.set(&["spec", "tolerations"], json!([{"key": "a", "operator": "Exists"}]));
    });
    assert_eq!(more, Vec::<String>::new());
    let deadline = changes(rules, pod(), |pod| pod.set(&["spec", "activeDeadlineSeconds"], 10.into()));
    assert_eq!(deadline, Vec::<String>::new());
}

#[test]
fn services() {
    let rules = &rules::core::service::RULES;
    assert_eq!(findings(rules, service()), Vec::<String>::new());
    let service = defaulted(rules, service());
    assert_eq!(service.body["spec"]["ports"], json!([{"port": 80, "protocol": "TCP", "targetPort": 80}]));
    assert_eq!(service.body["spec"]["internalTrafficPolicy"], "Cluster");
    let mut value = Value::from(service.clone());
    value["spec"]["ports"] = json!([{"port": 80}, {"port": 81}]);
    assert_eq!(findings(rules, value), ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"]);
    let mut old = service;
    old.set(&["spec", "clusterIP"], "10.0.0.1".into());
    old.set(&["spec", "clusterIPs"], json!(["10.0.0.1"]));
    old.set(&["spec", "ipFamilies"], json!(["IPv4"]));
    let moved = changes(rules, old.into(), |service| {
        service.set(&["spec", "clusterIP"], "10.0.0.2".into());
        service.set(&["spec", "clusterIPs"], json!(["10.0.0.2"]));
    });
    assert_eq!(moved, ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]);
}

#[test]
fn deployments() {
    let rules = &rules::apps::deployment::RULES;
    assert_eq!(findings(rules, deployment()), Vec::<String>::new());
    let mut value = deployment();
    value["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    assert_eq!(
        findings(rules, value),
        [
            "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`"
        ]
    );
    let selector = changes(rules, deployment(), |deployment| {
        deployment.set(&["spec", "selector", "matchLabels"], json!({"app": "new"}));
        deployment.set(&["spec", "template", "metadata", "labels"], json!({"app": "new"}));
    });
    assert_eq!(selector, ["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"new\"}}: field is immutable"]);
}

#[test]
fn autoscalers_travel_through_v1() {
    let v2 = meta::GroupVersionKind::new("autoscaling", "v2", "HorizontalPodAutoscaler");
    let v1 = meta::GroupVersionKind::new("autoscaling", "v1", "HorizontalPodAutoscaler");
    let original = object(json!({
        "metadata": {"name": "a"},
        "spec": {
            "maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "web"},
            "metrics": [
                {"type": "Pods", "pods": {"metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}},
                {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}},
            ],
            "behavior": {"scaleDown": {"selectPolicy": "Max"}},
        },
    }));
    let mut travelled = original.clone();
    rules::autoscaling::convert::convert(&mut travelled, &v2, &v1).expect("to v1");
    assert_eq!(travelled.body["spec"]["targetCPUUtilizationPercentage"], 70);
    rules::autoscaling::convert::convert(&mut travelled, &v1, &v2).expect("to v2");
    assert_eq!(travelled, original);
}

#[test]
fn impossible_schedules_and_time_zones() {
    let cron = |schedule: &str, zone: Option<&str>| {
        let template = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
        let mut value = json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "tick", "namespace": "default"},
            "spec": {"schedule": schedule, "jobTemplate": {"spec": {"template": template}}},
        });
        if let Some(zone) = zone {
            value["spec"]["timeZone"] = json!(zone);
        }
        value
    };
    let rules = &rules::batch::cron_job::RULES;
    for (schedule, zone, want) in [
        ("* * * * *", None, ""),
        ("* * * * *", Some("Europe/Berlin"), ""),
        ("* * * * *", Some("Etc/GMT+5"), ""),
        ("* * * * *", Some("UTC"), ""),
        ("61 * * * *", None, "spec.schedule: Invalid value: \"61 * * * *\": end of range (61) above maximum (59): 61"),
        ("TZ=UTC * * * * *", None, "spec.schedule"),
        (
            "nonsense",
            None,
            "spec.schedule: Invalid value: \"nonsense\": expected exactly 5 fields, found 1: [nonsense]",
        ),
        (
            "* * * * *",
            Some("Mars/Phobos"),
            "spec.timeZone: Invalid value: \"Mars/Phobos\": unknown time zone Mars/Phobos",
        ),
        ("* * * * *", Some("europe/berlin"), "unknown time zone europe/berlin"),
        ("* * * * *", Some("../etc/passwd"), "unknown time zone ../etc/passwd"),
        ("* * * * *", Some("Local"), "spec.timeZone: Invalid value: \"Local\": timeZone must be an explicit time zone"),
        ("* * * * *", Some(""), "spec.timeZone: Invalid value: \"\": timeZone must be nil or non-empty string"),
    ] {
        let found = findings(rules, cron(schedule, zone));
        match want {
            "" => assert!(found.is_empty(), "{schedule} {zone:?}: {found:?}"),
            want => assert!(found.len() == 1 && found[0].contains(want), "{schedule} {zone:?}: {found:?}"),
        }
    }
    // What was taken by another release may be changed elsewhere.
    let suspend = |new: &mut Object| new.body["spec"]["suspend"] = json!(true);
    assert!(changes(rules, cron("* * * * *", Some("Mars/Phobos")), suspend).is_empty());
}
