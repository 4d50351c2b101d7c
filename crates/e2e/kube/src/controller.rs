//! A derived custom resource and a controller for it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::CustomResourceExt;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, CustomResource, Resource, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{World, refused, within};

/// A shelf holds as many boxes as it says; each is a ConfigMap.
#[derive(CustomResource, Deserialize, Serialize, Clone, Debug, JsonSchema)]
#[kube(group = "rust.test", version = "v1", kind = "Shelf", plural = "shelves", namespaced, status = "ShelfStatus")]
#[kube(shortname = "sh", printcolumn = r#"{"name":"Boxes","type":"integer","jsonPath":".spec.boxes"}"#)]
pub struct ShelfSpec {
    #[schemars(range(min = 1, max = 10))]
    boxes: i32,
    #[serde(default)]
    label: Option<String>,
}

/// What the controller has done.
#[derive(Deserialize, Serialize, Clone, Debug, Default, JsonSchema)]
pub struct ShelfStatus {
    ready: i32,
}

const MANAGER: &str = "shelves.rust.test";

fn apply() -> PatchParams {
    PatchParams::apply(MANAGER).force()
}

pub async fn derived_resource(world: World) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    definitions.patch(MANAGER, &apply(), &Patch::Apply(Shelf::crd())).await.context("apply the definition")?;
    let established = await_condition(definitions.clone(), MANAGER, conditions::is_crd_established());
    within("the definition", established).await??;
    // Applied again, it is the same.
    let before = definitions.get(MANAGER).await?;
    let after = definitions.patch(MANAGER, &apply(), &Patch::Apply(Shelf::crd())).await?;
    ensure!(before.metadata.generation == after.metadata.generation, "it was changed by nothing");
    let shelves: Api<Shelf> = world.api();
    let status = refused(shelves.create(&PostParams::default(), &shelf("bad", 11)).await)?;
    ensure!(status.code == 422 && status.message.contains("spec.boxes"), "{status:?}");
    shelves.create(&PostParams::default(), &shelf("first", 1)).await?;
    let status = json!({"apiVersion": "rust.test/v1", "kind": "Shelf", "status": {"ready": 1}});
    let made = shelves.patch_status("first", &apply(), &Patch::Apply(status)).await?;
    ensure!(made.status.as_ref().is_some_and(|s| s.ready == 1) && made.spec.boxes == 1, "{made:?}");
    shelves.delete("first", &DeleteParams::default()).await?;
    Ok(())
}

fn shelf(name: &str, boxes: i32) -> Shelf {
    Shelf::new(name, ShelfSpec { boxes, label: None })
}

/// Makes the boxes that a shelf lacks, removes those too many, and says how many there are.
async fn reconcile(shelf: Arc<Shelf>, world: Arc<World>) -> Result<Action, kube::Error> {
    let maps: Api<ConfigMap> = world.api();
    let owner = shelf.controller_owner_ref(&()).into_iter().collect::<Vec<_>>();
    for n in 0..shelf.spec.boxes {
        let name = format!("{}-{n}", shelf.name_any());
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "labels": {"shelf": shelf.name_any()}, "ownerReferences": owner},
        });
        maps.patch(&name, &apply(), &Patch::Apply(body)).await?;
    }
    if shelf.status.as_ref().is_none_or(|status| status.ready != shelf.spec.boxes) {
        let status = json!({"status": {"ready": shelf.spec.boxes}});
        let shelves: Api<Shelf> = world.api();
        shelves.patch_status(&shelf.name_any(), &PatchParams::default(), &Patch::Merge(status)).await?;
    }
    Ok(Action::await_change())
}

pub async fn with_owner_references(world: World) -> Result<()> {
    let shelves: Api<Shelf> = world.api();
    let maps: Api<ConfigMap> = world.api();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let config = watcher::Config::default().streaming_lists();
    let controller = Controller::new(shelves.clone(), config.clone())
        .owns(maps.clone(), config)
        .graceful_shutdown_on(async {
            // The sender's end is as good.
            let _ = stopped.await;
        })
        .run(reconcile, |_, _, _| Action::requeue(Duration::from_millis(100)), Arc::new(world.clone()));
    let runs = tokio::spawn(controller.for_each(|_| async {}));

    let made = shelves.create(&PostParams::default(), &shelf("owned", 3)).await?;
    let ready = |shelf: Option<&Shelf>| shelf.and_then(|s| s.status.as_ref()).is_some_and(|status| status.ready == 3);
    within("the status", await_condition(shelves.clone(), "owned", ready)).await??;
    let first = maps.get("owned-0").await?;
    ensure!(first.owner_references().first().map(|o| &o.uid) == made.uid().as_ref(), "{first:?}");

    // A box that somebody removes is made again.
    let old = first.uid().context("no uid")?;
    maps.delete("owned-0", &DeleteParams::default()).await?;
    let again = |map: Option<&ConfigMap>| map.and_then(|m| m.uid()).is_some_and(|uid| uid != old);
    within("a new box", await_condition(maps.clone(), "owned-0", again)).await??;

    // Without the shelf, the collector takes the boxes; the controller must not make them again.
    drop(stop);
    within("the controller's end", runs).await??;
    shelves.delete("owned", &DeleteParams::foreground()).await?;
    let gone = |shelf: Option<&Shelf>| shelf.is_none();
    within("the shelf's end", await_condition(shelves, "owned", gone)).await??;
    ensure!(maps.get_opt("owned-2").await?.is_none(), "a box stayed");
    Ok(())
}

pub async fn finalizers(world: World) -> Result<()> {
    const NAME: &str = "rust.test/clean-up";
    let shelves: Api<Shelf> = world.api();
    shelves.create(&PostParams::default(), &shelf("final", 1)).await?;
    let config = watcher::Config::default().fields("metadata.name=final");
    let mut changes = watcher(shelves.clone(), config).touched_objects().boxed();
    let mut seen = Vec::new();
    loop {
        let shelf = within("a change", changes.try_next()).await??.context("the watcher ended")?;
        let cleaned = std::sync::Mutex::new(None);
        let done = finalizer(&shelves, NAME, Arc::new(shelf), async |event| {
            let word = if matches!(event, Event::Cleanup(_)) { "cleaned" } else { "applied" };
            *cleaned.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(word);
            Ok::<_, kube::Error>(Action::await_change())
        });
        done.await.context("finalize")?;
        let word = cleaned.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(word) = word
            && seen.last() != Some(&word)
        {
            seen.push(word);
            if word == "applied" {
                let kept = shelves.delete("final", &DeleteParams::default()).await?;
                ensure!(kept.left().is_some(), "it went without being finalized");
            } else {
                break;
            }
        }
    }
    let gone = |shelf: Option<&Shelf>| shelf.is_none();
    within("its end", await_condition(shelves, "final", gone)).await??;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    definitions.delete(MANAGER, &DeleteParams::default()).await?;
    let gone = |definition: Option<&CustomResourceDefinition>| definition.is_none();
    within("the definition's end", await_condition(definitions, MANAGER, gone)).await??;
    Ok(())
}
