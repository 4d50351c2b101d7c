//! Which device class stands behind an extended resource (DRAExtendedResource): the name that the class gives it, and one
//! that every class has of itself.

use std::sync::Arc;

use api::Kind;
use api::k8s::resource::v1::DeviceClass;
use informer::{Delta, Factory};
use parking_lot::Mutex;
use rt::HashMap;

use crate::pod_info::PodInfo;
use crate::resources::{Amounts, is_extended};

/// What comes before a class's own name in the resource that every class is known as.
const PREFIX: &str = "deviceclass.resource.kubernetes.io/";

/// Whether devices may stand behind a resource of this name.
pub(crate) fn may_be_devices(name: &str) -> bool {
    is_extended(name) || name.starts_with(PREFIX)
}

/// The resource name that a class gives its devices.
pub(crate) fn given_name(class: &DeviceClass) -> Option<&str> {
    class.spec.extended_resource_name.as_deref().filter(|name| !name.is_empty())
}

/// Whether a pod asks for a resource by a name that the class has of itself, or was given.
pub(crate) fn asks_for_class(requests: &Amounts, class: &DeviceClass, of_itself: bool) -> bool {
    let names =
        |name: &str| given_name(class) == Some(name) || (of_itself && name.strip_prefix(PREFIX) == Some(class.name()));
    requests.scalars.iter().any(|(name, _)| names(name))
}

#[derive(Default)]
struct State {
    classes: HashMap<String, Arc<DeviceClass>>,
    /// By the name that was given. Of several classes with one name the newest counts, then the first by its own name.
    given: HashMap<String, Arc<DeviceClass>>,
}

impl State {
    fn index(&mut self) {
        self.given.clear();
        let newer = |a: &DeviceClass, b: &DeviceClass| {
            let age = |class: &DeviceClass| class.metadata.creation_timestamp.as_ref().map(|at| at.0);
            age(a) > age(b) || (age(a) == age(b) && a.name() < b.name())
        };
        for class in self.classes.values() {
            let Some(name) = given_name(class) else { continue };
            if self.given.get(name).is_none_or(|known| newer(class, known)) {
                self.given.insert(name.to_owned(), class.clone());
            }
        }
    }
}

/// See the module. Without the gate there is no class behind any resource.
#[derive(Clone, Default)]
pub(crate) struct DeviceClasses(Option<Arc<Mutex<State>>>);

impl DeviceClasses {
    /// Follows the classes, when the gate is on.
    pub(crate) fn new(factory: &Factory, gates: &features::Gates) -> Self {
        if !gates.enabled("DRAExtendedResource") {
            return Self(None);
        }
        let state = Arc::new(Mutex::new(State::default()));
        let seen = state.clone();
        factory.informer::<DeviceClass>().add_handler(move |delta| {
            let mut state = seen.lock();
            let class = delta.object();
            match delta {
                Delta::Deleted(_) => state.classes.remove(class.name()),
                _ => state.classes.insert(class.name().to_owned(), class.clone()),
            };
            state.index();
        });
        Self(Some(state))
    }

    /// The class behind a resource.
    pub(crate) fn of(&self, resource: &str) -> Option<Arc<DeviceClass>> {
        let state = self.0.as_ref()?.lock();
        match resource.strip_prefix(PREFIX) {
            Some(class) => state.classes.get(class).cloned(),
            None => state.given.get(resource).cloned(),
        }
    }

    /// Whether a node that has none of a resource of its own may give it by devices.
    pub(crate) fn stands_for(&self, resource: &str, room: &Amounts) -> bool {
        self.0.is_some() && room.scalar(resource) == 0 && self.of(resource).is_some()
    }

    /// Whether a pod asks for any resource that devices stand behind.
    pub(crate) fn asked_by(&self, pod: &PodInfo) -> bool {
        let asked = |(name, amount): &(Arc<str>, i64)| *amount != 0 && may_be_devices(name) && self.of(name).is_some();
        self.0.is_some() && pod.requests.scalars.iter().any(asked)
    }

    #[cfg(test)]
    pub(crate) fn fixed(classes: impl IntoIterator<Item = DeviceClass>) -> Self {
        let classes = classes.into_iter().map(|class| (class.name().to_owned(), Arc::new(class))).collect();
        let mut state = State { classes, ..State::default() };
        state.index();
        Self(Some(Arc::new(Mutex::new(state))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(name: &str, given: Option<&str>, made: &str) -> DeviceClass {
        serde_json::from_value(json!({
            "metadata": {"name": name, "creationTimestamp": made}, "spec": {"extendedResourceName": given},
        }))
        .unwrap()
    }

    #[test]
    fn the_newest_class_has_the_name() {
        let classes = DeviceClasses::fixed([
            class("old", Some("example.com/gpu"), "2026-01-01T00:00:00Z"),
            class("new", Some("example.com/gpu"), "2026-01-02T00:00:00Z"),
            class("newer", Some("example.com/nic"), "2026-01-02T00:00:00Z"),
            class("also-new", Some("example.com/nic"), "2026-01-02T00:00:00Z"),
            class("plain", None, "2026-01-01T00:00:00Z"),
        ]);
        for (resource, want) in [
            ("example.com/gpu", Some("new")),
            ("example.com/nic", Some("also-new")),
            ("example.com/other", None),
            ("deviceclass.resource.kubernetes.io/plain", Some("plain")),
            ("deviceclass.resource.kubernetes.io/old", Some("old")),
            ("deviceclass.resource.kubernetes.io/nope", None),
        ] {
            assert_eq!(classes.of(resource).as_ref().map(|c| c.name()), want, "{resource}");
        }
        assert!(DeviceClasses::default().of("example.com/gpu").is_none());
    }
}
