//! ServiceCIDR: a range is ready once it is protected, and goes only when no address depends on it.

use std::sync::Arc;
use std::time::Duration;

use api::Kind;
use api::k8s::networking::v1::{IPAddress, ServiceCIDR, ServiceCIDRStatus};
use api::metav1::{Condition, Time};
use client::Error;
use informer::{Delta, Informer, Queue, run_workers};
use ipnet::IpNet;

use crate::frame::Context;
use crate::storage::protection::{has, write};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long allocators may take to learn that a range is going, as upstream.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the controller.
pub(crate) async fn run(context: Context) {
    let ranges = context.factory.informer::<ServiceCIDR>();
    let addresses = context.factory.informer::<IPAddress>();
    let queue = Arc::new(Queue::new());
    // A range may take over the addresses of another, so each change is looked at for all; there are few.
    let (of_range, known) = (queue.clone(), ranges.clone());
    ranges.add_handler(move |delta| {
        of_range.add(delta.object().name().to_owned());
        known.cache().list().iter().for_each(|range| of_range.add(range.name().to_owned()));
    });
    let (of_address, known) = (queue.clone(), ranges.clone());
    addresses.add_handler(move |delta| {
        if matches!(delta, Delta::Deleted(_)) {
            let going = known.cache().list();
            going.iter().filter(|r| r.is_deleting()).for_each(|range| of_address.add(range.name().to_owned()));
        }
    });
    ranges.synced().await;
    addresses.synced().await;
    let shutdown = context.shutdown.clone();
    let again = queue.clone();
    run_workers("service cidr", queue, 1, shutdown, move |name: String| {
        let (context, ranges, addresses, again) = (context.clone(), ranges.clone(), addresses.clone(), again.clone());
        async move { sync(&context, &ranges, &addresses, &again, &name).await }
    })
    .await;
}

async fn sync(
    context: &Context,
    ranges: &Informer<ServiceCIDR>,
    addresses: &Informer<IPAddress>,
    again: &Queue<String>,
    name: &str,
) -> Result<(), Error> {
    let Some(range) = ranges.cache().get_key(name) else { return Ok(()) };
    let Some(since) = range.metadata.deletion_timestamp.as_ref() else {
        if !has(&*range, FINALIZER) {
            // The change comes back as an event, and the condition is set then.
            return write(context, &*range, FINALIZER, true).await;
        }
        return set_ready(context, &range, "True", "", "Kubernetes Service CIDR is ready").await;
    };
    if !has(&*range, FINALIZER) {
        return Ok(());
    }
    let others: Vec<IpNet> =
        ranges.cache().list().iter().filter(|r| r.name() != name && !r.is_deleting()).flat_map(|r| nets(r)).collect();
    let used = addresses.cache().list();
    if !may_go(&nets(&range), &others, used.iter().map(|a| a.name())) {
        let message = "IPAddresses still depend on this range: remove them, or make another range that holds them";
        return set_ready(context, &range, "False", "Terminating", message).await;
    }
    let gone_for = rt::time::between(since.0, rt::time::now());
    if gone_for < GRACE {
        again.add_after(name.to_owned(), GRACE - gone_for);
        return Ok(());
    }
    write(context, &*range, FINALIZER, false).await
}

fn nets(range: &ServiceCIDR) -> Vec<IpNet> {
    let listed = range.spec.as_ref().and_then(|s| s.cidrs.as_deref()).unwrap_or_default();
    listed.iter().filter_map(|text| text.parse().ok()).collect()
}

/// Whether no address is left without a range when this one goes.
fn may_go<'a>(own: &[IpNet], others: &[IpNet], mut addresses: impl Iterator<Item = &'a str>) -> bool {
    if own.iter().all(|net| others.iter().any(|other| other.contains(net))) {
        return true;
    }
    !addresses.any(|text| {
        let Ok(address) = text.parse::<std::net::IpAddr>() else { return false };
        own.iter().any(|net| net.contains(&address)) && !others.iter().any(|net| net.contains(&address))
    })
}

async fn set_ready(
    context: &Context,
    range: &ServiceCIDR,
    status: &str,
    reason: &str,
    message: &str,
) -> Result<(), Error> {
    let mut conditions = range.status.as_ref().and_then(|s| s.conditions.clone()).unwrap_or_default();
    let known = conditions.iter().find(|c| c.type_ == "Ready");
    // The API server words the condition of its own range.
    if known.is_some_and(|c| c.status == status && (status == "True" || (c.reason == reason && c.message == message))) {
        return Ok(());
    }
    let since = known.filter(|c| c.status == status).map(|c| c.last_transition_time.clone());
    conditions.retain(|c| c.type_ != "Ready");
    conditions.push(Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: since.unwrap_or_else(|| Time(rt::time::now())),
        observed_generation: None,
    });
    let changed = ServiceCIDR { status: Some(ServiceCIDRStatus { conditions: Some(conditions) }), ..range.clone() };
    match context.client.update_status(&changed).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::may_go;

    #[test]
    fn ranges_go_when_no_address_is_left_alone() {
        let nets = |list: &[&str]| list.iter().filter_map(|n| n.parse().ok()).collect::<Vec<ipnet::IpNet>>();
        let own = nets(&["10.1.0.0/24"]);
        for (others, addresses, wanted) in [
            (vec![], vec![], true),
            (vec![], vec!["10.2.0.1"], true),
            (vec![], vec!["10.1.0.7"], false),
            (vec!["10.1.0.0/28"], vec!["10.1.0.7"], true),
            (vec!["10.1.0.0/28"], vec!["10.1.0.77"], false),
            (vec!["10.1.0.0/16"], vec!["10.1.0.77"], true),
        ] {
            assert_eq!(may_go(&own, &nets(&others), addresses.into_iter()), wanted, "{others:?}");
        }
    }
}
