//! Workload: the templates of a controller's pod groups.

use meta::names;

use super::pod_group::{fixed, named, policy};
use crate::{C, Rules};

/// Rules of the kind. An update repeats nothing, as nothing in the spec may change.
pub const RULES: Rules = Rules { validate, validate_update: update, revalidate: false, ..Rules::NONE };

/// Most templates, upstream's number.
const TEMPLATES_MAX: usize = 8;

fn validate(workload: &C) {
    let spec = workload.get("spec");
    let controller = spec.get("controllerRef");
    if controller.exists() {
        let group = controller.get("apiGroup");
        if !group.is_zero() {
            group.check(names::dns1123_subdomain);
        }
        named(&controller.get("kind"), names::path_segment);
        named(&controller.get("name"), names::path_segment);
    }
    let templates = spec.get("podGroupTemplates");
    let few = templates.max_items(TEMPLATES_MAX);
    if templates.is_empty() {
        templates.missing("");
    }
    if !few || templates.is_empty() {
        return;
    }
    let mut seen = Vec::new();
    for template in templates.items() {
        let name = template.get("name");
        if seen.contains(&name.str()) {
            template.duplicate();
        }
        seen.push(name.str());
        named(&name, names::dns1123_label);
        policy(&template.get("schedulingPolicy"));
    }
}

fn update(new: &C, old: &C) {
    let (spec, before) = (new.get("spec"), old.get("spec"));
    fixed(&spec, &before, "controllerRef");
    fixed(&spec, &before, "podGroupTemplates");
}
