//! Controllers and schedulers: each of two instances, of which one leads, run by a supervisor that starts anew what ends.

use std::sync::Arc;
use std::time::Duration;

use informer::{Factory, LeaderConfig, lead};
use parking_lot::Mutex;
use rt::Shutdown;

use crate::note;
use crate::server::Api;
use crate::transport::{Process, Weather};

/// What an instance runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// All controllers.
    Controllers,
    /// The scheduler.
    Scheduler,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::Controllers => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

struct Current {
    process: Arc<Process>,
    stop: Shutdown,
}

/// One instance, over all its lives.
pub struct Instance {
    component: Component,
    number: usize,
    current: Mutex<Option<Current>>,
}

impl Instance {
    /// Starts an instance and its supervisor, which ends with `shutdown`.
    pub fn start(
        component: Component,
        number: usize,
        api: &Arc<Api>,
        weather: &Arc<Weather>,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let instance = Arc::new(Self { component, number, current: Mutex::default() });
        let (own, api, weather, shutdown) = (instance.clone(), api.clone(), weather.clone(), shutdown.clone());
        rt::spawn("supervisor", async move {
            let mut life = 0;
            while !shutdown.is_cancelled() {
                own.live(life, &api, &weather, &shutdown).await;
                life += 1;
                let pause = Duration::from_millis(500 + rt::rand::below(4_000));
                shutdown.run(rt::time::sleep(pause)).await;
            }
        });
        instance
    }

    async fn live(&self, life: usize, api: &Arc<Api>, weather: &Arc<Weather>, shutdown: &Shutdown) {
        let name = format!("{}-{}.{life}", self.component.name(), self.number);
        let process = Process::new(&name, api, weather, true);
        let stop = shutdown.child();
        *self.current.lock() = Some(Current { process: process.clone(), stop: stop.clone() });
        note!("{name} starts");
        let client = process.client();
        let mut config = LeaderConfig::new("kube-system", self.component.name(), &name);
        if life % 2 == 1 {
            // Not all are patient alike.
            config.retry_period = Duration::from_secs(3);
        }
        let component = self.component;
        let work = {
            let client = client.clone();
            move |term: Shutdown| async move {
                let factory = Factory::new(client.clone());
                match component {
                    Component::Controllers => {
                        let options = controllers::Options {
                            node_monitor_grace: Duration::from_secs(25),
                            eviction: controllers::EvictionRates { healthy: 1.0, ..Default::default() },
                            ..controllers::Options::default()
                        };
                        term.clone().run(controllers::run(options, factory, |_| client.clone(), term)).await;
                    }
                    Component::Scheduler => {
                        let options = scheduler::Options::default();
                        term.clone().run(scheduler::run(options, client.clone(), factory, term)).await;
                    }
                }
            }
        };
        // A kill ends the tasks as well, whatever they wait for.
        lead(client, config, stop.clone(), work).await;
        stop.cancel();
        process.kill();
        note!("{name} ends");
    }

    /// Kills the process where it is; it comes back. Its lease is left to run out.
    pub fn kill(&self) {
        if let Some(current) = self.current.lock().take() {
            current.process.kill();
            current.stop.cancel();
        }
    }

    /// Stops the process as an operator does: it gives up its lease.
    pub fn stop(&self) {
        if let Some(current) = self.current.lock().take() {
            current.stop.cancel();
        }
    }
}
