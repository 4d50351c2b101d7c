use meta::Object;
use serde_json::{Value, json};

use super::{pod_group, workload};
use crate::Rules;

fn object(spec: &Value) -> Object {
    let Value::Object(body) = json!({"metadata": {"name": "x"}, "spec": spec}) else { unreachable!() };
    Object { body }
}

fn told(rules: &Rules, spec: &Value) -> Vec<String> {
    rules.check(&object(spec)).iter().map(ToString::to_string).collect()
}

#[test]
fn pod_groups() {
    for (spec, want) in [
        (json!({"schedulingPolicy": {"basic": {}}}), vec![]),
        (json!({"schedulingPolicy": {"gang": {"minCount": 3}}}), vec![]),
        (json!({}), vec!["spec.schedulingPolicy: Invalid value: \"\": must specify one of: `basic`, `gang`"]),
        (
            json!({"schedulingPolicy": {"basic": {}, "gang": {"minCount": 1}}}),
            vec![
                "spec.schedulingPolicy: Invalid value: \"{`basic`, `gang`}\": must specify exactly one of: `basic`, `gang`",
            ],
        ),
        (
            json!({"schedulingPolicy": {"gang": {"minCount": 0}}}),
            vec!["spec.schedulingPolicy.gang.minCount: Required value"],
        ),
        (
            json!({"schedulingPolicy": {"gang": {"minCount": -1}}}),
            vec!["spec.schedulingPolicy.gang.minCount: Invalid value: -1: must be greater than or equal to 1"],
        ),
        (
            json!({"podGroupTemplateRef": {"workload": {"workloadName": "w"}}, "schedulingPolicy": {"basic": {}}}),
            vec!["spec.podGroupTemplateRef.workload.podGroupTemplateName: Required value"],
        ),
    ] {
        assert_eq!(told(&pod_group::RULES, &spec), want, "{spec}");
    }
    let (old, new) =
        (json!({"schedulingPolicy": {"basic": {}}}), json!({"schedulingPolicy": {"gang": {"minCount": 1}}}));
    let errors = pod_group::RULES.check_update(&object(&new), &object(&old));
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "spec.schedulingPolicy: Invalid value: null: field is immutable");
    assert!(pod_group::RULES.check_update(&object(&old), &object(&old)).is_empty());
}

#[test]
fn workloads() {
    let template = |name: &str| json!({"name": name, "schedulingPolicy": {"basic": {}}});
    let nine: Vec<Value> = (0..9).map(|n| template(&format!("t{n}"))).collect();
    for (spec, count) in [
        (json!({"podGroupTemplates": [template("a"), template("b")]}), 0),
        (json!({"podGroupTemplates": []}), 1),
        (json!({"podGroupTemplates": nine}), 1),
        (json!({"podGroupTemplates": [template("a"), template("a")]}), 1),
        (json!({"podGroupTemplates": [template("A")]}), 1),
        (json!({"podGroupTemplates": [{"name": "a"}]}), 1),
        (json!({"controllerRef": {"kind": "Job", "name": "j"}, "podGroupTemplates": [template("a")]}), 0),
        (json!({"controllerRef": {"apiGroup": "batch", "name": "a/b"}, "podGroupTemplates": [template("a")]}), 2),
    ] {
        assert_eq!(told(&workload::RULES, &spec).len(), count, "{spec}");
    }
}
