//! Defaulting, validation and conversion of built-in kinds, on the JSON tree.
//!
//! Each kind is one file `src/<group>/<kind>.rs` with one [`Rules`] constant, which `kinds` puts behind the
//! pipeline. Validation code works on [`C`], a cursor that carries value and path; defaulting code works on
//! [`Tree`] with the helpers of [`Defaults`]. Nothing here does IO, and only `resource` device taints
//! look at the clock (their default is "now").

pub mod admissionregistration;
pub mod apiextensions;
pub mod apps;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
mod cursor;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod gates;
pub mod meta_v1;
pub mod networking;
pub mod node;
pub mod policy;
pub mod rbac;
pub mod resource;
pub mod resources;
pub mod scheduling;
pub mod storage;
mod tree;

pub use cursor::{C, Sink, same_value};
use meta::{Object, field};
pub use tree::{Defaults, Tree};

/// What this crate knows about one kind, always in its hub version.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Fills in defaults.
    pub default: fn(&mut Tree),
    /// Validates a new object, metadata aside.
    pub validate: fn(&C),
    /// Validates an update (new, old), metadata aside; does *not* repeat [`Rules::validate`] unless
    /// [`Rules::revalidate`] says so.
    pub validate_update: fn(&C, &C),
    /// Validates an update of the status subresource (new, old).
    pub validate_status: fn(&C, &C),
    /// Whether an update also runs [`Rules::validate`] on the new object, as most kinds do.
    pub revalidate: bool,
}

impl Rules {
    /// No rule at all; kinds name what differs with the struct update syntax.
    pub const NONE: Rules = Rules {
        default: |_| {},
        validate: |_| {},
        validate_update: |_, _| {},
        validate_status: |_, _| {},
        revalidate: true,
    };

    /// Runs the create validation.
    pub fn check(&self, object: &Object) -> Vec<field::Error> {
        check(object, self.validate)
    }

    /// Runs the update validation.
    pub fn check_update(&self, object: &Object, old: &Object) -> Vec<field::Error> {
        check_pair(object, old, |new, old| {
            (self.validate_update)(new, old);
            if self.revalidate {
                (self.validate)(new);
            }
        })
    }

    /// Runs the validation of a status update.
    pub fn check_status(&self, object: &Object, old: &Object) -> Vec<field::Error> {
        check_pair(object, old, self.validate_status)
    }
}

/// Runs validation code over an object and collects what it finds.
pub fn check(object: &Object, rule: impl FnOnce(&C)) -> Vec<field::Error> {
    let sink = Sink::default();
    rule(&C::body(&object.body, &sink));
    sink.into_errors()
}

/// Runs validation code over a new and an old object and collects what it finds.
pub fn check_pair(object: &Object, old: &Object, rule: impl FnOnce(&C, &C)) -> Vec<field::Error> {
    let sink = Sink::default();
    rule(&C::body(&object.body, &sink), &C::body(&old.body, &sink));
    sink.into_errors()
}
