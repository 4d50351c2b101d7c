//! Leader election by a Lease.

use std::time::Duration;

use api::k8s::coordination::v1::{Lease, LeaseSpec};
use api::metav1::{MicroTime, ObjectMeta};
use client::{Client, Error};
use rt::Shutdown;
use rt::time::{Instant, Timestamp};

/// Who elects, and how fast.
#[derive(Debug, Clone)]
pub struct LeaderConfig {
    /// Namespace of the lease.
    pub namespace: String,
    /// Name of the lease.
    pub name: String,
    /// Who we are; must be unique.
    pub identity: String,
    /// How long a leader that is silent stays leader.
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// How long to wait between tries.
    pub retry_period: Duration,
}

impl LeaderConfig {
    /// Upstream's default times.
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

struct Observed {
    version: String,
    at: Instant,
}

/// Waits to become leader, then runs `work` with a shutdown that ends with the leadership.
///
/// Returns when told to stop (the lease is released) or when the leadership is lost, as upstream's
/// components do, which then exit. Another's lease counts as expired by our own clock, from when we saw it
/// change, so clocks need not agree.
pub async fn lead<F, W>(client: Client, config: LeaderConfig, shutdown: Shutdown, work: W)
where
    W: FnOnce(Shutdown) -> F,
    F: Future<Output = ()>,
{
    let elector = Elector { client, config };
    if shutdown.run(elector.acquire()).await.is_none() {
        return;
    }
    tracing::info!(lease = elector.config.name, "became leader");
    let term = shutdown.child();
    rt::select! {
        () = work(term.clone()) => {}
        () = elector.hold() => tracing::error!(lease = elector.config.name, "leadership lost"),
        () = shutdown.cancelled() => {}
    }
    term.cancel();
    elector.release().await;
}

struct Elector {
    client: Client,
    config: LeaderConfig,
}

impl Elector {
    async fn acquire(&self) {
        let mut observed: Option<Observed> = None;
        loop {
            match self.try_hold(&mut observed).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(error = error.chain(), "cannot acquire the lease"),
            }
            rt::time::sleep(self.config.retry_period).await;
        }
    }

    /// Renews until that fails for the renew deadline or another holds the lease.
    async fn hold(&self) {
        let mut renewed = Instant::now();
        let mut observed = None;
        while renewed.elapsed() < self.config.renew_deadline {
            rt::time::sleep(self.config.retry_period).await;
            match rt::time::timeout(self.config.renew_deadline, self.try_hold(&mut observed)).await {
                Ok(Ok(true)) => renewed = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::debug!(error = error.chain(), "cannot renew the lease"),
                Err(_) => tracing::debug!("renewing the lease timed out"),
            }
        }
    }

    async fn try_hold(&self, observed: &mut Option<Observed>) -> Result<bool, Error> {
        let now = MicroTime(rt::time::now());
        let seconds = i32::try_from(self.config.lease_duration.as_secs()).unwrap_or(i32::MAX);
        let found = self.client.get::<Lease>(&self.config.namespace, &self.config.name).await;
        let mut lease = match found {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => {
                let spec = LeaseSpec {
                    holder_identity: Some(self.config.identity.clone()),
                    lease_duration_seconds: Some(seconds),
                    acquire_time: Some(now.clone()),
                    renew_time: Some(now),
                    lease_transitions: Some(0),
                    ..LeaseSpec::default()
                };
                let metadata = ObjectMeta {
                    namespace: Some(self.config.namespace.clone()),
                    name: Some(self.config.name.clone()),
                    ..ObjectMeta::default()
                };
                return match self.client.create(&Lease { metadata, spec: Some(spec) }).await {
                    Ok(_) => Ok(true),
                    Err(error) if error.is_already_exists() => Ok(false),
                    Err(error) => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let seen = match observed.take() {
            Some(seen) if seen.version == version => seen,
            _ => Observed { version, at: Instant::now() },
        };
        let spec = lease.spec.get_or_insert_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let ours = holder == self.config.identity;
        let valid_for = Duration::from_secs(spec.lease_duration_seconds.unwrap_or(0).unsigned_abs().into());
        if !ours && !holder.is_empty() && seen.at.elapsed() < valid_for {
            *observed = Some(seen);
            return Ok(false);
        }
        if !ours {
            spec.lease_transitions = Some(spec.lease_transitions.unwrap_or(0).saturating_add(1));
            spec.acquire_time = Some(now.clone());
        }
        spec.holder_identity = Some(self.config.identity.clone());
        spec.lease_duration_seconds = Some(seconds);
        spec.renew_time = Some(now);
        match self.client.update(&lease).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_conflict() => Ok(ours),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease up, so that the next leader need not wait for its end. Best effort.
    async fn release(&self) {
        let Ok(mut lease) = self.client.get::<Lease>(&self.config.namespace, &self.config.name).await else { return };
        let spec = lease.spec.get_or_insert_default();
        if spec.holder_identity.as_deref() != Some(&self.config.identity) {
            return;
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        if let Err(error) = self.client.update(&lease).await {
            tracing::debug!(error = error.chain(), "cannot release the lease");
        }
    }
}
