//! The store against real archives and a real registry; root only (device nodes, owners, trusted attributes).

mod archive;
mod registry;

use std::os::unix::fs::{FileTypeExt, MetadataExt};

use archive::{Layer, docker_archive, oci_archive};
use node_api::{AuthConfig, Error, ImageService, ImageSource, ImageSpec};

fn spec(name: &str) -> ImageSpec {
    ImageSpec { image: name.to_owned(), ..ImageSpec::default() }
}

fn base() -> Layer {
    let mut layer = Layer::new();
    layer.dir("etc", 0o755).file("etc/a", "one", 0o640, 5).file("etc/b", "two", 0o644, 0);
    layer.hard_link("etc/a2", "etc/a").symlink("etc/abs", "/etc/a").device("dev/null", 1, 3);
    layer.dir("tmp", 0o1777).file("bin/su", "x", 0o4755, 0).dir("gone", 0o755).file("gone/x", "x", 0o644, 0);
    layer
}

fn upper() -> Layer {
    let mut layer = Layer::new();
    layer
        .file("tmp/new", "", 0o644, 0)
        .file("etc/.wh.b", "", 0, 0)
        .file("gone/.wh..wh..opq", "", 0, 0)
        .file("gone/y", "y", 0o644, 0);
    layer
}

#[tokio::test]
async fn layers_become_overlay_lowers() {
    let dir = tempfile::tempdir().unwrap();
    let store = images::Store::open(dir.path().join("store")).unwrap();
    for (index, compression) in ["plain", "gzip", "zstd"].into_iter().enumerate() {
        let file = dir.path().join("image.tar");
        let name = format!("registry.example/app:{index}");
        oci_archive(&file, &[base(), upper()], &[&name], compression);
        let imported = store.import(&file).await.unwrap();
        assert_eq!(imported[0].name.as_deref(), Some(name.as_str()));
    }
    // The same layers under three names are two directories.
    assert_eq!(std::fs::read_dir(dir.path().join("store/layers")).unwrap().count(), 2);
    let content = store.content(&spec("registry.example/app:1")).await.unwrap();
    assert_eq!(content.config.entrypoint, ["/bin/app"]);
    let (low, high) = (&content.layers[0], &content.layers[1]);
    let a = std::fs::metadata(low.join("etc/a")).unwrap();
    assert_eq!((a.mode() & 0o7777, a.uid(), a.nlink()), (0o640, 5, 2));
    assert_eq!(std::fs::read_link(low.join("etc/abs")).unwrap().to_str(), Some("/etc/a"));
    assert!(std::fs::metadata(low.join("dev/null")).unwrap().file_type().is_char_device());
    assert_eq!(std::fs::metadata(low.join("bin/su")).unwrap().mode() & 0o7777, 0o4755);
    let whiteout = std::fs::symlink_metadata(high.join("etc/b")).unwrap();
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
    // The upper layer has a file in tmp, but says nothing of tmp itself.
    assert_eq!(std::fs::metadata(high.join("tmp")).unwrap().mode() & 0o7777, 0o1777);

    let merged = dir.path().join("merged");
    std::fs::create_dir(&merged).unwrap();
    let lowers = [high, low].map(|l| l.file_name().unwrap().to_string_lossy().into_owned());
    let layers = low.parent().unwrap().to_owned();
    let target = merged.clone();
    // A thread of its own, since an overlay is mounted from its layers' directory.
    std::thread::spawn(move || sys::mount::overlay(&target, &layers, &lowers, None, 1)).join().unwrap().unwrap();
    let names = |sub: &str| {
        let mut names: Vec<String> = std::fs::read_dir(merged.join(sub))
            .unwrap()
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let (etc, gone) = (names("etc"), names("gone"));
    sys::mount::unmount_if_mounted(&merged).unwrap();
    assert_eq!((etc, gone), (vec!["a".to_owned(), "a2".into(), "abs".into()], vec!["y".to_owned()]));
}

#[tokio::test]
async fn docker_archives_and_removal() {
    let dir = tempfile::tempdir().unwrap();
    let store = images::Store::open(dir.path().join("store")).unwrap();
    let file = dir.path().join("image.tar");
    docker_archive(&file, &[base()], &["app:1", "other:2"]);
    let imported = store.import(&file).await.unwrap();
    assert_eq!(imported.len(), 2);
    let id = imported[0].id.clone();
    let status = store.image_status(&spec("app:1")).await.unwrap().unwrap();
    assert_eq!(status.repo_tags, ["docker.io/library/app:1", "docker.io/library/other:2"]);
    assert_eq!((status.id.as_str(), status.uid), (id.as_str(), Some(1234)));
    store.acquire(&id, "container").await.unwrap();
    store.remove_image(&spec("app:1")).await.unwrap();
    assert!(store.image_status(&spec("app:1")).await.unwrap().is_none());
    assert!(store.image_status(&spec("other:2")).await.unwrap().is_some());
    // In use: the content stays until it is given back, the name goes.
    store.remove_image(&spec(&id)).await.unwrap();
    assert!(store.image_status(&spec("other:2")).await.unwrap().is_none());
    assert!(store.content(&spec(&id)).await.is_ok());
    store.release("container").await;
    assert!(matches!(store.content(&spec(&id)).await, Err(Error::NotFound { .. })));
    assert_eq!(std::fs::read_dir(dir.path().join("store/layers")).unwrap().count(), 0);
}

#[tokio::test]
async fn bad_archives_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let store = images::Store::open(dir.path().join("store")).unwrap();
    let file = dir.path().join("image.tar");
    let mut escape = Layer::new();
    escape.raw_file("../outside", "x");
    oci_archive(&file, &[escape], &["a/b:1"], "plain");
    assert!(store.import(&file).await.is_err());
    let mut through_link = Layer::new();
    through_link.symlink("out", "/tmp").file("out/inside-only", "x", 0o644, 0);
    oci_archive(&file, &[through_link], &["a/b:2"], "plain");
    // The link counts from the image's root: /tmp of this machine is not touched.
    let _ = store.import(&file).await;
    assert!(!std::path::Path::new("/tmp/inside-only").exists());
    oci_archive(&file, &[base()], &["a/b:3"], "plain");
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.windows(3).position(|w| w == b"one").unwrap();
    bytes[place] = b'0';
    std::fs::write(&file, bytes).unwrap();
    let error = store.import(&file).await.unwrap_err();
    assert!(error.to_string().contains("has digest"), "{error}");
    drop(store);
    let store = images::Store::open(dir.path().join("store")).unwrap();
    assert!(store.content(&spec("a/b:3")).await.is_err());
    let left: Vec<_> = std::fs::read_dir(dir.path().join("store/layers")).unwrap().flatten().collect();
    assert!(left.iter().all(|e| !e.file_name().to_string_lossy().starts_with('.')), "{left:?}");
}

#[tokio::test]
async fn the_builtin_image_follows_its_program() {
    let dir = tempfile::tempdir().unwrap();
    let store = images::Store::open(dir.path().join("store")).unwrap();
    let program = dir.path().join("program");
    std::fs::write(&program, "#!one").unwrap();
    let first = store.ensure_builtin("corten.local/corten:1", &program).unwrap();
    assert_eq!(store.ensure_builtin("corten.local/corten:1", &program).unwrap(), first);
    let content = store.content(&spec("corten.local/corten:1")).await.unwrap();
    assert_eq!(content.config.entrypoint, ["/corten"]);
    assert_eq!(std::fs::read_to_string(content.layers[0].join("corten")).unwrap(), "#!one");
    assert_eq!(store.collect_garbage(u64::MAX).unwrap(), 0);
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "#!another").unwrap();
    let second = store.ensure_builtin("corten.local/corten:1", &program).unwrap();
    assert_ne!(first, second);
    assert_eq!(store.list().unwrap().len(), 1);
}

#[tokio::test]
async fn pulling_from_a_real_registry() {
    let Some(registry) = registry::Registry::start(None).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = images::Store::open(dir.path().join("store")).unwrap();
    registry.push("team/app:1", &[base(), upper()], "gzip").await;
    registry.push("library/busybox:latest", &[base()], "gzip").await;
    let host = &registry.host;
    let config = format!(r#"{{"{host}": {{"plainHttp": true}}, "docker.io": {{"mirrors": ["http://{host}"]}}}}"#);
    std::fs::write(dir.path().join("store/registries.json"), config).unwrap();
    let name = spec(&format!("{host}/team/app:1"));
    let (sender, mut progress) = tokio::sync::mpsc::channel(64);
    let short = spec("busybox");
    let pulls = tokio::join!(
        store.pull_image(&name, None, Some(sender)),
        store.pull_image(&name, None, None),
        store.pull_image(&short, None, None),
    );
    let id = pulls.0.unwrap();
    assert_eq!(pulls.1.unwrap(), id);
    pulls.2.unwrap();
    assert!(progress.recv().await.is_some());
    let status = store.image_status(&name).await.unwrap().unwrap();
    assert!(status.repo_digests[0].starts_with(&format!("{host}/team/app@sha256:")));
    let by_digest = store.pull_image(&spec(&status.repo_digests[0]), None, None).await.unwrap();
    assert_eq!(by_digest, id);
    assert!(store.image_status(&spec("docker.io/library/busybox")).await.unwrap().is_some());
    let missing = store.pull_image(&spec(&format!("{host}/team/nope:1")), None, None).await;
    assert!(matches!(missing, Err(Error::ImagePull { registry_unavailable: false, .. })), "{missing:?}");
    let name = store.pull_image(&spec("Bad Name"), None, None).await;
    assert!(matches!(name, Err(Error::InvalidImageName { .. })));
}

#[tokio::test]
async fn pulling_with_a_password() {
    let Some(registry) = registry::Registry::start(Some(("user", "secret"))).await else { return };
    let dir = tempfile::tempdir().unwrap();
    let store = images::Store::open(dir.path().join("store")).unwrap();
    registry.push("private/app:1", &[base()], "gzip").await;
    let host = &registry.host;
    store.set_registries(serde_json::from_str(&format!(r#"{{"{host}": {{"plainHttp": true}}}}"#)).unwrap());
    let name = spec(&format!("{host}/private/app:1"));
    assert!(store.pull_image(&name, None, None).await.is_err());
    let auth = |password: &str| AuthConfig {
        username: "user".to_owned(),
        password: password.to_owned(),
        ..AuthConfig::default()
    };
    assert!(store.pull_image(&name, Some(&auth("wrong")), None).await.is_err());
    store.pull_image(&name, Some(&auth("secret")), None).await.unwrap();
}
