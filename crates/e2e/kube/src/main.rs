//! The Rust crate `kube` against a cluster: KUBECONFIG names it, the first argument an image with a shell and httpd.
//! One line per case: `ok NAME` or `not ok NAME: WHY`.

mod controller;
mod pods;

use std::fmt::Debug;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::{PartialObjectMeta, Status};
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Api, Client, Discovery, ResourceExt};
use serde_json::json;

/// Where everything happens.
const SPACE: &str = "client-rust";
/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);

/// What the cases share.
#[derive(Clone)]
struct World {
    client: Client,
    image: String,
}

impl World {
    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        <K as kube::Resource>::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), SPACE)
    }
}

fn config_map(name: &str, label: &str) -> ConfigMap {
    let mut map = ConfigMap::default();
    map.metadata.name = Some(name.to_owned());
    map.metadata.labels = Some([("for".to_owned(), label.to_owned())].into());
    map
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, future).await.with_context(|| format!("{what}: not in time"))
}

/// The answer that refused a request.
fn refused<T: Debug>(result: kube::Result<T>) -> Result<Status> {
    match result {
        Err(kube::Error::Api(status)) => Ok(*status),
        other => bail!("not refused: {other:?}"),
    }
}

async fn create_list_patch_delete(world: World) -> Result<()> {
    let maps: Api<ConfigMap> = world.api();
    for n in 0..5 {
        maps.create(&PostParams::default(), &config_map(&format!("page-{n}"), "pages")).await?;
    }
    let mut params = ListParams::default().labels("for=pages").limit(2);
    let mut sizes = Vec::new();
    loop {
        let page = maps.list(&params).await?;
        sizes.push(page.items.len());
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => break,
        }
    }
    ensure!(sizes == [2, 2, 1], "pages of {sizes:?}");
    let merge = Patch::Merge(json!({"data": {"a": "b"}}));
    let patched = maps.patch("page-0", &PatchParams::default(), &merge).await?;
    ensure!(patched.data.as_ref().and_then(|d| d.get("a")).is_some_and(|v| v == "b"), "{patched:?}");
    let strategic = Patch::Strategic(json!({"data": {"a": null, "c": "d"}}));
    let patched = maps.patch("page-0", &PatchParams::default(), &strategic).await?;
    ensure!(patched.data.as_ref().is_some_and(|d| d.len() == 1 && d.contains_key("c")), "{patched:?}");
    let status = refused(maps.create(&PostParams::default(), &config_map("page-0", "x")).await)?;
    ensure!(status.code == 409 && status.reason == "AlreadyExists", "{status:?}");
    let metadata = maps.list_metadata(&ListParams::default().labels("for=pages")).await?;
    ensure!(metadata.items.len() == 5, "{metadata:?}");
    maps.delete_collection(&DeleteParams::default(), &ListParams::default().labels("for=pages")).await?;
    ensure!(maps.get_opt("page-0").await?.is_none(), "still there");
    Ok(())
}

async fn server_side_apply(world: World) -> Result<()> {
    let maps: Api<ConfigMap> = world.api();
    let body = |value: &str| {
        Patch::Apply(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "applied"}, "data": {"k": value}}),
        )
    };
    maps.patch("applied", &PatchParams::apply("one"), &body("1")).await?;
    let status = refused(maps.patch("applied", &PatchParams::apply("two"), &body("2")).await)?;
    ensure!(status.code == 409 && status.message.contains("conflict with \"one\": .data.k"), "{status:?}");
    let made = maps.patch("applied", &PatchParams::apply("two").force(), &body("2")).await?;
    let managers: Vec<String> = made.managed_fields().iter().filter_map(|m| m.manager.clone()).collect();
    ensure!(managers == ["two"], "managers: {managers:?}");
    let dry = maps.patch("applied", &PatchParams::apply("two").force().dry_run(), &body("3")).await?;
    ensure!(dry.data != maps.get("applied").await?.data, "a dry run was kept");
    Ok(())
}

async fn watch_events(world: World) -> Result<()> {
    let maps: Api<ConfigMap> = world.api();
    let from = maps.list(&ListParams::default()).await?.metadata.resource_version.context("no revision")?;
    maps.create(&PostParams::default(), &config_map("seen", "watch")).await?;
    maps.delete("seen", &DeleteParams::default()).await?;
    let params = WatchParams::default().labels("for=watch");
    let mut stream = maps.watch(&params, &from).await?.boxed();
    let mut seen = Vec::new();
    while let Some(event) = within("an event", stream.try_next()).await?? {
        match event {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Deleted(_) => {
                seen.push("deleted");
                break;
            }
            WatchEvent::Bookmark(_) => {}
            other => bail!("{other:?}"),
        }
    }
    ensure!(seen == ["added", "deleted"], "{seen:?}");
    Ok(())
}

/// The first list comes by a watch, ends by a bookmark, and goes on as a watch.
async fn reflector_with_streaming_lists(world: World) -> Result<()> {
    let maps: Api<ConfigMap> = world.api();
    for n in 0..3 {
        maps.create(&PostParams::default(), &config_map(&format!("streamed-{n}"), "stream")).await?;
    }
    let (reader, writer) = reflector::store();
    let config = watcher::Config::default().labels("for=stream").streaming_lists();
    let mut stream = reflector(writer, watcher(maps.clone(), config)).boxed();
    // The client asks for any version: the newest object may come right after the list.
    let (mut shown, mut listed) = (0, false);
    while shown < 3 || !listed {
        match within("the list", stream.try_next()).await??.context("the watcher ended")? {
            watcher::Event::InitApply(_) => shown += 1,
            watcher::Event::Apply(_) if listed => shown += 1,
            watcher::Event::InitDone => listed = true,
            _ => {}
        }
    }
    ensure!(shown == 3 && reader.state().len() == 3, "{shown} were shown");
    maps.create(&PostParams::default(), &config_map("streamed-more", "stream")).await?;
    let event = within("an event", stream.try_next()).await??;
    ensure!(matches!(event, Some(watcher::Event::Apply(_))), "{event:?}");
    maps.delete("streamed-0", &DeleteParams::default()).await?;
    let event = within("an event", stream.try_next()).await??;
    ensure!(matches!(event, Some(watcher::Event::Delete(_))), "{event:?}");
    ensure!(reader.state().len() == 3, "the store has {}", reader.state().len());
    Ok(())
}

async fn metadata_watcher(world: World) -> Result<()> {
    let accounts: Api<PartialObjectMeta<ServiceAccount>> = Api::namespaced(world.client.clone(), SPACE);
    let stream = watcher(accounts, watcher::Config::default()).applied_objects();
    let first = within("an event", stream.boxed().try_next()).await??.context("no event")?;
    ensure!(first.name_any() == "default", "{first:?}");
    Ok(())
}

async fn discovery(world: World) -> Result<()> {
    let found = Discovery::new(world.client.clone()).run_aggregated().await.context("aggregated discovery")?;
    ensure!(found.has_group("apps") && found.has_group("apiextensions.k8s.io"), "groups are missing");
    let group = found.get("apps").context("no apps")?;
    let (resource, capabilities) = group.recommended_kind("Deployment").context("no Deployment")?;
    ensure!(resource.plural == "deployments" && capabilities.supports_operation("watch"), "{resource:?}");
    let any: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), SPACE, &resource);
    ensure!(any.list(&ListParams::default()).await?.items.is_empty(), "deployments");
    let old = Discovery::new(world.client.clone()).run().await.context("discovery, group by group")?;
    ensure!(old.groups().count() == found.groups().count(), "the two ways differ");
    let version = world.client.apiserver_version().await?;
    ensure!(version.minor.starts_with("36"), "{version:?}");
    Ok(())
}

/// A Lease taken, contested and taken over, each by a replacement that the revision guards.
async fn lease(world: World) -> Result<()> {
    let leases: Api<Lease> = world.api();
    let spec = |holder: &str, transitions| LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        lease_transitions: Some(transitions),
        renew_time: Some(MicroTime(k8s_openapi::jiff::Timestamp::now())),
        ..LeaseSpec::default()
    };
    let mut lease = Lease { spec: Some(spec("a", 0)), ..Lease::default() };
    lease.metadata.name = Some("leader".into());
    let mut held = leases.create(&PostParams::default(), &lease).await?;
    let mut stale = held.clone();
    held.spec = Some(spec("a", 0));
    leases.replace("leader", &PostParams::default(), &held).await?;
    stale.spec = Some(spec("b", 1));
    let status = refused(leases.replace("leader", &PostParams::default(), &stale).await)?;
    ensure!(status.reason == "Conflict", "{status:?}");
    let mut fresh = leases.get("leader").await?;
    fresh.spec = Some(spec("b", 1));
    let taken = leases.replace("leader", &PostParams::default(), &fresh).await?;
    let holder = taken.spec.and_then(|s| s.holder_identity);
    ensure!(holder.as_deref() == Some("b"), "{holder:?}");
    Ok(())
}

/// Says what came of a case.
async fn case<F: Future<Output = Result<()>>>(world: &World, name: &str, body: impl FnOnce(World) -> F) -> bool {
    let result = within("the case", body(world.clone())).await.and_then(|result| result);
    match &result {
        Ok(()) => println!("ok {name}"),
        Err(error) => {
            let text = format!("{error:#}");
            println!("not ok {name}: {}", text.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    result.is_ok()
}

async fn world() -> Result<World> {
    let client = Client::try_default().await.context("make a client")?;
    let spaces: Api<Namespace> = Api::all(client.clone());
    let space: Namespace = serde_json::from_value(json!({"metadata": {"name": SPACE}}))?;
    spaces.create(&PostParams::default(), &space).await.context("make a namespace")?;
    let image = std::env::args().nth(1).context("no image is named")?;
    let world = World { client, image };
    let accounts: Api<ServiceAccount> = world.api();
    let mut stream = watcher(accounts, watcher::Config::default()).applied_objects().boxed();
    within("the account", stream.try_next()).await??;
    Ok(world)
}

#[tokio::main]
async fn main() -> ExitCode {
    let world = match world().await {
        Ok(world) => world,
        Err(error) => {
            println!("not ok start: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let all = [
        case(&world, "create_list_patch_delete", create_list_patch_delete).await,
        case(&world, "server_side_apply", server_side_apply).await,
        case(&world, "watch_events", watch_events).await,
        case(&world, "reflector_with_streaming_lists", reflector_with_streaming_lists).await,
        case(&world, "metadata_watcher", metadata_watcher).await,
        case(&world, "discovery", discovery).await,
        case(&world, "lease", lease).await,
        case(&world, "derived_resource", controller::derived_resource).await,
        case(&world, "controller_with_owner_references", controller::with_owner_references).await,
        case(&world, "finalizers", controller::finalizers).await,
        case(&world, "exec", pods::exec).await,
        case(&world, "attach", pods::attach).await,
        case(&world, "port_forward", pods::port_forward).await,
        case(&world, "logs", pods::logs).await,
        case(&world, "eviction", pods::eviction).await,
    ];
    if all.iter().all(|worked| *worked) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
