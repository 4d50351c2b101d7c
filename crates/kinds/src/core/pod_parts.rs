//! The pod subresources that change a part of the spec: ephemeral containers and resize.

use std::sync::Arc;

use async_trait::async_trait;
use meta::{Object, field};
use registry::{Column, Ctx, SelectableField, Strategy};
use rules::C;
use serde_json::Value;

use crate::standard::Standard;

/// What the endpoint changes, and how it is checked.
#[derive(Clone, Copy)]
enum Change {
    EphemeralContainers,
    Resize,
}

struct PodPart {
    main: Arc<dyn Strategy>,
    change: Change,
}

/// Strategy of `pods/ephemeralcontainers`.
pub fn ephemeral_containers(pod: &'static Standard) -> Arc<dyn Strategy> {
    Arc::new(PodPart { main: pod.main(), change: Change::EphemeralContainers })
}

/// Strategy of `pods/resize`.
pub fn resize(pod: &'static Standard) -> Arc<dyn Strategy> {
    Arc::new(PodPart { main: pod.main(), change: Change::Resize })
}

#[async_trait]
impl Strategy for PodPart {
    fn default_object(&self, object: &mut Object) {
        self.main.default_object(object);
    }

    fn prepare_for_update(&self, _cx: &Ctx, object: &mut Object, old: &Object) {
        let sent = std::mem::replace(&mut object.body, old.body.clone());
        let sent = Object { body: sent };
        let version = sent.resource_version().to_owned();
        object.set_meta_str("resourceVersion", &version);
        match self.change {
            Change::EphemeralContainers => copy(object, &sent, &["spec", "ephemeralContainers"]),
            Change::Resize => {
                copy(object, &sent, &["spec", "resources"]);
                for list in ["containers", "initContainers"] {
                    copy_container_resources(object, &sent, list);
                }
            }
        }
    }

    fn validate_update(&self, _cx: &Ctx, object: &Object, old: &Object) -> Vec<field::Error> {
        rules::check_pair(object, old, |new, old| match self.change {
            Change::EphemeralContainers => rules::core::pod_update::ephemeral_containers(new, old),
            Change::Resize => {
                rules::core::pod_update::resize(new, old);
                same_quality(new, old);
            }
        })
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn reset_fields(&self) -> &'static [&'static [&'static str]] {
        &[&["status"]]
    }

    fn selectable_fields(&self) -> &'static [SelectableField] {
        self.main.selectable_fields()
    }

    fn columns(&self) -> Vec<Column> {
        self.main.columns()
    }

    fn cells(&self, object: &Object, now: i64) -> Vec<Value> {
        self.main.cells(object, now)
    }
}

/// A resize may not move the pod to another quality of service.
fn same_quality(new: &C, old: &C) {
    let class = component_helpers::tree::qos_class(new.get("spec").value().unwrap_or(&Value::Null));
    let before = old.get("status.qosClass").str();
    if !before.is_empty() && before != class {
        new.get("spec").invalid_value(class, "Pod QOS Class may not change as a result of resizing");
    }
}

fn copy(to: &mut Object, from: &Object, path: &[&str]) {
    match from.get(path).filter(|v| !v.is_null()) {
        Some(value) => to.set(path, value.clone()),
        None => {
            to.remove(path);
        }
    }
}

fn copy_container_resources(to: &mut Object, from: &Object, list: &str) {
    let sent = from.get(&["spec", list]).and_then(Value::as_array).cloned().unwrap_or_default();
    let Some(containers) = to.spec_mut().get_mut(list).and_then(Value::as_array_mut) else { return };
    for container in containers.iter_mut().filter_map(Value::as_object_mut) {
        let same = sent.iter().find(|c| c.get("name") == container.get("name"));
        for part in ["resources", "resizePolicy"] {
            match same.and_then(|c| c.get(part)) {
                Some(value) => container.insert(part.to_owned(), value.clone()),
                None => container.remove(part),
            };
        }
    }
}
