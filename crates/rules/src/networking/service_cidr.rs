//! ServiceCIDR.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_update: update, ..Rules::NONE };

fn validate(range: &C) {
    let cidrs = range.get("spec.cidrs");
    if cidrs.is_empty() {
        return cidrs.missing("at least one CIDR required");
    }
    if cidrs.len() > 2 {
        return cidrs.invalid("may only hold up to 2 values");
    }
    let mut families = Vec::new();
    for text in cidrs.items() {
        match super::cidr::Cidr::parse(text.str()) {
            None => text.invalid("must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"),
            Some(cidr) => {
                if !cidr.is_canonical(text.str()) {
                    text.invalid("must be in canonical form");
                }
                families.push(cidr.is_v4());
            }
        }
    }
    if families.len() == 2 && families[0] == families[1] {
        cidrs.invalid("may specify no more than one IP for each IP family");
    }
}

/// A second family may be added; nothing else changes.
fn update(new: &C, old: &C) {
    let (now, then) = (new.get("spec.cidrs"), old.get("spec.cidrs"));
    let grown = then.len() == 1 && now.len() == 2 && now.array().first() == then.array().first();
    if !grown && !now.same(&then) {
        now.invalid("field is immutable");
    }
}
