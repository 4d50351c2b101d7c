//! Where readings come from: the resource, custom and external metrics APIs.

use std::time::Duration;

use api::k8s::autoscaling::v2::{CrossVersionObjectReference, MetricIdentifier};
use bytes::Bytes;
use client::{Client, Error};
use http::Method;
use meta::quantity::Quantity;
use rt::time::Timestamp;
use serde_json::Value;

use super::calculate::{Reading, Readings};
use crate::discovery::resource_of;

/// The window that custom metrics have when they do not say.
const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const RESOURCE: &str = "/apis/metrics.k8s.io/v1beta1";
const EXTERNAL: &str = "/apis/external.metrics.k8s.io/v1beta1";
const CUSTOM: [&str; 2] = ["v1beta2", "v1beta1"];

fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}

fn milli(value: &Value) -> i64 {
    value.as_str().and_then(|text| text.parse::<Quantity>().ok()).unwrap_or_default().milli_value()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().and_then(|text| meta::time::parse(text).ok()).unwrap_or_default()
}

fn items(list: &Value) -> &[Value] {
    list["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

async fn get(client: &Client, path: &str) -> Result<Value, Error> {
    let bytes = client.call(Method::GET, path, None, Bytes::new()).await?;
    serde_json::from_slice(&bytes).map_err(Error::Decode)
}

/// Upstream's words for an API that does not answer. What is not an API's own answer, such as the word of an aggregator that
/// knows no such API, names what was asked for.
fn words(error: &Error, asked: &str) -> String {
    const PLAIN: [&str; 2] =
        ["the server could not find the requested resource", "the server is currently unable to handle the request"];
    match error.status() {
        Some(status) if PLAIN.contains(&status.message.as_str()) => format!("{} (get {asked})", status.message),
        Some(status) => status.message.clone(),
        None => error.chain(),
    }
}

/// The usage of a resource by pod; of one container when that is named.
///
/// # Errors
/// The API does not answer, or has nothing, in upstream's words.
pub(super) async fn resource(
    client: &Client,
    namespace: &str,
    selector: &str,
    resource: &str,
    container: &str,
) -> Result<Readings, String> {
    let path = format!("{RESOURCE}/namespaces/{namespace}/pods?labelSelector={}", encode(selector));
    let list = get(client, &path).await.map_err(|e| {
        format!("unable to fetch metrics from resource metrics API: {}", words(&e, "pods.metrics.k8s.io"))
    })?;
    if items(&list).is_empty() {
        return Err("no metrics returned from resource metrics API".to_owned());
    }
    Ok(items(&list).iter().filter_map(|pod| usage(pod, resource, container)).collect())
}

fn usage(pod: &Value, resource: &str, container: &str) -> Option<(String, Reading)> {
    let containers = pod["containers"].as_array().filter(|all| !all.is_empty())?;
    let of = |c: &Value| c["usage"].get(resource).map(milli);
    let value = if container.is_empty() {
        containers.iter().map(of).sum::<Option<i64>>()?
    } else {
        of(containers.iter().find(|c| c["name"] == container)?)?
    };
    let window = pod["window"].as_str().and_then(meta::time::parse_go_duration).unwrap_or_default();
    let reading = Reading { value, time: time(&pod["timestamp"]), window };
    Some((pod["metadata"]["name"].as_str()?.to_owned(), reading))
}

fn selector_text(metric: &MetricIdentifier) -> String {
    let selector = metric.selector.as_ref().map(crate::owner::selector_of);
    selector.map(|s| s.to_string()).unwrap_or_default()
}

/// The path of the custom metrics API in the version that the server prefers.
async fn custom_base(client: &Client) -> Result<String, String> {
    const NONE: &str = "no custom metrics API (custom.metrics.k8s.io) registered";
    let group = match get(client, "/apis/custom.metrics.k8s.io").await {
        Ok(group) => group,
        Err(error) if error.is_not_found() => return Err(NONE.to_owned()),
        Err(error) => return Err(words(&error, "custom.metrics.k8s.io")),
    };
    let versions = group["versions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let served = std::iter::once(&group["preferredVersion"]).chain(versions);
    let found = served.filter_map(|v| v["version"].as_str()).find(|v| CUSTOM.contains(v));
    let found = found.ok_or("no known available metric versions found")?;
    Ok(format!("/apis/custom.metrics.k8s.io/{found}"))
}

async fn custom(client: &Client, rest: &str, query: &[(&str, String)], asked: &str) -> Result<Value, String> {
    let query: Vec<String> =
        query.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={}", encode(v))).collect();
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let answer = match custom_base(client).await {
        Ok(base) => get(client, &format!("{base}/{rest}{query}")).await.map_err(|e| words(&e, asked)),
        Err(why) => Err(why),
    };
    answer.map_err(|why| format!("unable to fetch metrics from custom metrics API: {why}"))
}

/// A metric of pods.
///
/// # Errors
/// The API does not answer, or has nothing, in upstream's words.
pub(super) async fn pods(
    client: &Client,
    namespace: &str,
    selector: &str,
    metric: &MetricIdentifier,
) -> Result<Readings, String> {
    let rest = format!("namespaces/{namespace}/pods/*/{}", encode(&metric.name));
    let query = [("labelSelector", selector.to_owned()), ("metricLabelSelector", selector_text(metric))];
    let list = custom(client, &rest, &query, "pods.custom.metrics.k8s.io *").await?;
    if items(&list).is_empty() {
        return Err("no metrics returned from custom metrics API".to_owned());
    }
    let reading = |item: &Value| {
        let window = item["windowSeconds"].as_u64().map_or(DEFAULT_WINDOW, Duration::from_secs);
        let reading = Reading { value: milli(&item["value"]), time: time(&item["timestamp"]), window };
        Some((item["describedObject"]["name"].as_str()?.to_owned(), reading))
    };
    Ok(items(&list).iter().filter_map(reading).collect())
}

/// A metric of an object, in thousandths.
///
/// # Errors
/// The kind or the metric is not known.
pub(super) async fn object(
    client: &Client,
    namespace: &str,
    of: &CrossVersionObjectReference,
    metric: &MetricIdentifier,
) -> Result<i64, String> {
    let version = of.api_version.as_deref().unwrap_or("v1");
    let (group, plain) = version.split_once('/').unwrap_or(("", version));
    let (rest, asked) = if group.is_empty() && of.kind == "Namespace" {
        let name = &metric.name;
        let asked = format!("metrics.custom.metrics.k8s.io {name}");
        (format!("namespaces/{namespace}/metrics/{}", encode(name)), asked)
    } else {
        let gv = meta::GroupVersion { group: group.to_owned(), version: plain.to_owned() };
        let api = "unable to fetch metrics from custom metrics API";
        let found = resource_of(client, &gv, &of.kind).await.map_err(|e| format!("{api}: {}", words(&e, "apis")))?;
        let Some(gvr) = found else {
            let kind = if group.is_empty() { of.kind.clone() } else { format!("{}.{group}", of.kind) };
            let why = format!("no matches for kind {:?} in group {group:?}", of.kind);
            return Err(format!("{api}: unable to map kind {kind} to resource: {why}"));
        };
        let resource = if group.is_empty() { gvr.resource } else { format!("{}.{group}", gvr.resource) };
        let asked = format!("{resource}.custom.metrics.k8s.io {}", of.name);
        (format!("namespaces/{namespace}/{resource}/{}/{}", encode(&of.name), encode(&metric.name)), asked)
    };
    let list = custom(client, &rest, &[("metricLabelSelector", selector_text(metric))], &asked).await?;
    match items(&list) {
        [only] => Ok(milli(&only["value"])),
        all => Err(format!(
            "unable to fetch metrics from custom metrics API: the custom metrics API server returned {} results when we asked for exactly one",
            all.len()
        )),
    }
}

/// The values of an external metric, in thousandths.
///
/// # Errors
/// The API does not answer, or has nothing, in upstream's words.
pub(super) async fn external(client: &Client, namespace: &str, metric: &MetricIdentifier) -> Result<Vec<i64>, String> {
    let selector = selector_text(metric);
    let query = if selector.is_empty() { String::new() } else { format!("?labelSelector={}", encode(&selector)) };
    let path = format!("{EXTERNAL}/namespaces/{namespace}/{}{query}", encode(&metric.name));
    let list = get(client, &path).await.map_err(|e| {
        let asked = format!("{}.external.metrics.k8s.io", metric.name);
        format!("unable to fetch metrics from external metrics API: {}", words(&e, &asked))
    })?;
    if items(&list).is_empty() {
        return Err("no metrics returned from external metrics API".to_owned());
    }
    Ok(items(&list).iter().map(|item| milli(&item["value"])).collect())
}
