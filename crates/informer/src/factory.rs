//! One informer per kind and scope in a process.

use std::any::{Any, TypeId};
use std::sync::Arc;

use api::Kind;
use client::Client;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rt::{HashMap, Shutdown};

use crate::informer::{Informer, Scope};

type Starter = Box<dyn FnOnce(Shutdown) + Send>;
type Waiter = Box<dyn Fn() -> BoxFuture<'static, ()> + Send>;

#[derive(Default)]
struct State {
    informers: HashMap<(TypeId, Scope), Box<dyn Any + Send>>,
    starters: Vec<Starter>,
    waiters: Vec<Waiter>,
    running: Option<Shutdown>,
}

/// Hands out shared informers of one identity. Clones share them.
#[derive(Clone)]
pub struct Factory {
    client: Client,
    state: Arc<Mutex<State>>,
}

impl Factory {
    /// A factory whose informers call with this client.
    pub fn new(client: Client) -> Self {
        Self { client, state: Arc::default() }
    }

    /// The client that the informers use.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The informer of all objects of a kind.
    pub fn informer<T: Kind>(&self) -> Informer<T> {
        self.scoped(Scope::default())
    }

    /// The informer of some objects of a kind. It starts with the factory, or now when that runs already.
    pub fn scoped<T: Kind>(&self, scope: Scope) -> Informer<T> {
        let mut state = self.state.lock();
        let key = (TypeId::of::<T>(), scope.clone());
        let known = state.informers.get(&key).and_then(|any| any.downcast_ref::<Informer<T>>());
        if let Some(informer) = known {
            return informer.clone();
        }
        let informer = Informer::<T>::new(scope);
        state.informers.insert(key, Box::new(informer.clone()));
        let (client, runs, waits) = (self.client.clone(), informer.clone(), informer.clone());
        let start = move |shutdown: Shutdown| {
            rt::spawn("informer", runs.run(client, shutdown));
        };
        match &state.running {
            Some(shutdown) => start(shutdown.clone()),
            None => state.starters.push(Box::new(start)),
        }
        state.waiters.push(Box::new(move || {
            let informer = waits.clone();
            Box::pin(async move { informer.synced().await })
        }));
        informer
    }

    /// Starts all informers there are, and from now on each new one at once.
    pub fn start(&self, shutdown: &Shutdown) {
        let mut state = self.state.lock();
        state.running = Some(shutdown.clone());
        for starter in std::mem::take(&mut state.starters) {
            starter(shutdown.clone());
        }
    }

    /// Waits until all informers there are have their first list.
    pub async fn synced(&self) {
        let waits: Vec<_> = self.state.lock().waiters.iter().map(|wait| wait()).collect();
        futures::future::join_all(waits).await;
    }
}
