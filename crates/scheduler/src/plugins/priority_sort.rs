//! PrioritySort: by priority, then by age. The queue has this order built in; the plugin gives it its name.

use crate::framework::{Plugin, Points};

pub(crate) struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }

    fn points(&self) -> Points {
        Points::QUEUE_SORT
    }
}
