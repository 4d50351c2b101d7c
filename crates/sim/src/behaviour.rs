//! What containers do on the simulated nodes: start late, now and then crash or fail, stop slowly.

use std::sync::Arc;
use std::time::Duration;

use api::prelude::Pod;
use hollow::{Behaviour, Life};
use rt::rand::below;

use crate::transport::Weather;

/// See the module.
pub struct Whims(pub Arc<Weather>);

fn millis(from: u64, span: u64) -> Duration {
    Duration::from_millis(from + below(span))
}

impl Behaviour for Whims {
    fn start_delay(&self, _: &Pod) -> Duration {
        millis(100, if below(10) == 0 { 15_000 } else { 2_000 })
    }

    fn life(&self, pod: &Pod) -> Life {
        let bad = self.0.is_bad();
        let policy = pod.spec.as_ref().and_then(|s| s.restart_policy.as_deref()).unwrap_or("Always");
        if policy == "Always" {
            let crashes = bad && below(100) < 5;
            return if crashes { Life::Exits { after: millis(1_000, 40_000), code: 1 } } else { Life::Endless };
        }
        Life::Exits { after: millis(500, 15_000), code: i32::from(bad && below(100) < 15) }
    }

    fn stop(&self, _: &Pod) -> (Duration, i32) {
        let code = if below(2) == 0 { 0 } else { 143 };
        (millis(50, if below(10) == 0 { 20_000 } else { 2_000 }), code)
    }
}
