//! What a claim asks for, in one form for requests and their alternatives.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::Kind;
use api::k8s::resource::v1::{DeviceClass, DeviceRequest, DeviceSelector, DeviceToleration, ResourceClaim};
use api::prelude::Quantity;

/// Finds classes by name.
pub(super) type Classes = Box<dyn Fn(&str) -> Option<Arc<DeviceClass>> + Send + Sync>;

/// How many devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Exactly(usize),
    All,
}

/// One way to satisfy a request.
pub(super) struct Alternative<'a> {
    /// The request, with the alternative when there are several: `gpu`, `gpu/large`.
    pub(super) full: String,
    pub(super) class: Arc<DeviceClass>,
    pub(super) selectors: &'a [DeviceSelector],
    pub(super) mode: Mode,
    pub(super) admin: Option<bool>,
    pub(super) tolerations: Option<&'a Vec<DeviceToleration>>,
    pub(super) capacity: Option<&'a BTreeMap<String, Quantity>>,
}

/// One request.
pub(super) struct Request<'a> {
    pub(super) name: &'a str,
    /// By preference.
    pub(super) alternatives: Vec<Alternative<'a>>,
}

/// The requests of a claim.
pub(super) fn requests(claim: &ResourceClaim) -> &[DeviceRequest] {
    claim.spec.devices.as_ref().and_then(|d| d.requests.as_deref()).unwrap_or_default()
}

/// The classes that a claim names, with the requests that do.
pub(super) fn classes(claim: &ResourceClaim) -> impl Iterator<Item = (String, &str)> {
    requests(claim).iter().flat_map(|request| {
        let exactly = request.exactly.iter().map(|e| (request.name.clone(), e.device_class_name.as_str()));
        let several = request.first_available.iter().flatten();
        exactly.chain(several.map(|a| (format!("{}/{}", request.name, a.name), a.device_class_name.as_str())))
    })
}

struct Asked<'a> {
    claim: &'a ResourceClaim,
    classes: &'a Classes,
}

impl Asked<'_> {
    fn error(&self, request: &str, text: impl std::fmt::Display) -> String {
        format!("claim {}, request {request}: {text}", self.claim.key())
    }

    fn class(&self, request: &str, name: &str) -> Result<Arc<DeviceClass>, String> {
        if name.is_empty() {
            return Err(self.error(request, "missing device class name (unsupported request type?)"));
        }
        let found = (self.classes)(name);
        found.ok_or_else(|| {
            let missing = format!("deviceclass.resource.k8s.io \"{name}\" not found");
            self.error(request, format!("could not retrieve device class {name}: {missing}"))
        })
    }

    fn mode(&self, request: &str, mode: Option<&str>, count: Option<i64>) -> Result<Mode, String> {
        match mode.unwrap_or("ExactCount") {
            "ExactCount" => {
                let count = count.unwrap_or(1);
                let whole = usize::try_from(count);
                whole.map(Mode::Exactly).map_err(|_| self.error(request, format!("exact count {count} is too large")))
            }
            "All" => Ok(Mode::All),
            other => Err(self.error(request, format!("unsupported count mode {other}"))),
        }
    }
}

fn capacity(of: Option<&api::k8s::resource::v1::CapacityRequirements>) -> Option<&BTreeMap<String, Quantity>> {
    of.and_then(|c| c.requests.as_ref())
}

/// Reads what a claim asks for.
///
/// # Errors
/// It asks for what is not known here, or for a class that is not there.
pub(super) fn read<'a>(claim: &'a ResourceClaim, known: &Classes) -> Result<Vec<Request<'a>>, String> {
    let asked = Asked { claim, classes: known };
    let mut all = Vec::new();
    for request in requests(claim) {
        let mut alternatives = Vec::new();
        if let Some(exactly) = &request.exactly {
            alternatives.push(Alternative {
                full: request.name.clone(),
                class: asked.class(&request.name, &exactly.device_class_name)?,
                selectors: exactly.selectors.as_deref().unwrap_or_default(),
                mode: asked.mode(&request.name, exactly.allocation_mode.as_deref(), exactly.count)?,
                admin: exactly.admin_access,
                tolerations: exactly.tolerations.as_ref(),
                capacity: capacity(exactly.capacity.as_ref()),
            });
        }
        for one in request.first_available.iter().flatten() {
            alternatives.push(Alternative {
                full: format!("{}/{}", request.name, one.name),
                class: asked.class(&one.name, &one.device_class_name)?,
                selectors: one.selectors.as_deref().unwrap_or_default(),
                mode: asked.mode(&one.name, one.allocation_mode.as_deref(), one.count)?,
                admin: None,
                tolerations: one.tolerations.as_ref(),
                capacity: capacity(one.capacity.as_ref()),
            });
        }
        if alternatives.is_empty() {
            return Err(asked.error(&request.name, "unknown request type"));
        }
        for alternative in &alternatives {
            if let Some(at) = alternative.selectors.iter().position(|s| s.cel.is_none()) {
                let text = format!("selector #{at}: CEL expression empty (unsupported selector type?)");
                return Err(format!("claim {}, request {}, {text}", claim.key(), alternative.full));
            }
        }
        all.push(Request { name: &request.name, alternatives });
    }
    Ok(all)
}
