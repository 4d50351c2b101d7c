//! Reading quantities out of typed resource lists.

use std::collections::BTreeMap;

use crate::k8s::Quantity;

/// A resource list of the API.
pub type ResourceList = BTreeMap<String, Quantity>;

/// Parses one quantity; what the API server has accepted parses, anything else counts as zero.
#[must_use]
pub fn parse(quantity: &Quantity) -> meta::quantity::Quantity {
    quantity.0.parse().unwrap_or_else(|_| meta::quantity::Quantity::from_units(0, meta::quantity::Format::DecimalSi))
}

/// The value in units, rounded up; `None` where the list has no such resource.
#[must_use]
pub fn value(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list?.get(name).map(|q| parse(q).value())
}

/// The value in thousandths, rounded up; `None` where the list has no such resource.
#[must_use]
pub fn milli(list: Option<&ResourceList>, name: &str) -> Option<i64> {
    list?.get(name).map(|q| parse(q).milli_value())
}
