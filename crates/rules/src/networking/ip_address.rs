//! IPAddress.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_update: update, ..Rules::NONE };

/// The name is the address itself, in its canonical form.
pub fn name(name: &str) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == name => Vec::new(),
        Ok(_) => vec!["must be a canonical format IP address".to_owned()],
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

fn validate(address: &C) {
    let parent = address.get("spec.parentRef");
    if !parent.exists() {
        return parent.missing("");
    }
    let group = parent.get("group");
    if !group.is_zero() {
        group.check(meta::names::dns1123_subdomain);
    }
    for field in ["resource", "name"] {
        let value = parent.get(field);
        if value.required() {
            value.check(meta::names::path_segment);
        }
    }
}

fn update(new: &C, old: &C) {
    new.get("spec.parentRef").immutable(&old.get("spec.parentRef"));
}
