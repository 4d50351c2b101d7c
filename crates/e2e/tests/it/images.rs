//! Images through the binary: archives, and a real registry with a login, a mirror and plain HTTP.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use api::Kind;
use api::k8s::core::v1::{Pod, Secret};
use client::{Client, PatchKind};
use e2e::registry::{LOGIN, Registry};
use e2e::{Cluster, image, wait_for};
use serde_json::{Value, json};

use crate::LIMIT;

async fn apply<T: Kind>(client: &Client, name: &str, object: Value) -> Result<T> {
    let kind = PatchKind::Apply { manager: "e2e".into(), force: true };
    client.patch::<T>("default", name, &kind, &object).await.with_context(|| format!("apply {} {name}", T::KIND))
}

fn pod(name: &str, image: &str, policy: &str, secret: Option<&str>) -> Value {
    let secrets: Vec<Value> = secret.iter().map(|name| json!({"name": name})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never", "imagePullSecrets": secrets,
            "containers": [{"name": "it", "image": image, "imagePullPolicy": policy}],
        },
    })
}

/// Runs a pod to its end and gives what it said.
async fn says(client: &Client, name: &str, pod: Value) -> Result<String> {
    apply::<Pod>(client, name, pod).await?;
    let ended = |pod: Option<&Pod>| {
        matches!(pod.and_then(|p| p.status.as_ref()?.phase.as_deref()), Some("Succeeded" | "Failed"))
    };
    wait_for::<Pod>(client, "default", name, LIMIT, ended).await?;
    let path = format!("/api/v1/namespaces/default/pods/{name}/log");
    let bytes = client.call(http::Method::GET, &path, None, Default::default()).await.context("read a log")?;
    Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Waits until a pod's container waits because its image cannot be pulled, and gives the message.
async fn refused(client: &Client, name: &str) -> Result<String> {
    fn message(pod: &Pod) -> Option<String> {
        let waiting = pod.status.as_ref()?.container_statuses.as_ref()?.first()?.state.as_ref()?.waiting.as_ref()?;
        matches!(waiting.reason.as_deref(), Some("ErrImagePull" | "ImagePullBackOff"))
            .then(|| waiting.message.clone().unwrap_or_default())
    }
    let waiting = |pod: Option<&Pod>| pod.and_then(message).is_some();
    let pod = wait_for::<Pod>(client, "default", name, LIMIT, waiting).await?;
    Ok(pod.as_ref().and_then(message).unwrap_or_default())
}

fn recipe(word: &str) -> Result<Option<image::Recipe>> {
    image::busybox(&format!("echo {word}"))
}

/// Archives: in, listed, run, removed.
async fn archives(cluster: &Cluster, client: &Client, dir: &Path) -> Result<()> {
    let (Some(docker), Some(oci)) = (recipe("from-docker")?, recipe("from-oci")?) else {
        eprintln!("archives are not tested: busybox-static is not installed");
        return Ok(());
    };
    let (docker_file, oci_file) = (dir.join("docker.tar"), dir.join("oci.tar"));
    docker.docker_archive(&docker_file, &["made.test/docker:1", "made.test/docker:2"])?;
    oci.oci_layout(&oci_file, "made.test/oci:1")?;
    for file in [&docker_file, &oci_file] {
        cluster.corten(&["image", "import", &file.to_string_lossy()])?;
    }
    let list = cluster.corten(&["image", "list", "--json"])?;
    let list: Value = serde_json::from_str(&list).context("parse the list")?;
    let named =
        |name: &str| list.as_array().is_some_and(|all| all.iter().any(|i| i["names"].to_string().contains(name)));
    for name in ["made.test/docker:1", "made.test/docker:2", "made.test/oci:1", "corten.local/corten:"] {
        ensure!(named(name), "{name} is not in {list}");
    }
    for (name, image, word) in [("docker", "made.test/docker:2", "from-docker"), ("oci", "made.test/oci:1", "from-oci")]
    {
        let said = says(client, name, pod(name, image, "Never", None)).await?;
        ensure!(said == word, "{image} says {said:?}");
    }
    cluster.corten(&["image", "rm", "made.test/docker:1"])?;
    let list = cluster.corten(&["image", "list"])?;
    ensure!(!list.contains("made.test/docker:1") && list.contains("made.test/docker:2"), "after rm: {list}");
    ensure!(cluster.corten(&["image", "rm", "made.test/docker:1"]).is_err(), "an image was removed twice");
    let nonsense = dir.join("nonsense");
    std::fs::write(&nonsense, b"not an archive")?;
    ensure!(cluster.corten(&["image", "import", &nonsense.to_string_lossy()]).is_err(), "nonsense was imported");
    Ok(())
}

fn login(host: &str) -> Value {
    let config = json!({"auths": {host: {"username": LOGIN.0, "password": LOGIN.1}}});
    json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}, "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config.to_string()},
    })
}

/// Registries: TLS unless told otherwise, a login by pull secret, another registry as a mirror.
async fn registries(cluster: &Cluster, client: &Client) -> Result<()> {
    let address = cluster.state()?.addresses.gateway.addr();
    let (Some(closed), Some(open)) = (Registry::start(address, true)?, Registry::start(address, false)?) else {
        eprintln!("registries are not tested: docker-registry is not installed");
        return Ok(());
    };
    let (Some(private), Some(public)) = (recipe("from-private")?, recipe("from-mirror")?) else { return Ok(()) };
    closed.push("private:1", private).await.context("push to the registry with a login")?;
    open.push("public:1", public).await.context("push to the open registry")?;
    let private = format!("{}/private:1", closed.host);

    ensure!(cluster.corten(&["image", "pull", &private]).is_err(), "a registry without TLS was used untold");
    let how = json!({
        closed.host.clone(): {"plainHttp": true},
        "mirrored.test": {"mirrors": [format!("http://{}", open.host)]},
    });
    std::fs::write(cluster.registries(), how.to_string()).context("write registries.json")?;

    apply::<Pod>(client, "stranger", pod("stranger", &private, "Always", None)).await?;
    let message = refused(client, "stranger").await?;
    ensure!(message.contains(&private), "the refusal says only: {message}");
    apply::<Secret>(client, "login", login(&closed.host)).await?;
    let said = says(client, "friend", pod("friend", &private, "Always", Some("login"))).await?;
    ensure!(said == "from-private", "{private} says {said:?}");

    let said = says(client, "mirrored", pod("mirrored", "mirrored.test/public:1", "Always", None)).await?;
    ensure!(said == "from-mirror", "the mirror's image says {said:?}");
    cluster.corten(&["image", "pull", "mirrored.test/public:1"])?;
    let list = cluster.corten(&["image", "list"])?;
    ensure!(list.contains("mirrored.test/public:1") && list.contains(&private), "pulled images are not listed: {list}");
    Ok(())
}

async fn all(cluster: &Cluster, dir: &Path) -> Result<()> {
    let client = cluster.client()?;
    archives(cluster, &client, dir).await?;
    registries(cluster, &client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn images_come_from_archives_and_registries() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: starting a cluster needs root");
        return;
    }
    let Some(binary) = e2e::binary() else {
        eprintln!("skipped: CORTEN_BIN is not set; `cargo xtask test` builds the binary and sets it");
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let cluster = Cluster::up(&binary, &format!("e2e-images-{}", std::process::id()), 1).expect("start the cluster");
    let worked = all(&cluster, dir.path()).await;
    if worked.is_err() {
        crate::show_logs(&cluster);
        crate::show_pods(&cluster).await;
    }
    let ended = cluster.down();
    worked.expect("use images");
    ended.expect("end the cluster");
}
