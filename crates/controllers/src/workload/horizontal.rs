//! Horizontal pod autoscaler: keeps metrics near their targets by the scale subresource of any kind.
//!
//! Every autoscaler is looked at once per period (upstream's 15 s). [`calculate`] says what a metric asks for,
//! [`normalize`] what is done about it; both are pure. What cannot be read becomes a condition and an event, and the
//! next look is the retry.

mod calculate;
mod metrics;
mod monitor;
mod normalize;
mod round;
mod source;

use std::sync::Arc;

use api::Kind;
use api::k8s::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerCondition};
use api::k8s::core::v1::Pod;
use api::metav1::Time;
use informer::{Delta, Informer, Queue, run_workers};
use meta::selector::LabelSelector;
use parking_lot::Mutex;
use rt::HashMap;

use self::monitor::Monitor;
use self::normalize::Memory;
use crate::frame::Context;

struct Controller {
    context: Context,
    autoscalers: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    memory: Mutex<HashMap<String, Memory>>,
    /// The pods of each autoscaler's target, as last seen.
    selectors: Mutex<HashMap<String, LabelSelector>>,
    monitor: Monitor,
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let factory = context.factory.clone();
    let (autoscalers, pods) = (factory.informer::<HorizontalPodAutoscaler>(), factory.informer::<Pod>());
    let queue = Arc::new(Queue::new());
    let (shutdown, workers, period) =
        (context.shutdown.clone(), context.options.workers, context.options.autoscaler.sync_period);
    let handed = queue.clone();
    autoscalers.add_handler(move |delta| match delta {
        Delta::Added(new) => handed.add(new.key()),
        // Our own status writes come back here: they must not hasten the next look.
        Delta::Updated { old, new } if old.spec != new.spec => handed.add(new.key()),
        Delta::Updated { .. } => {}
        Delta::Deleted(old) => handed.add(old.key()),
    });
    autoscalers.synced().await;
    pods.synced().await;
    let controller = Arc::new(Controller {
        context,
        autoscalers,
        pods,
        memory: Mutex::default(),
        selectors: Mutex::default(),
        monitor: Monitor::new(),
    });
    let again = queue.clone();
    run_workers("horizontal pod autoscaler", queue, workers, shutdown, move |key: String| {
        let (controller, again) = (controller.clone(), again.clone());
        async move {
            controller.monitor.autoscalers(controller.autoscalers.cache().len());
            let Some(found) = controller.autoscalers.cache().get_key(&key) else {
                controller.memory.lock().remove(&key);
                controller.selectors.lock().remove(&key);
                let (namespace, name) = key.split_once('/').unwrap_or_default();
                controller.monitor.desired(namespace, name, 0);
                return Ok::<(), client::Error>(());
            };
            if let Err(why) = controller.sync(&found).await {
                tracing::debug!(autoscaler = key, why, "autoscaler could not do all it should");
            }
            // The period is the back-off: failing metrics are not asked for more often.
            again.add_after(key, period);
            Ok(())
        }
    })
    .await;
}

/// Sets a condition; the time changes only with the status.
fn set_condition(
    autoscaler: &mut HorizontalPodAutoscaler,
    type_: &str,
    status: bool,
    reason: &str,
    message: impl Into<String>,
) {
    let list = autoscaler.status.get_or_insert_default().conditions.get_or_insert_default();
    let status = if status { "True" } else { "False" };
    let at = match list.iter().position(|c| c.type_ == type_) {
        Some(at) => at,
        None => {
            list.push(HorizontalPodAutoscalerCondition { type_: type_.to_owned(), ..Default::default() });
            list.len() - 1
        }
    };
    let condition = &mut list[at];
    if condition.status != status {
        condition.last_transition_time = Some(Time(rt::time::now()));
    }
    condition.status = status.to_owned();
    condition.reason = Some(reason.to_owned());
    condition.message = Some(message.into());
}

impl Controller {
    /// The pods that a selector finds, unless other autoscalers have a hand on them too.
    ///
    /// # Errors
    /// Who else scales these pods.
    fn pods_of(
        &self,
        key: &str,
        namespace: &str,
        text: &str,
        selector: &LabelSelector,
    ) -> Result<Vec<Arc<Pod>>, String> {
        let mut pods = self.pods.cache().in_namespace(namespace);
        pods.retain(|pod| selector.matches_map(pod.labels()));
        let mut selectors = self.selectors.lock();
        selectors.insert(key.to_owned(), selector.clone());
        let mut others: Vec<&str> = selectors
            .iter()
            .filter(|(other, s)| {
                other.split_once('/').is_some_and(|(ns, _)| ns == namespace)
                    && pods.iter().any(|pod| s.matches_map(pod.labels()))
            })
            .filter_map(|(other, _)| other.split_once('/').map(|(_, name)| name))
            .collect();
        if others.len() < 2 {
            return Ok(pods);
        }
        others.sort_unstable();
        let list: Vec<String> = others.iter().map(|name| format!("{{{name} {namespace}}}")).collect();
        Err(format!("pods by selector {text} are controlled by multiple HPAs: [{}]", list.join(" ")))
    }
}
