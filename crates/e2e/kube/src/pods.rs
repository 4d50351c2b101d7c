//! What goes into pods and comes out of them.

use anyhow::{Context, Result, ensure};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{AttachParams, EvictParams, LogParams, PostParams};
use kube::runtime::wait::{await_condition, conditions};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{World, refused, within};

async fn run(world: &World, name: &str, command: Option<&str>) -> Result<Api<Pod>> {
    let pods: Api<Pod> = world.api();
    let mut container = json!({"name": "it", "image": world.image, "imagePullPolicy": "Never", "stdin": true});
    if let Some(command) = command {
        container["command"] = json!(["sh", "-c", command]);
    }
    let pod =
        json!({"metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 0, "containers": [container]}});
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?).await?;
    within("the pod", await_condition(pods.clone(), name, conditions::is_pod_running())).await??;
    Ok(pods)
}

pub async fn exec(world: World) -> Result<()> {
    let pods = run(&world, "web", None).await?;
    let params = AttachParams::default().stdin(true);
    let mut process = pods.exec("web", ["sh", "-c", "read w; echo out $w; echo err >&2; exit 4"], &params).await?;
    let mut stdin = process.stdin().context("no input")?;
    stdin.write_all(b"word\n").await?;
    stdin.flush().await?;
    let (mut output, mut errors) = (String::new(), String::new());
    process.stdout().context("no output")?.read_to_string(&mut output).await?;
    process.stderr().context("no errors")?.read_to_string(&mut errors).await?;
    ensure!(output == "out word\n" && errors == "err\n", "{output:?} {errors:?}");
    let status = process.take_status().context("no status")?.await.context("no status")?;
    ensure!(status.reason.as_deref() == Some("NonZeroExitCode"), "{status:?}");
    // Half-closed input ends what reads to the end.
    let mut process = pods.exec("web", ["cat"], &AttachParams::default().stdin(true).stderr(false)).await?;
    let mut stdin = process.stdin().context("no input")?;
    stdin.write_all(b"to the end").await?;
    stdin.shutdown().await?;
    drop(stdin);
    let mut output = String::new();
    process.stdout().context("no output")?.read_to_string(&mut output).await?;
    ensure!(output == "to the end", "{output:?}");
    let terminal = AttachParams::interactive_tty();
    let mut process = pods.exec("web", ["sh", "-c", "tty"], &terminal).await?;
    let mut output = String::new();
    process.stdout().context("no output")?.read_to_string(&mut output).await?;
    ensure!(output.contains("/dev/pts/"), "{output:?}");
    Ok(())
}

pub async fn attach(world: World) -> Result<()> {
    let pods = run(&world, "echo", Some("while read l; do echo got $l; done")).await?;
    let mut process = pods.attach("echo", &AttachParams::default().stdin(true)).await?;
    let mut stdin = process.stdin().context("no input")?;
    stdin.write_all(b"this\n").await?;
    stdin.flush().await?;
    let mut output = [0; 9];
    process.stdout().context("no output")?.read_exact(&mut output).await?;
    ensure!(&output == b"got this\n", "{output:?}");
    Ok(())
}

pub async fn port_forward(world: World) -> Result<()> {
    let pods: Api<Pod> = world.api();
    let mut forward = pods.portforward("web", &[80]).await?;
    let mut stream = forward.take_stream(80).context("no stream")?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.contains("Welcome"), "{answer}");
    Ok(())
}

pub async fn logs(world: World) -> Result<()> {
    let pods = run(&world, "talk", Some("echo one; read l; echo two; exec cat")).await?;
    let mut lines = pods.log_stream("talk", &LogParams { follow: true, ..LogParams::default() }).await?.lines();
    let first = within("a line", lines.try_next()).await??;
    ensure!(first.as_deref() == Some("one"), "{first:?}");
    let mut process = pods.attach("talk", &AttachParams::default().stdin(true)).await?;
    let mut stdin = process.stdin().context("no input")?;
    stdin.write_all(b"go on\n").await?;
    stdin.flush().await?;
    let second = within("a line", lines.try_next()).await??;
    ensure!(second.as_deref() == Some("two"), "{second:?}");
    let tail = pods.logs("talk", &LogParams { tail_lines: Some(1), ..LogParams::default() }).await?;
    ensure!(tail == "two\n", "{tail:?}");
    let status = refused(pods.logs("talk", &LogParams { container: Some("no".into()), ..LogParams::default() }).await)?;
    ensure!(status.code == 400, "{status:?}");
    Ok(())
}

pub async fn eviction(world: World) -> Result<()> {
    let pods: Api<Pod> = world.api();
    let uid = pods.get("talk").await?.metadata.uid.context("no uid")?;
    pods.evict("talk", &EvictParams::default()).await?;
    within("its end", await_condition(pods, "talk", conditions::is_deleted(&uid))).await??;
    Ok(())
}
