//! What plugins may use of their scheduler.

use std::sync::Arc;

use api::k8s::core::v1::Pod;
use client::Client;
use informer::{Factory, Informer, Recorder};

use crate::groups::Groups;
use crate::nominator::Nominator;
use crate::queue::Queue;
use crate::waiting::Waiting;

/// Given to every plugin when it is made. Informers come from the factory; asking for one makes it run.
#[derive(Clone)]
pub struct Handle {
    /// Calls to the API server.
    pub client: Client,
    /// Shared caches.
    pub factory: Factory,
    /// Events of the profile.
    pub recorder: Recorder,
    /// The profile's name.
    pub profile: Arc<str>,
    /// What is switched on.
    pub gates: features::Gates,
    pub(crate) pods: Informer<Pod>,
    pub(crate) groups: Arc<Groups>,
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) nominator: Arc<Nominator>,
}
