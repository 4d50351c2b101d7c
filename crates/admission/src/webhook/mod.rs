//! stub
use std::sync::Arc;
use crate::plugin::{Deps, Plugin};
/// stub
pub trait Dial: Send + Sync {}
/// stub
pub fn mutating(_deps: &Deps) -> Arc<dyn Plugin> { Arc::new(crate::plugins::always::AlwaysAdmit) }
/// stub
pub fn validating(_deps: &Deps) -> Arc<dyn Plugin> { Arc::new(crate::plugins::always::AlwaysAdmit) }
