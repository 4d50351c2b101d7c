use std::sync::Arc;

use api::k8s::resource::v1::{AllocationResult, DeviceClass, ResourceClaim, ResourceSlice};
use serde_json::{Value, json};

use super::claims::{Readiness, devices, readiness};
use super::ledger::{Ledger, Taken};
use super::pools::Slices;
use super::search::{Allocator, Failed};
use super::selector::Selectors;
use crate::testing::node;

fn slice(name: &str, node: &str, rest: &Value) -> Arc<ResourceSlice> {
    let mut spec = json!({
        "driver": "gpu.example", "nodeName": node,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1},
    });
    if node.is_empty() {
        spec = json!({
            "driver": "gpu.example", "allNodes": true, "pool": {"name": "net", "generation": 1, "resourceSliceCount": 1},
        });
    }
    for (key, value) in rest.as_object().into_iter().flatten() {
        spec[key] = value.clone();
    }
    Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "uid": name}, "spec": spec})).unwrap())
}

fn gpu(name: &str, model: &str, numa: i64) -> Value {
    json!({"name": name, "attributes": {"model": {"string": model}, "numa": {"int": numa}}})
}

fn claim(name: &str, devices: &Value) -> Arc<ResourceClaim> {
    let value = json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": {"devices": devices}});
    Arc::new(serde_json::from_value(value).unwrap())
}

fn exactly(name: &str, rest: &Value) -> Value {
    let mut exactly = json!({"deviceClassName": "gpu"});
    for (key, value) in rest.as_object().into_iter().flatten() {
        exactly[key] = value.clone();
    }
    json!({"name": name, "exactly": exactly})
}

fn model(model: &str) -> Value {
    json!([{"cel": {"expression": format!("device.attributes['gpu.example'].model == '{model}'")}}])
}

fn allocator(slices: Vec<Arc<ResourceSlice>>, taken: Arc<Taken>) -> Allocator {
    let class = |name: &str| -> Option<Arc<DeviceClass>> {
        let value = json!({"metadata": {"name": "gpu"}, "spec": {
            "selectors": [{"cel": {"expression": "device.driver == 'gpu.example'"}}],
            "config": [{"opaque": {"driver": "gpu.example", "parameters": {"a": 1}}}],
        }});
        (name == "gpu").then(|| Arc::new(serde_json::from_value(value).unwrap()))
    };
    Allocator {
        slices: Slices::new(slices),
        taken,
        classes: Box::new(class),
        selectors: Arc::new(Selectors::new()),
        limit: None,
    }
}

/// The devices of one claim on node `n`, or why there are none.
fn allocate(slices: &[Arc<ResourceSlice>], taken: &Ledger, devices_wanted: &Value) -> Result<Vec<String>, String> {
    let made = made(slices, taken, devices_wanted)?;
    Ok(devices(&made).iter().map(|d| format!("{}={}", d.request, d.device)).collect())
}

fn made(slices: &[Arc<ResourceSlice>], taken: &Ledger, wanted: &Value) -> Result<AllocationResult, String> {
    let node = node("n", "4", &Value::Null, &json!({}));
    let found = allocator(slices.to_vec(), taken.taken()).allocate(&node, &[claim("c", wanted)]);
    match found {
        Ok(mut all) => Ok(all.remove(0)),
        Err(Failed::Unfit(why)) => Err(why.to_owned()),
        Err(Failed::Error(error)) => Err(error),
    }
}

#[test]
fn counts_selectors_alternatives_and_constraints() {
    let devices = json!([gpu("a", "small", 0), gpu("b", "large", 1), gpu("c", "large", 0), gpu("d", "large", 1)]);
    let slices = [
        slice("s", "n", &json!({"devices": devices})),
        slice("t", "other", &json!({"devices": [gpu("x", "small", 0)]})),
    ];
    let none = Ledger::default();
    let ask = |wanted: Value| allocate(&slices, &none, &wanted);
    let two_large = exactly("r", &json!({"count": 2, "selectors": model("large")}));
    let cases = [
        (json!({"requests": [exactly("r", &json!({}))]}), Ok(vec!["r=a"])),
        (json!({"requests": [two_large]}), Ok(vec!["r=b", "r=c"])),
        (
            json!({"requests": [two_large], "constraints": [{"matchAttribute": "gpu.example/numa"}]}),
            Ok(vec!["r=b", "r=d"]),
        ),
        (
            json!({"requests": [two_large], "constraints": [{"distinctAttribute": "gpu.example/numa"}]}),
            Ok(vec!["r=b", "r=c"]),
        ),
        (json!({"requests": [exactly("r", &json!({"count": 5}))]}), Err("cannot allocate all claims")),
        (
            json!({"requests": [exactly("r", &json!({"allocationMode": "All", "selectors": model("large")}))]}),
            Ok(vec!["r=b", "r=c", "r=d"]),
        ),
        (
            json!({"requests": [{"name": "r", "firstAvailable": [
                {"name": "huge", "deviceClassName": "gpu", "selectors": model("huge")},
                {"name": "small", "deviceClassName": "gpu", "selectors": model("small")},
            ]}]}),
            Ok(vec!["r/small=a"]),
        ),
        (
            // The first request must leave the only small one to the second.
            json!({"requests": [exactly("r", &json!({})), exactly("q", &json!({"selectors": model("small")}))]}),
            Ok(vec!["r=b", "q=a"]),
        ),
    ];
    for (wanted, want) in cases {
        let got = ask(wanted.clone());
        let want = want.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>()).map_err(str::to_owned);
        assert_eq!(got, want, "{wanted}");
    }
    let unknown = ask(json!({"requests": [{"name": "r", "exactly": {"deviceClassName": "nope"}}]})).unwrap_err();
    assert!(unknown.contains("could not retrieve device class nope"), "{unknown}");
}

#[test]
fn what_is_taken_is_left_alone() {
    let slices = [slice("s", "n", &json!({"devices": [gpu("a", "small", 0), gpu("b", "small", 0)]}))];
    let ledger = Ledger::default();
    let one = json!({"requests": [exactly("r", &json!({}))]});
    let first = made(&slices, &ledger, &one).unwrap();
    let selector = first.node_selector.as_ref().unwrap();
    assert_eq!(selector.node_selector_terms[0].match_fields.as_ref().unwrap()[0].values, Some(vec!["n".to_owned()]));
    assert_eq!(first.devices.as_ref().unwrap().config.as_ref().unwrap()[0].source, "FromClass");
    ledger.take("c", &first);
    assert!(ledger.is_pending("c"));
    assert_eq!(allocate(&slices, &ledger, &one), Ok(vec!["r=b".to_owned()]));
    // Administrators look at devices that others use.
    let admin = json!({"requests": [exactly("r", &json!({"adminAccess": true}))]});
    assert_eq!(allocate(&slices, &ledger, &admin), Ok(vec!["r=a".to_owned()]));
    ledger.seen("c", None, Some(&first));
    assert!(!ledger.is_pending("c"));
    assert_eq!(allocate(&slices, &ledger, &one), Ok(vec!["r=b".to_owned()]));
    ledger.seen("c", Some(&first), None);
    assert_eq!(allocate(&slices, &ledger, &one), Ok(vec!["r=a".to_owned()]));
}

#[test]
fn taints_generations_and_incomplete_pools() {
    let mut tainted = gpu("a", "small", 0);
    tainted["taints"] = json!([{"key": "broken", "effect": "NoSchedule"}]);
    let pool =
        |generation: i64, count: i64| json!({"name": "n", "generation": generation, "resourceSliceCount": count});
    let slices = [slice("s", "n", &json!({"devices": [tainted]}))];
    let none = Ledger::default();
    let one = json!({"requests": [exactly("r", &json!({}))]});
    assert!(allocate(&slices, &none, &one).is_err());
    let tolerant =
        json!({"requests": [exactly("r", &json!({"tolerations": [{"key": "broken", "operator": "Exists"}]}))]});
    assert_eq!(allocate(&slices, &none, &tolerant), Ok(vec!["r=a".to_owned()]));
    let old = slice("old", "n", &json!({"devices": [gpu("old", "small", 0)]}));
    let new = slice("new", "n", &json!({"devices": [gpu("new", "small", 0)], "pool": pool(2, 1)}));
    assert_eq!(allocate(&[old.clone(), new], &none, &one), Ok(vec!["r=new".to_owned()]));
    let half = slice("half", "n", &json!({"devices": [gpu("half", "small", 0)], "pool": pool(1, 2)}));
    assert!(allocate(std::slice::from_ref(&half), &none, &one).is_err());
    let all = json!({"requests": [exactly("r", &json!({"allocationMode": "All"}))]});
    assert!(allocate(&[half], &none, &all).unwrap_err().contains("currently being updated"));
}

#[test]
fn partitions_share_counters_and_claims_share_capacity() {
    let counters = |n: &str| json!([{"counterSet": "gpu", "counters": {"memory": {"value": n}}}]);
    let part = |name: &str, n: &str| json!({"name": name, "consumesCounters": counters(n)});
    let pool = json!({"name": "n", "generation": 1, "resourceSliceCount": 2});
    let sets = json!([{"name": "gpu", "counters": {"memory": {"value": "40Gi"}}}]);
    let slices = [
        slice("sets", "n", &json!({"sharedCounters": sets, "pool": pool})),
        slice(
            "parts",
            "n",
            &json!({"devices": [part("a", "30Gi"), part("b", "20Gi"), part("c", "10Gi")], "pool": pool}),
        ),
    ];
    let ledger = Ledger::default();
    let two = json!({"requests": [exactly("r", &json!({"count": 2}))]});
    let made_two = made(&slices, &ledger, &two).unwrap();
    assert_eq!(devices(&made_two).iter().map(|d| d.device.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    ledger.take("c", &made_two);
    assert!(allocate(&slices, &ledger, &json!({"requests": [exactly("r", &json!({}))]})).is_err());

    let shared = json!({"name": "nic", "allowMultipleAllocations": true, "capacity": {"bandwidth": {"value": "10G"}}});
    let slices = [slice("net", "", &json!({"devices": [shared]}))];
    let ledger = Ledger::default();
    let some = json!({"requests": [exactly("r", &json!({"capacity": {"requests": {"bandwidth": "6G"}}}))]});
    let first = made(&slices, &ledger, &some).unwrap();
    assert!(first.node_selector.is_none() && devices(&first)[0].share_id.is_some());
    ledger.take("c", &first);
    assert!(allocate(&slices, &ledger, &some).is_err());
    let less = json!({"requests": [exactly("r", &json!({"capacity": {"requests": {"bandwidth": "4G"}}}))]});
    assert_eq!(allocate(&slices, &ledger, &less), Ok(vec!["r=nic".to_owned()]));
}

#[test]
fn binding_conditions() {
    let result = json!({"request": "r", "driver": "d", "pool": "p", "device": "x", "bindingConditions": ["Attached"],
        "bindingFailureConditions": ["Broken"]});
    let with = |conditions: Value| -> ResourceClaim {
        let devices = json!([{"driver": "d", "pool": "p", "device": "x", "conditions": conditions}]);
        serde_json::from_value(json!({"metadata": {"name": "c"}, "spec": {}, "status": {
            "allocation": {"devices": {"results": [result]}}, "devices": devices,
        }}))
        .unwrap()
    };
    let condition = |name: &str, status: &str| json!({"type": name, "status": status, "reason": "R", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    assert_eq!(readiness(&with(json!([]))), Readiness::Waiting);
    assert_eq!(readiness(&with(json!([condition("Attached", "True")]))), Readiness::Ready);
    let failed = readiness(&with(json!([condition("Attached", "True"), condition("Broken", "True")])));
    assert!(matches!(failed, Readiness::Failed(why) if why.contains("claim=c, reason=R")));
}
