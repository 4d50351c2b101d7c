//! Policies of both kinds against a small fixed world.

use serde_json::{Value, json};

use crate::tests::Bench;

fn rules() -> Value {
    json!({"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"],
        "resources": ["deployments"]}]})
}

fn bench(mutating: bool, spec: Value, binding: Value) -> Bench {
    let bench = Bench::with_caller(&[], None);
    let (policies, bindings) = match mutating {
        true => ("mutatingadmissionpolicies", "mutatingadmissionpolicybindings"),
        false => ("validatingadmissionpolicies", "validatingadmissionpolicybindings"),
    };
    let mut policy = json!({"metadata": {"name": "p"}, "spec": {"matchConstraints": rules(), "failurePolicy": "Fail"}});
    for (field, value) in spec.as_object().unwrap() {
        policy["spec"][field] = value.clone();
    }
    let mut bound = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    for (field, value) in binding.as_object().unwrap() {
        bound["spec"][field] = value.clone();
    }
    bench.world.put(policies, policy);
    bench.world.put(bindings, bound);
    bench
}

fn deployment(replicas: i64) -> Option<Value> {
    Some(json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "ns", "name": "d"},
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}}))
}

const CREATE: &str = "CREATE deployments.apps ns d";

#[tokio::test]
async fn validations_deny_in_upstreams_words() {
    let cases = [
        (
            json!({"expression": "object.spec.replicas > 1"}),
            "failed expression: object.spec.replicas > 1",
            "Invalid",
            422,
        ),
        (
            json!({"expression": "object.spec.replicas > 1", "message": "more", "reason": "Forbidden"}),
            "more",
            "Forbidden",
            403,
        ),
        (
            json!({"expression": "variables.two > 2", "messageExpression": "'got ' + string(object.spec.replicas)"}),
            "got 1",
            "Invalid",
            422,
        ),
        (
            json!({"expression": "object.spec.nope > 1"}),
            "expression 'object.spec.nope > 1' resulted in error: no such key: nope",
            "Invalid",
            422,
        ),
        (
            json!({"expression": "request.userInfo.username == 'joe' && request.operation == 'CREATE'", "message": "user"}),
            "user",
            "Invalid",
            422,
        ),
        (
            json!({"expression": "namespaceObject.metadata.name != 'ns' && oldObject == null", "message": "ns"}),
            "ns",
            "Invalid",
            422,
        ),
        (
            json!({"expression": "authorizer.group('').resource('pods').check('get').errored() == false", "message": "authz"}),
            "authz",
            "Invalid",
            422,
        ),
    ];
    for (validation, message, reason, code) in cases {
        let variables = json!([{"name": "one", "expression": "object.spec.replicas"}, {"name": "two", "expression": "variables.one * 2"}]);
        let bench = bench(false, json!({"validations": [validation], "variables": variables}), json!({}));
        let refused = bench.run(CREATE, None, deployment(1)).await.unwrap_err();
        let start = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
        assert_eq!(refused.message, format!("deployments.apps \"d\" is forbidden: {start}{message}"));
        assert_eq!((refused.reason.as_str(), refused.code), (reason, code));
        assert_eq!(refused.details.unwrap().causes[0].message, format!("{start}{message}"));
    }
}

#[tokio::test]
async fn what_does_not_concern_a_policy_passes() {
    let never = json!([{"expression": "false"}]);
    let with = |more: Value| {
        let mut spec = json!({"validations": never});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    let other = json!({"matchResources": {"namespaceSelector": {"matchLabels": {"a": "b"}}}});
    let cases = [
        (with(json!({"matchConditions": [{"name": "c", "expression": "object.spec.replicas > 5"}]})), json!({})),
        (with(json!({})), other),
        (with(json!({})), json!({"validationActions": ["Warn", "Audit"]})),
        (json!({"validations": [{"expression": "object.spec.nope"}], "failurePolicy": "Ignore"}), json!({})),
        (json!({"validations": [{"expression": "object.spec.replicas == 1"}]}), json!({})),
    ];
    for (spec, binding) in cases {
        let bench = bench(false, spec.clone(), binding);
        let passed = bench.run(CREATE, None, deployment(1)).await;
        assert!(passed.is_ok(), "{spec}: {passed:?}");
    }
    let bench = bench(false, json!({"validations": never}), json!({"validationActions": ["Warn"]}));
    bench.run(CREATE, None, deployment(1)).await.unwrap();
    assert_eq!(
        bench.warnings.take(),
        ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': failed expression: false"]
    );
}

#[tokio::test]
async fn mutations_change_the_object() {
    let patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let apply =
        |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    let mutations = json!([
        patch("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'k8s.io/a': 'x'}}]"),
        patch(
            "[JSONPatch{op: 'replace', path: '/metadata/labels/' + jsonpatch.escapeKey('k8s.io/a'), value: string(object.spec.replicas)}]"
        ),
        apply(
            "Object{spec: Object.spec{replicas: object.spec.replicas + 1, template: Object.spec.template{spec: \
               Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'c', tty: true}]}}}}"
        ),
    ]);
    let bench_ok = bench(true, json!({"mutations": mutations, "reinvocationPolicy": "Never"}), json!({}));
    let made = bench_ok.run(CREATE, None, deployment(1)).await.unwrap().unwrap();
    assert_eq!(made.get(&["metadata", "labels"]), Some(&json!({"k8s.io/a": "1"})));
    assert_eq!(made.get(&["spec", "replicas"]), Some(&json!(2)));
    let container = made.get(&["spec", "template", "spec", "containers"]).unwrap();
    assert_eq!(container, &json!([{"name": "c", "image": "i", "tty": true}]));

    let wrong = [
        (
            patch("[JSONPatch{op: 'test', path: '/spec/replicas', value: 7}]"),
            "JSON Patch: error applying JSON patch to object",
        ),
        (apply("Object{spec: Object.wrong{replicas: 1}}"), "type mismatch: unexpected type name \"Object.wrong\""),
        (
            apply("Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'b'}}}}"),
            "may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
    ];
    for (mutation, message) in wrong {
        let bench = bench(true, json!({"mutations": [mutation], "reinvocationPolicy": "Never"}), json!({}));
        let refused = bench.run(CREATE, None, deployment(1)).await.unwrap_err();
        assert!(refused.message.starts_with("policy 'p' with binding 'b' denied request: "), "{}", refused.message);
        assert!(refused.message.contains(message), "{}", refused.message);
    }
}
