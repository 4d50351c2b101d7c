//! Rules on objects, with and without old ones.

use serde_json::json;

use super::*;

fn findings(schema: Value, object: Value, old: Option<Value>) -> Vec<String> {
    let rules = Rules::compile(&schema, true).expect("has rules");
    let errors = rules.check(&object, old.as_ref());
    errors.iter().map(|error| format!("{}: {}", error.field, error.body())).collect()
}

fn spec(spec: Value) -> Value {
    json!({"type": "object", "properties": {"spec": spec}})
}

fn rule(rule: &str, more: Value) -> Value {
    let mut whole = json!({"rule": rule});
    whole.as_object_mut().expect("object").extend(more.as_object().expect("object").clone());
    whole
}

#[test]
fn rules_fail_in_upstreams_words() {
    let with = |rule: Value| {
        spec(json!({"type": "object", "x-kubernetes-validations": [rule],
            "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}, "s": {"type": "string"}}}))
    };
    let object = json!({"spec": {"x": 0, "y": 0}});
    let cases = [
        (rule("self.x + self.y >= 0", json!({})), None),
        (
            rule("self.x + self.y > 0", json!({})),
            Some("spec: Invalid value: \"object\": failed rule: self.x + self.y > 0"),
        ),
        (rule("self.x > 0", json!({"message": "more"})), Some("spec: Invalid value: \"object\": more")),
        (
            rule("self.x > 0", json!({"messageExpression": "'x is ' + string(self.x)", "fieldPath": ".x"})),
            Some("spec.x: Invalid value: \"object\": x is 0"),
        ),
        (
            rule("self.x > 0", json!({"reason": "FieldValueForbidden"})),
            Some("spec: Forbidden: failed rule: self.x > 0"),
        ),
        (
            rule("self.s == 'a'", json!({})),
            Some("spec: Invalid value: \"object\": no such key: s evaluating rule: self.s == 'a'"),
        ),
        (rule("self.x > oldSelf.x", json!({})), None),
        (
            rule("self.x > oldSelf.?x.orValue(5)", json!({"optionalOldSelf": true})),
            Some("spec: Invalid value: \"object\": failed rule: self.x > oldSelf.?x.orValue(5)"),
        ),
    ];
    for (rule, want) in cases {
        let found = findings(with(rule.clone()), object.clone(), None);
        assert_eq!(found, Vec::from_iter(want.map(str::to_owned)), "{rule}");
    }
}

#[test]
fn transitions_and_what_did_not_change() {
    let schema = spec(json!({"type": "object", "properties": {
        "num": {"type": "integer", "x-kubernetes-validations": [{"rule": "self > oldSelf"}]},
        "name": {"type": "string", "x-kubernetes-validations": [{"rule": "self.startsWith('n')"}]},
        "list": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
                "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v"}]}}}}));
    let old = json!({"spec": {"num": 10, "name": "bad", "list": [{"k": "a", "v": 5}, {"k": "b", "v": 1}]}});
    let good = json!({"spec": {"num": 11, "name": "bad", "list": [{"k": "b", "v": 1}, {"k": "c", "v": 0}, {"k": "a", "v": 6}]}});
    assert_eq!(findings(schema.clone(), good, Some(old.clone())), [""; 0]);
    let bad = json!({"spec": {"num": 9, "name": "worse", "list": [{"k": "b", "v": 0}]}});
    assert_eq!(
        findings(schema, bad, Some(old)),
        [
            "spec.list[0]: Invalid value: \"object\": failed rule: self.v >= oldSelf.v",
            "spec.name: Invalid value: \"worse\": failed rule: self.startsWith('n')",
            "spec.num: Invalid value: 9: failed rule: self > oldSelf",
        ]
    );
}

#[test]
fn rules_that_cost_too_much_end_the_validation() {
    let schema = spec(
        json!({"type": "object", "properties": {"a": {"type": "array", "maxItems": 725, "items": {"type": "integer"}}},
        "x-kubernetes-validations": [{"rule": "self.a.all(x, self.a.all(y, y == x))"}, {"rule": "false"}]}),
    );
    let found = findings(schema, json!({"spec": {"a": vec![20; 725]}}), None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("call cost exceeds limit"), "{found:?}");
}

#[test]
fn rules_of_all_of_hold_on_the_value_around() {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}},
        "allOf": [{"properties": {"n": {"x-kubernetes-validations": [{"rule": "self > 1"}]}}},
            {"x-kubernetes-validations": [{"rule": "self.n < 9"}]}]});
    assert_eq!(findings(schema.clone(), json!({"n": 5}), None), [""; 0]);
    assert_eq!(findings(schema.clone(), json!({"n": 1}), None), ["n: Invalid value: 1: failed rule: self > 1"]);
    assert_eq!(findings(schema, json!({"n": 9}), None), ["<nil>: Invalid value: \"object\": failed rule: self.n < 9"]);
}

#[test]
fn what_did_not_change_is_warned_about() {
    let schema = spec(json!({"type": "object", "properties": {"name": {"type": "string",
        "x-kubernetes-validations": [{"rule": "self.startsWith('n')"}]}}}));
    let rules = Rules::compile(&schema, true).expect("has rules");
    let old = json!({"spec": {"name": "bad"}});
    let warnings = rules.warnings(&json!({"spec": {"name": "bad"}, "more": 1}), &old);
    assert_eq!(warnings, ["spec.name: Invalid value: \"bad\": failed rule: self.startsWith('n')"]);
}
