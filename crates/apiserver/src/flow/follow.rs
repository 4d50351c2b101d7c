//! Keeps the stored configuration in force, and the bootstrap objects in the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use auth_api::{Edit, Lookup, ObjectEvent};
use futures::{FutureExt, StreamExt};
use meta::{GroupVersionResource, Object, Status};
use registry::Access;
use serde_json::{Value, json};

use super::FlowControl;
use super::bootstrap::{self, AUTO_UPDATE, MANDATORY};
use super::config::{LevelConfig, Schema};
use crate::config::PostStart;
use crate::server::{State, run_hook};

/// How often limits are set anew, as upstream.
const ADJUSTMENT: std::time::Duration = std::time::Duration::from_secs(10);

fn gvr(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("flowcontrol.apiserver.k8s.io", "v1", resource)
}

/// Starts both.
pub(crate) fn start(state: &Arc<State>) {
    let Some(flow) = state.flow.clone() else { return };
    let access = Access::new(state.registry.clone());
    let producer = (access.clone(), flow.clone());
    let run = Box::new(move || {
        let (access, flow) = producer.clone();
        async move {
            ensure_all(&access).await?;
            flow.produced.store(true, Ordering::Release);
            Ok(())
        }
        .boxed()
    });
    run_hook(state, PostStart { name: "priority-and-fairness-config-producer", run });
    let (shutdown, pool) = (state.config.shutdown.clone(), flow.pool.clone());
    rt::spawn("flow-control-borrowing", async move {
        let mut ticks = rt::time::interval(ADJUSTMENT);
        ticks.set_missed_tick_behavior(rt::time::MissedTickBehavior::Delay);
        while shutdown.run(ticks.tick()).await.is_some() {
            pool.adjust();
        }
    });
    let shutdown = state.config.shutdown.clone();
    rt::spawn("flow-control", async move { shutdown.run(consume(flow, access)).await });
}

async fn ensure_all(access: &Access) -> Result<(), Status> {
    for (resource, objects) in
        [("prioritylevelconfigurations", bootstrap::levels()), ("flowschemas", bootstrap::schemas())]
    {
        for object in objects {
            ensure(access, resource, object).await?;
        }
    }
    Ok(())
}

/// Creates an object, or puts its spec right when it says that the server may.
async fn ensure(access: &Access, resource: &str, wanted: Object) -> Result<(), Status> {
    let gvr = gvr(resource);
    let Some(found) = access.get_live(&gvr, "", wanted.name()).await? else {
        return match access.create(&gvr, wanted).await {
            Err(status) if !status.is_already_exists() => Err(status),
            _ => Ok(()),
        };
    };
    let ours = found.get(&["metadata", "annotations", AUTO_UPDATE]).and_then(Value::as_str) == Some("true");
    if !ours || same_spec(&found, &wanted) {
        return Ok(());
    }
    let mut fresh = (*found).clone();
    if let Some(spec) = wanted.body.get("spec") {
        fresh.body.insert("spec".into(), spec.clone());
    }
    access.update(&gvr, fresh).await.map(drop)
}

/// Whether everything that is wanted is there; defaults beside it are fine.
fn same_spec(found: &Object, wanted: &Object) -> bool {
    fn within(small: &Value, large: &Value) -> bool {
        match (small, large) {
            (Value::Object(small), Value::Object(large)) => {
                small.iter().all(|(k, v)| large.get(k).is_some_and(|other| within(v, other)))
            }
            (Value::Array(small), Value::Array(large)) => {
                small.len() == large.len() && small.iter().zip(large).all(|(a, b)| within(a, b))
            }
            (a, b) => a == b,
        }
    }
    let none = Value::Null;
    within(wanted.body.get("spec").unwrap_or(&none), found.body.get("spec").unwrap_or(&none))
}

/// Objects by name, from a watch.
type Objects = BTreeMap<String, Arc<Object>>;

fn take(objects: &mut Objects, event: ObjectEvent) {
    match event {
        ObjectEvent::Replace(all) => *objects = all.into_iter().map(|o| (o.name().to_owned(), o)).collect(),
        ObjectEvent::Upsert(object) => drop(objects.insert(object.name().to_owned(), object)),
        ObjectEvent::Delete(object) => drop(objects.remove(object.name())),
    }
}

async fn consume(flow: Arc<FlowControl>, access: Access) {
    let (mut schemas, mut levels) = (Objects::new(), Objects::new());
    let mut schema_events = access.watch(&gvr("flowschemas"));
    let mut level_events = access.watch(&gvr("prioritylevelconfigurations"));
    loop {
        let (resource, event) = rt::select! {
            event = schema_events.next() => ("flowschemas", event),
            event = level_events.next() => ("prioritylevelconfigurations", event),
        };
        let Some(event) = event else { return };
        let gone = match &event {
            ObjectEvent::Delete(object) => Some(object.name().to_owned()),
            _ => None,
        };
        take(if resource == "flowschemas" { &mut schemas } else { &mut levels }, event);
        configure(&flow, &schemas, &levels);
        if gone.is_some_and(|name| MANDATORY.contains(&name.as_str()))
            && let Err(error) = ensure_all(&access).await
        {
            tracing::warn!(%error, "mandatory flow control objects could not be made again");
        }
        for schema in schemas.values() {
            if let Err(error) = note_dangling(&access, schema, &levels).await {
                tracing::debug!(%error, schema = schema.name(), "status of a FlowSchema could not be written");
            }
        }
    }
}

/// Stored objects are in force; mandatory ones that are not there yet stand as built in.
fn configure(flow: &FlowControl, schemas: &Objects, levels: &Objects) {
    let (built_in_schemas, built_in_levels) = bootstrap::parsed();
    let mut all_levels: Vec<LevelConfig> = levels.values().map(|o| LevelConfig::parse(o)).collect();
    let mut all_schemas: Vec<Schema> = schemas.values().map(|o| Schema::parse(o)).collect();
    let starting = !flow.produced.load(Ordering::Acquire);
    let kept = |name: &str| starting || MANDATORY.contains(&name);
    all_levels.extend(built_in_levels.into_iter().filter(|l| kept(&l.name) && !levels.contains_key(&l.name)));
    all_schemas.extend(built_in_schemas.into_iter().filter(|s| kept(&s.name) && !schemas.contains_key(&s.name)));
    flow.configure(all_schemas, &all_levels);
}

/// Says in a FlowSchema's status whether its level exists.
async fn note_dangling(access: &Access, schema: &Object, levels: &Objects) -> Result<(), Status> {
    let level = schema.get_str(&["spec", "priorityLevelConfiguration", "name"]);
    let dangling = !levels.contains_key(level);
    let wanted = if dangling { "True" } else { "False" };
    let none = Vec::new();
    let conditions = schema.get(&["status", "conditions"]).and_then(Value::as_array).unwrap_or(&none);
    let now = conditions.iter().find(|c| c["type"] == "Dangling");
    if now.is_some_and(|c| c["status"] == wanted) || schema.deletion_timestamp().is_some() {
        return Ok(());
    }
    let (reason, tail) = if dangling { ("NotFound", "there is no such object") } else { ("Found", "it exists") };
    let condition = json!({
        "type": "Dangling", "status": wanted, "reason": reason,
        "lastTransitionTime": meta::time::format_seconds(rt::time::now()),
        "message": format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} and {tail}"),
    });
    let mut conditions: Vec<Value> = conditions.iter().filter(|c| c["type"] != "Dangling").cloned().collect();
    conditions.push(condition);
    let mut fresh = schema.clone();
    fresh.body.insert("status".into(), json!({"conditions": conditions}));
    match access.update_status(&gvr("flowschemas"), fresh).await {
        // Another server, or a newer version, which the watch brings.
        Err(status) if status.is_conflict() || status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}
