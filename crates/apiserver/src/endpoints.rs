//! The endpoints of the `kubernetes` Service when several API servers share a store: upstream's `lease` reconciler. Each server
//! keeps a key with a short lease, and the endpoints are the addresses of the keys that live.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meta::{Object, Status};
use registry::{Access, Masters};
use serde_json::json;
use tracing::warn;

use crate::config::EndpointReconciler;
use crate::server::State;

/// How often our key is renewed, and those of others looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long leaving may hold up the end.
const LEAVE: Duration = Duration::from_secs(2);

/// Starts the loop, when it is wanted.
pub(crate) fn start(state: &Arc<State>) {
    let Some(own) = state.config.advertise else { return };
    if state.config.endpoint_reconciler != EndpointReconciler::Lease {
        return;
    }
    // Told of the end before it comes, so that nobody is sent here any more.
    let (state, shutdown) = (state.clone(), state.config.stopping.clone());
    rt::spawn("kubernetes-endpoints", async move {
        let masters = Masters::new(state.registry.store().clone());
        let access = Access::new(state.registry.clone());
        let mut published = Vec::new();
        loop {
            match turn(&masters, &access, own, &mut published).await {
                Ok(()) => {}
                // The namespace may not be there yet: soon again.
                Err(error) if published.is_empty() => {
                    tracing::debug!(%error, "endpoints of the kubernetes Service are not there yet");
                    if shutdown.run(rt::time::sleep(Duration::from_millis(200))).await.is_none() {
                        break;
                    }
                    continue;
                }
                Err(error) => warn!(%error, "endpoints of the kubernetes Service are not kept"),
            }
            if shutdown.run(rt::time::sleep(INTERVAL)).await.is_none() {
                break;
            }
        }
        // When it fails, the lease ends soon.
        let _ = rt::time::timeout(LEAVE, masters.leave(own.ip())).await;
    });
}

async fn turn(
    masters: &Masters,
    access: &Access,
    own: SocketAddr,
    published: &mut Vec<std::net::IpAddr>,
) -> Result<(), Status> {
    let mut record = Object::default();
    record.body.insert("kind".into(), "Endpoints".into());
    record.body.insert("apiVersion".into(), "v1".into());
    record.body.insert("subsets".into(), json!([{"addresses": [{"ip": own.ip().to_string()}]}]));
    let value = schema::codec::encode_protobuf(&record).map_err(Status::internal)?;
    let living = masters.renew(own.ip(), value).await.map_err(Status::internal)?;
    let living: Vec<_> = living.into_iter().filter(|ip| ip.is_ipv4() == own.is_ipv4()).collect();
    // Written whenever they differ, by whoever sees it first; a change by hand is put right, too.
    crate::bootstrap::publish(access, own, &living).await?;
    *published = living;
    Ok(())
}
