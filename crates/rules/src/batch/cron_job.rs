//! CronJob.

use crate::{Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, ..Rules::NONE };

fn default(body: &mut Tree) {
    let spec = body.make("spec");
    spec.default_str("concurrencyPolicy", "Allow");
    spec.default_value("suspend", false);
    spec.default_value("successfulJobsHistoryLimit", 3);
    spec.default_value("failedJobsHistoryLimit", 1);
    super::job::default_template(spec.make("jobTemplate").make("spec"));
}
