use super::*;
use crate::plugins::main_with;
use std::collections::HashMap;
use std::path::Path;

fn call(ns: &NetNs, command: &str, netns: &Path, config: &str) -> (serde_json::Value, i32) {
    let env: HashMap<&str, String> = HashMap::from([
        ("CNI_COMMAND", command.to_owned()),
        ("CNI_CONTAINERID", "c1".into()),
        ("CNI_NETNS", netns.display().to_string()),
        ("CNI_IFNAME", "eth0".into()),
    ]);
    let (text, code) = ns.run(|| main_with(&Bridge, |key| env.get(key).cloned(), config)).unwrap();
    (serde_json::from_str(&text).unwrap_or_default(), code)
}

#[test]
fn as_an_executable() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (host, path) = (NetNs::create().unwrap(), dir.path().join("ns"));
    let _pod = NetNs::create_pinned(&path).unwrap();
    let config = |extra: &str| {
        format!(
            r#"{{"cniVersion":"0.4.0","name":"n","type":"bridge","isGateway":true,"ipMasq":true,{extra}"ipam":{{"type":"host-local","subnet":"10.5.0.0/24","dataDir":"{}","routes":[{{"dst":"0.0.0.0/0"}}]}}}}"#,
            dir.path().display()
        )
    };
    let (version, _) = call(&host, "VERSION", &path, "{}");
    assert!(version["supportedVersions"].as_array().unwrap().len() >= 5);
    let (error, code) = call(&host, "ADD", &path, &config(r#""hairpinMode":true,"promiscMode":true,"#));
    assert_eq!((error["code"].as_u64(), code), (Some(7), 1));
    let (error, _) = call(&host, "ADD", &path, &config(r#""vlan":5,"#));
    assert_eq!(error["code"], 2);
    let (error, _) = call(&host, "ADD", &path, r#"{"cniVersion":"0.1.0","name":"n","type":"bridge"}"#);
    assert_eq!(error["code"], 1);

    let (result, code) = call(&host, "ADD", &path, &config(""));
    assert_eq!(code, 0, "{result}");
    assert_eq!(
        result["ips"][0],
        serde_json::json!({"version":"4","interface":2,"address":"10.5.0.2/24","gateway":"10.5.0.1"})
    );
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["interfaces"][2]["mac"], "0a:58:0a:05:00:02");
    let chained = config(&format!(r#""prevResult":{result},"#));
    assert_eq!(call(&host, "CHECK", &path, &chained).1, 0);
    assert_eq!(call(&host, "DEL", &path, &chained).1, 0);
    assert_eq!(call(&host, "DEL", &path, &config("")).1, 0);
    assert_ne!(call(&host, "CHECK", &path, &chained).1, 0);
    sys::netlink::netns::remove_pinned(&path).unwrap();
}
