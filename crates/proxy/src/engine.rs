//! Applies plans: one planner per family over one connection to nf_tables.

use crate::conntrack::{Wanted, clean};
use crate::frame::TABLE;
use crate::model::{Family, Service, ServiceName, Settings, Slice};
use crate::planner::{Plan, Planner};
use std::collections::BTreeSet;
use std::error::Error as _;
use std::time::Instant;
use sys::netlink::sysctl;
use sys::nft::{Apply, Connection, Transaction};

/// Why the proxy cannot work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// nf_tables cannot be reached or refuses.
    #[error("nf_tables cannot be used (kernel 5.13 or newer and CAP_NET_ADMIN are needed)")]
    Nft(#[from] sys::nft::Error),
    /// A network property cannot be read or set.
    #[error("network")]
    Netlink(#[from] sys::netlink::Error),
    /// A flag or configuration file is wrong.
    #[error("{0}")]
    Config(String),
    /// A server cannot listen.
    #[error("listening on {address}")]
    Listen {
        /// Where.
        address: String,
        /// The system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The API cannot be reached.
    #[error("the API server's address or credentials")]
    Client(#[from] client::ConfigError),
}

/// What a sync did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Synced {
    /// All families were brought up to date.
    pub ok: bool,
    /// At least one table was made anew.
    pub full: bool,
    /// Services looked at.
    pub services: usize,
    /// Chains could not be deleted.
    pub cleanup_failed: bool,
}

/// Planners of all families, and the kernel.
pub struct Engine {
    planners: Vec<Planner>,
    kernel: Box<dyn Apply>,
    conntrack: bool,
}

impl Engine {
    /// On the calling thread's network namespace.
    ///
    /// # Errors
    /// When nf_tables cannot be reached.
    pub fn open(settings: Vec<Settings>) -> Result<Self, Error> {
        Ok(Self::new(settings, Box::new(Connection::open()?), true))
    }

    /// On whatever applies transactions; `conntrack` says whether UDP flows are cleaned up.
    pub fn new(settings: Vec<Settings>, kernel: Box<dyn Apply>, conntrack: bool) -> Self {
        Self { planners: settings.into_iter().map(Planner::new).collect(), kernel, conntrack }
    }

    /// The planners, one per family.
    pub fn planners(&self) -> &[Planner] {
        &self.planners
    }

    /// A Service came, changed or went.
    pub fn set_service(&mut self, name: &ServiceName, service: Option<&Service>) {
        for planner in &mut self.planners {
            planner.set_service(name.clone(), service.cloned());
        }
    }

    /// A slice came, changed or went.
    pub fn set_slice(&mut self, name: &str, slice: Option<&Slice>) {
        for planner in &mut self.planners {
            planner.set_slice(name, slice.cloned());
        }
    }

    /// After a fresh list: what is not named is gone.
    pub fn retain(&mut self, services: &BTreeSet<ServiceName>, slices: &BTreeSet<String>) {
        for planner in &mut self.planners {
            planner.retain(services, slices);
        }
    }

    /// Changes the settings of each family.
    pub fn update_settings(&mut self, change: impl Fn(&mut Settings)) {
        for planner in &mut self.planners {
            let mut settings = planner.settings().clone();
            change(&mut settings);
            planner.set_settings(settings);
        }
    }

    /// When there is something to clean up next.
    pub fn next_cleanup(&self) -> Option<Instant> {
        self.planners.iter().filter_map(Planner::next_stale).min()
    }

    /// Brings the kernel up to date. A refusal is logged, and the next sync makes that family's table anew.
    pub fn sync(&mut self) -> Synced {
        let now = Instant::now();
        let mut done = Synced { ok: true, ..Default::default() };
        for planner in &mut self.planners {
            if let Some(stale) = planner.collect(now)
                && let Err(error) = self.kernel.apply(&stale)
            {
                tracing::debug!(error = &error as &dyn std::error::Error, "stale chains are still in use");
                planner.keep_stale(&stale, now);
                done.cleanup_failed = true;
            }
            if !planner.is_dirty() {
                continue;
            }
            if planner.settings().localhost_node_ports && planner.settings().family == Family::Ip {
                allow_localhost();
            }
            let plan = planner.plan(now);
            done.full |= plan.full;
            done.services += plan.services;
            if let Some(transaction) = &plan.transaction {
                tracing::trace!(transaction = %transaction, "sync");
                if let Err(error) = self.kernel.apply(transaction) {
                    let cause = error.source().map(ToString::to_string).unwrap_or_default();
                    tracing::error!(%error, cause, "nf_tables sync failed");
                    planner.failed();
                    done.ok = false;
                    continue;
                }
            }
            if self.conntrack {
                clean_udp(planner, &plan);
            }
        }
        done
    }
}

/// 127.0.0.1 as the source of what is sent to a pod is a martian unless this is set.
fn allow_localhost() {
    if let Err(error) = sysctl::set("net/ipv4/conf/all/route_localnet", "1") {
        tracing::warn!(error = &error as &dyn std::error::Error, "node ports will not answer on localhost");
    }
}

fn clean_udp(planner: &Planner, plan: &Plan) {
    let mut wanted = Wanted::default();
    plan.udp
        .iter()
        .filter_map(|name| planner.piece(name))
        .flat_map(|piece| &piece.udp)
        .for_each(|port| wanted.add(port));
    match clean(planner.settings().family, &wanted) {
        Ok(0) => {}
        Ok(flows) => tracing::debug!(flows, "deleted stale UDP flows"),
        Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "could not clean up UDP flows"),
    }
}

/// Families that this kernel has.
pub fn families() -> Vec<Family> {
    Family::BOTH.into_iter().filter(|f| *f == Family::Ip || sysctl::exists("net/ipv6")).collect()
}

/// Removes the proxy's tables (`--cleanup`); absent is fine.
///
/// # Errors
/// When nf_tables refuses.
pub fn cleanup() -> Result<(), Error> {
    let mut kernel = Connection::open()?;
    for family in families() {
        if kernel.tables(family)?.iter().any(|t| t == TABLE) {
            let mut t = Transaction::new(family, TABLE);
            t.remove_table();
            kernel.apply(&t)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
