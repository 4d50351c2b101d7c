//! PodTemplate.

use crate::{C, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

fn default(body: &mut Tree) {
    super::pod_defaults::template(body);
}

fn validate(template: &C) {
    super::pod_spec::template(&template.get("template"));
}
