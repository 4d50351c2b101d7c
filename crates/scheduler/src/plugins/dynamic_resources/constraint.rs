//! Constraints between the devices of a claim.

use api::k8s::resource::v1::{Device, DeviceAttribute, DeviceConstraint};

/// One constraint with the values of the devices that were chosen so far.
pub(super) struct Constraint<'a> {
    requests: &'a [String],
    attribute: &'a str,
    distinct: bool,
    chosen: Vec<&'a DeviceAttribute>,
}

fn attribute<'a>(device: &'a Device, driver: &str, name: &str) -> Option<&'a DeviceAttribute> {
    let attributes = device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, id) = name.split_once('/')?;
        attributes.get(id).filter(|_| domain == driver)
    })
}

/// Whether two values are the same, and of the same kind; lists are compared with nothing.
fn same(a: &DeviceAttribute, b: &DeviceAttribute) -> bool {
    match (&a.string, a.int, a.bool, &a.version) {
        (Some(_), ..) => a.string == b.string,
        (None, Some(_), ..) => a.int == b.int,
        (None, None, Some(_), _) => a.bool == b.bool,
        (None, None, None, Some(_)) => a.version == b.version,
        _ => false,
    }
}

impl<'a> Constraint<'a> {
    /// None when the constraint is of a kind that is not known.
    pub(super) fn new(constraint: &'a DeviceConstraint) -> Option<Self> {
        let (attribute, distinct) = match (&constraint.match_attribute, &constraint.distinct_attribute) {
            (Some(name), _) => (name, false),
            (None, Some(name)) => (name, true),
            (None, None) => return None,
        };
        let requests = constraint.requests.as_deref().unwrap_or_default();
        Some(Self { requests, attribute, distinct, chosen: Vec::new() })
    }

    /// Whether it is about a request; `full` is the request with its alternative.
    fn concerns(&self, request: &str, full: &str) -> bool {
        self.requests.is_empty() || self.requests.iter().any(|name| name == request || name == full)
    }

    /// Takes a device in; `false` when the constraint forbids it.
    pub(super) fn add(&mut self, request: &str, full: &str, driver: &str, device: &'a Device) -> bool {
        if !self.concerns(request, full) {
            return true;
        }
        let Some(value) = attribute(device, driver, self.attribute) else { return false };
        let fits = match self.distinct {
            true => !self.chosen.iter().any(|other| same(value, other)),
            false => self.chosen.first().is_none_or(|other| same(value, other)),
        };
        if fits {
            self.chosen.push(value);
        }
        fits
    }

    /// Undoes the last [`Constraint::add`] that succeeded, of the same request.
    pub(super) fn remove(&mut self, request: &str, full: &str) {
        if self.concerns(request, full) {
            self.chosen.pop();
        }
    }
}
