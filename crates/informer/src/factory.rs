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
    transforms: HashMap<TypeId, Box<dyn Any + Send>>,
    starters: Vec<Starter>,
    running: Option<Shutdown>,
}

/// Hands out shared informers of one identity. Clones share them.
#[derive(Clone)]
pub struct Factory {
    client: Client,
    state: Arc<Mutex<State>>,
    /// Of the informers that were asked for here.
    waiters: Arc<Mutex<Vec<Waiter>>>,
}

impl Factory {
    /// A factory whose informers call with this client.
    pub fn new(client: Client) -> Self {
        Self { client, state: Arc::default(), waiters: Arc::default() }
    }

    /// A factory that calls with another client and shares this one's informers, so that a process keeps one copy of
    /// each object. An informer lists and watches with the client of the factory that was asked for it first.
    pub fn sharing(&self, client: Client) -> Self {
        Self { client, state: self.state.clone(), waiters: Arc::default() }
    }

    /// Has what informers of a kind keep changed first, to keep less of it. For all informers of the kind that are made
    /// from now on; what they hand out is then no longer fit to be written back whole.
    pub fn set_transform<T: Kind>(&self, transform: fn(&mut T)) {
        self.state.lock().transforms.insert(TypeId::of::<T>(), Box::new(transform));
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
            let informer = informer.clone();
            self.await_later(&informer);
            return informer;
        }
        let transform = state.transforms.get(&TypeId::of::<T>()).and_then(|any| any.downcast_ref::<fn(&mut T)>());
        let informer = Informer::<T>::new(scope, transform.copied());
        state.informers.insert(key, Box::new(informer.clone()));
        let (client, runs) = (self.client.clone(), informer.clone());
        let start = move |shutdown: Shutdown| {
            rt::spawn("informer", runs.run(client, shutdown));
        };
        match &state.running {
            Some(shutdown) => start(shutdown.clone()),
            None => state.starters.push(Box::new(start)),
        }
        drop(state);
        self.await_later(&informer);
        informer
    }

    fn await_later<T: Kind>(&self, informer: &Informer<T>) {
        let waits = informer.clone();
        self.waiters.lock().push(Box::new(move || {
            let informer = waits.clone();
            Box::pin(async move { informer.synced().await })
        }));
    }

    /// Starts all informers there are, and from now on each new one at once.
    pub fn start(&self, shutdown: &Shutdown) {
        let mut state = self.state.lock();
        state.running = Some(shutdown.clone());
        for starter in std::mem::take(&mut state.starters) {
            starter(shutdown.clone());
        }
    }

    /// Waits until all informers that were asked for here have their first list.
    pub async fn synced(&self) {
        let waits: Vec<_> = self.waiters.lock().iter().map(|wait| wait()).collect();
        futures::future::join_all(waits).await;
    }
}
