//! CSINode.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, ..Rules::NONE };

fn validate(node: &C) {
    let mut names: Vec<&str> = Vec::new();
    for driver in node.get("spec.drivers").items() {
        let name = driver.get("name");
        if name.required() {
            name.max_len(63);
            name.check(|name| meta::names::dns1123_subdomain(&name.to_lowercase()));
        }
        if names.contains(&name.str()) {
            name.duplicate();
        }
        names.push(name.str());
        let id = driver.get("nodeID");
        if id.required() {
            id.max_len(256);
        }
        driver.get("allocatable.count").non_negative();
        for key in driver.get("topologyKeys").items() {
            key.check(meta::names::qualified_name);
        }
    }
}
