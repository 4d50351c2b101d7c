//! Faults beside those of requests: processes killed, servers restarted, clocks set, machines switched off.

use std::sync::Arc;
use std::time::Duration;

use hollow::Fleet;
use http::Method;
use rt::rand::below;
use rt::time::SignedDuration;
use serde_json::{Value, json};

use crate::note;
use crate::plane::Instance;
use crate::server::Api;
use crate::user::User;

/// What can be broken.
pub struct Chaos {
    /// The API server.
    pub api: Arc<Api>,
    /// Controllers and schedulers.
    pub instances: Vec<Arc<Instance>>,
    /// The nodes.
    pub fleet: Fleet,
    /// Names of the nodes.
    pub nodes: Vec<String>,
}

fn millis(from: u64, span: u64) -> Duration {
    Duration::from_millis(from + below(span))
}

impl Chaos {
    /// Breaks one thing.
    ///
    /// # Errors
    /// The API server does not come back.
    pub async fn act(&self, user: &User) -> anyhow::Result<()> {
        match below(16) {
            0..5 => {
                let at = below(self.instances.len() as u64) as usize;
                note!("chaos: kill instance {at}");
                self.instances[at].kill();
            }
            5 => {
                let at = below(self.instances.len() as u64) as usize;
                note!("chaos: stop instance {at}");
                self.instances[at].stop();
            }
            6..9 => self.restart_server().await?,
            9..11 => {
                let seconds = i64::try_from(below(1200)).unwrap_or(0);
                let by = if below(3) == 0 { -seconds / 10 } else { seconds };
                note!("chaos: clock jumps by {by} s");
                rt::time::jump(SignedDuration::from_secs(by));
            }
            11 => self.compact().await,
            12..15 => self.power_cycle(),
            _ => self.trouble_node(user).await,
        }
        Ok(())
    }

    async fn restart_server(&self) -> anyhow::Result<()> {
        note!("chaos: API server killed");
        self.api.kill();
        rt::time::sleep(millis(50, if below(3) == 0 { 25_000 } else { 2_000 })).await;
        self.api.start().await?;
        note!("chaos: API server is back");
        Ok(())
    }

    async fn compact(&self) {
        let Ok(head) = self.api.store().current_revision().await else { return };
        let revision = head - i64::try_from(below(20)).unwrap_or(0);
        note!("chaos: compact to {revision}");
        if let Err(error) = self.api.store().compact(revision).await {
            note!("chaos: compaction: {error}");
        }
    }

    fn power_cycle(&self) {
        let name = self.nodes[below(self.nodes.len() as u64) as usize].clone();
        let off = millis(1_000, if below(2) == 0 { 150_000 } else { 20_000 });
        note!("chaos: node {name} is off for {off:?}");
        self.fleet.power_off(&name);
        let fleet = self.fleet.clone();
        rt::spawn("power", async move {
            rt::time::sleep(off).await;
            note!("chaos: node {name} is on");
            fleet.power_on(&name);
        });
    }

    /// Deletes a node's object, which comes back, or keeps new pods off it.
    async fn trouble_node(&self, user: &User) {
        let name = &self.nodes[below(self.nodes.len() as u64) as usize];
        let path = format!("/api/v1/nodes/{name}");
        if below(3) == 0 {
            note!("chaos: delete node {name}");
            user.call(Method::DELETE, &path, &Value::Null).await;
        } else {
            note!("chaos: cordon node {name}");
            user.call(Method::PATCH, &path, &json!({"spec": {"unschedulable": true}})).await;
        }
    }
}
