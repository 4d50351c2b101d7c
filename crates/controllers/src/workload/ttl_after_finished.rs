//! Deletes finished Jobs after `ttlSecondsAfterFinished`.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::batch::v1::Job;
use client::{DeleteOptions, Error, Propagation};
use informer::{Delta, Informer, Queue, run_workers};
use rt::time::Timestamp;

use crate::frame::Context;

/// When the job may go.
fn expires(job: &Job) -> Option<Timestamp> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_deref()?;
    let end = conditions.iter().find(|c| c.status == "True" && matches!(c.type_.as_str(), "Complete" | "Failed"))?;
    end.last_transition_time.as_ref()?.0.checked_add(jiff::SignedDuration::from_secs(ttl.into())).ok()
}

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let jobs = context.factory.informer::<Job>();
    let queue = Arc::new(Queue::new());
    let handed = queue.clone();
    jobs.add_handler(move |delta| {
        if !matches!(delta, Delta::Deleted(_)) && expires(delta.object()).is_some() {
            handed.add(delta.object().key());
        }
    });
    jobs.synced().await;
    let (shutdown, workers, again) = (context.shutdown.clone(), context.options.workers, queue.clone());
    run_workers("ttl after finished", queue, workers, shutdown, move |key: String| {
        let (context, jobs, again) = (context.clone(), jobs.clone(), again.clone());
        async move { sync(&context, &jobs, &again, key).await }
    })
    .await;
}

async fn sync(context: &Context, jobs: &Informer<Job>, queue: &Queue<String>, key: String) -> Result<(), Error> {
    let Some(cached) = jobs.cache().get_key(&key) else { return Ok(()) };
    let Some(at) = expires(&cached).filter(|_| !cached.is_deleting()) else { return Ok(()) };
    let left = rt::time::between(rt::time::now(), at);
    if !left.is_zero() {
        queue.add_after(key, left + Duration::from_millis(10));
        return Ok(());
    }
    // The cache may be behind: somebody may have given the job more time.
    let fresh: Job = match context.client.get(cached.namespace(), cached.name()).await {
        Err(error) if error.is_not_found() => return Ok(()),
        other => other?,
    };
    if fresh.uid() != cached.uid() || expires(&fresh).is_none_or(|at| at > rt::time::now()) {
        return Ok(());
    }
    let options = DeleteOptions {
        propagation: Some(Propagation::Foreground),
        resource_version: fresh.metadata.resource_version.clone(),
        ..DeleteOptions::of(fresh.uid())
    };
    match context.client.delete::<Job>(fresh.namespace(), fresh.name(), &options).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}
