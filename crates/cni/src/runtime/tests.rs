//! External plugins are shell scripts here that write down how they were called.

use super::*;
use std::os::unix::fs::PermissionsExt;

fn setup(dir: &Path) -> (Cni, NetworkList) {
    for name in ["one", "two"] {
        let script = format!(
            "#!/bin/sh\nin=$(cat)\necho \"$CNI_COMMAND {name} $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS\" >> {0}/log\necho \"$in\" > {0}/in-{name}-$CNI_COMMAND\n\
             if [ -e {0}/fail-{name} ]; then echo '{{\"cniVersion\":\"1.1.0\",\"code\":11,\"msg\":\"later\"}}'; exit 1; fi\n\
             case $CNI_COMMAND in ADD) echo '{{\"cniVersion\":\"1.1.0\",\"ips\":[{{\"address\":\"10.0.0.2/24\"}}]}}';; esac\n",
            dir.display()
        );
        let path = dir.join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let text =
        r#"{"name":"net","cniVersion":"1.1.0","plugins":[{"type":"one"},{"type":"two","capabilities":{"mac":true}}]}"#;
    (Cni::new(vec![dir.to_owned()], dir), NetworkList::parse(text).unwrap())
}

fn attachment() -> Attachment {
    let mut capabilities = Map::new();
    capabilities.insert("mac".into(), "02:00:00:00:00:01".into());
    capabilities.insert("other".into(), 1.into());
    Attachment {
        container_id: "c1".into(),
        netns: Some("/proc/self/ns/net".into()),
        ifname: "eth0".into(),
        args: vec![("K".into(), "v".into())],
        capabilities,
    }
}

fn log(dir: &Path) -> String {
    let text = std::fs::read_to_string(dir.join("log")).unwrap_or_default();
    let _ = std::fs::remove_file(dir.join("log"));
    text
}

#[test]
fn chains_forward_and_backward_with_results() {
    let dir = tempfile::tempdir().unwrap();
    let (cni, list) = setup(dir.path());
    cni.status(&list).unwrap();
    log(dir.path());
    let result = cni.add(&list, &attachment()).unwrap();
    assert_eq!(result.ips[0].address.to_string(), "10.0.0.2/24");
    assert_eq!(log(dir.path()), "ADD one c1 eth0 K=v\nADD two c1 eth0 K=v\n");
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(dir.path().join("in-two-ADD")).unwrap()).unwrap();
    assert_eq!(seen["runtimeConfig"], json!({ "mac": "02:00:00:00:00:01" }));
    assert_eq!(seen["prevResult"]["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(seen["name"], "net");
    assert!(dir.path().join("results/net-c1-eth0").exists());

    cni.check(&list, &attachment()).unwrap();
    let mut bare = attachment();
    bare.capabilities.clear();
    bare.netns = None;
    cni.del(&list, &bare).unwrap();
    assert_eq!(
        log(dir.path()),
        "CHECK one c1 eth0 K=v\nCHECK two c1 eth0 K=v\nDEL two c1 eth0 K=v\nDEL one c1 eth0 K=v\n"
    );
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(dir.path().join("in-two-DEL")).unwrap()).unwrap();
    assert_eq!(seen["runtimeConfig"]["mac"], "02:00:00:00:00:01", "DEL gets the capabilities of ADD");
    assert!(!dir.path().join("results/net-c1-eth0").exists());
}

#[test]
fn errors_keep_their_code_and_gc_removes_the_stale() {
    let dir = tempfile::tempdir().unwrap();
    let (cni, list) = setup(dir.path());
    std::fs::write(dir.path().join("fail-two"), "").unwrap();
    let error = cni.add(&list, &attachment()).unwrap_err();
    assert_eq!((error.code, error.chain().as_str()), (11, "plugin type=\"two\" name=\"net\" failed (add): later"));
    std::fs::remove_file(dir.path().join("fail-two")).unwrap();
    cni.add(&list, &attachment()).unwrap();
    log(dir.path());
    cni.gc(&list, &[("c1".into(), "eth0".into())]).unwrap();
    assert_eq!(log(dir.path()), "GC one   \nGC two   \n");
    cni.gc(&list, &[]).unwrap();
    assert_eq!(log(dir.path()), "DEL two c1 eth0 K=v\nDEL one c1 eth0 K=v\nGC one   \nGC two   \n");
    let absent = NetworkList::parse(r#"{"name":"n","cniVersion":"1.1.0","plugins":[{"type":"nowhere"}]}"#).unwrap();
    assert!(cni.status(&absent).unwrap_err().msg.contains("failed to find plugin \"nowhere\""));
    let mut bad = attachment();
    bad.ifname = "with space".into();
    assert_eq!(cni.add(&list, &bad).unwrap_err().code, code::INVALID_ENVIRONMENT);
}
