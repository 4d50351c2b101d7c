//! PriorityClass.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, ..Rules::NONE };

fn default(body: &mut Tree) {
    body.default_value("preemptionPolicy", "PreemptLowerPriority");
}

/// The highest priority that users may define.
const HIGHEST: i64 = 1_000_000_000;
/// Classes of the system: name and value.
const SYSTEM: [(&str, i64); 2] = [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

fn validate(class: &C) {
    let (name, value) = (class.get("metadata.name"), class.get("value"));
    if name.str().starts_with("system-") {
        let known = SYSTEM.iter().find(|(system, _)| *system == name.str());
        let error = match known {
            None => Some(format!("{} is not a known system priority class", name.str())),
            Some((_, expected)) if *expected != value.int() => {
                Some(format!("value of {} PriorityClass must be {expected}", name.str()))
            }
            Some(_) if class.get("globalDefault").is_true() => {
                Some(format!("globalDefault of {} PriorityClass must be false", name.str()))
            }
            Some(_) => None,
        };
        if let Some(error) = error {
            name.forbidden(format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {error}"
            ));
        }
    } else if value.int() > HIGHEST {
        value.forbidden(format!("maximum allowed value of a user defined priority is {HIGHEST}"));
    }
    let preemption = class.get("preemptionPolicy");
    if preemption.exists() {
        preemption.required_one_of(&["PreemptLowerPriority", "Never"]);
    }
}

fn update(new: &C, old: &C) {
    if new.get("value").int() != old.get("value").int() {
        new.get("value").forbidden("may not be changed in an update.");
    }
    new.get("preemptionPolicy").immutable(&old.get("preemptionPolicy"));
}
