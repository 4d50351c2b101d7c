//! API priority and fairness: FlowSchemas sort requests into priority levels, a level gives seats, waiting requests queue by shuffle
//! sharding and leave the queues fairly.
//!
//! A request that begins or ends is what moves the queues. What a level may have is set anew every ten seconds by what the levels
//! wanted, between what it never lends and its borrowing limit ([`borrow`]).

mod bootstrap;
mod borrow;
mod config;
mod dump;
mod follow;
mod metrics;
mod pool;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use auth_api::UserInfo;
use meta::Status;
use parking_lot::RwLock;

use self::config::{LevelConfig, Schema};
pub(crate) use self::dump::answer;
pub(crate) use self::follow::start;
use self::pool::{Arrival, Details, Pool, Ticket};
use crate::query::Query;
use crate::reqinfo::RequestInfo;
use crate::server::State;

/// Listed objects that count for one seat, and the most seats of a list; upstream's.
const OBJECTS_PER_SEAT: usize = 100;
const MAX_LIST_SEATS: u32 = 10;

/// What sorts and limits requests.
pub(crate) struct FlowControl {
    schemas: RwLock<Arc<Vec<Schema>>>,
    pool: Arc<Pool>,
    /// Longest time in a queue.
    patience: Duration,
    /// Whether the bootstrap objects were stored; until then those that are missing stand as built in.
    produced: AtomicBool,
}

/// A request that may run, until this is dropped.
pub(crate) struct Admitted {
    _ticket: Ticket,
    /// Uids of the FlowSchema and of its level, for the answer's headers; empty before they are stored.
    pub uids: (String, String),
}

impl FlowControl {
    /// Flow control over a number of seats, with the bootstrap configuration until the stored one is read.
    pub fn new(seats: usize, request_timeout: Duration) -> Self {
        let flow = Self {
            schemas: RwLock::default(),
            pool: Arc::new(Pool::new(u32::try_from(seats).unwrap_or(u32::MAX))),
            patience: request_timeout / 4,
            produced: AtomicBool::new(false),
        };
        let (schemas, levels) = bootstrap::parsed();
        flow.configure(schemas, &levels);
        flow
    }

    /// Takes a new configuration; what waits or runs is not disturbed.
    fn configure(&self, mut schemas: Vec<Schema>, levels: &[LevelConfig]) {
        schemas.retain(|s| levels.iter().any(|l| l.name == s.level));
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        self.pool.configure(levels);
        *self.schemas.write() = Arc::new(schemas);
    }

    /// Waits for seats.
    ///
    /// # Errors
    /// 429: the level is full and does not queue, its queue is full, or the wait was too long.
    pub async fn admit(
        &self,
        state: &State,
        info: &RequestInfo,
        query: &Query,
        user: &UserInfo,
    ) -> Result<Option<Admitted>, Status> {
        if info.long_running() && info.verb != "watch" {
            return Ok(None);
        }
        let schemas = self.schemas.read().clone();
        let Some(schema) = schemas.iter().find(|s| s.matches(info, user)) else {
            // Only while the mandatory objects are being replaced.
            return Ok(None);
        };
        let details = Details {
            user: user.name.clone(),
            verb: info.verb,
            path: info.path.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
        };
        let arrival = Arrival {
            schema: schema.name.clone(),
            distinguisher: schema.distinguisher(info, user).to_owned(),
            seats: seats(state, info, query),
            details,
        };
        let ticket = self.pool.admit(&schema.level, arrival, self.patience).await?;
        let level_uid = self.pool.uid(&schema.level);
        Ok(Some(Admitted { _ticket: ticket, uids: (schema.uid.clone(), level_uid) }))
    }
}

/// How wide a request is: lists by the number of objects they go through.
fn seats(state: &State, info: &RequestInfo, query: &Query) -> u32 {
    if info.verb != "list" {
        return 1;
    }
    let stored = state.registry.get(&info.group, &info.resource).and_then(|r| r.cached_objects()).unwrap_or(0);
    let limit = query.get("limit").parse::<usize>().unwrap_or(0);
    let objects = if limit > 0 { stored.min(limit) } else { stored };
    u32::try_from(objects.div_ceil(OBJECTS_PER_SEAT)).unwrap_or(MAX_LIST_SEATS).clamp(1, MAX_LIST_SEATS)
}

#[cfg(test)]
mod tests;
