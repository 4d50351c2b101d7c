use super::*;
use crate::plugins::{Command, call};
use serde_json::json;
use std::path::Path;

fn conf(dir: &Path, ipam: Value) -> Conf {
    let mut ipam = ipam;
    ipam["type"] = "host-local".into();
    ipam["dataDir"] = dir.display().to_string().into();
    let Value::Object(body) = json!({ "name": "net", "cniVersion": "1.1.0", "ipam": ipam }) else { panic!() };
    Conf::new(body).unwrap()
}

fn run(command: Command, id: &str, args: &str, conf: &Conf) -> Result<Option<Value>> {
    let invocation = Invocation {
        command,
        container_id: id.into(),
        netns: Some("/proc/self/ns/net".into()),
        ifname: "eth0".into(),
        args: args.into(),
        path: Vec::new(),
        built_in: true,
    };
    call(&HostLocal, &invocation, conf)
}

fn add(id: &str, args: &str, conf: &Conf) -> Result<Vec<String>> {
    let value = run(Command::Add, id, args, conf)?.unwrap();
    Ok(value["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap().to_owned()).collect())
}

#[test]
fn round_robin_skips_the_gateway_and_wraps_around() {
    let dir = tempfile::tempdir().unwrap();
    let conf = conf(dir.path(), json!({ "subnet": "10.1.0.0/29" }));
    for (id, expected) in [("a", "10.1.0.2/29"), ("b", "10.1.0.3/29"), ("c", "10.1.0.4/29"), ("d", "10.1.0.5/29")] {
        assert_eq!(add(id, "", &conf).unwrap(), [expected]);
    }
    run(Command::Del, "b", "", &conf).unwrap();
    assert_eq!(add("e", "", &conf).unwrap(), ["10.1.0.6/29"]);
    assert_eq!(add("f", "", &conf).unwrap(), ["10.1.0.3/29"]);
    assert!(add("g", "", &conf).unwrap_err().chain().contains("no IP addresses available in range set 0"));
    assert!(add("a", "", &conf).unwrap_err().chain().contains("duplicate allocation is not allowed"));
    let text = std::fs::read_to_string(dir.path().join("net/10.1.0.4")).unwrap();
    assert_eq!(text, "c\r\neth0");
    assert_eq!(std::fs::read_to_string(dir.path().join("net/last_reserved_ip.0")).unwrap(), "10.1.0.3");
}

#[test]
fn dual_stack_requested_addresses_and_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let conf = conf(
        dir.path(),
        json!({ "ranges": [[{ "subnet": "10.2.0.0/24", "rangeStart": "10.2.0.10", "rangeEnd": "10.2.0.20" }], [{ "subnet": "fd00:2::/64" }]], "routes": [{ "dst": "0.0.0.0/0" }] }),
    );
    assert_eq!(add("a", "", &conf).unwrap(), ["10.2.0.10/24", "fd00:2::2/64"]);
    assert_eq!(add("b", "IgnoreUnknown=1;IP=10.2.0.15", &conf).unwrap(), ["10.2.0.15/24", "fd00:2::3/64"]);
    assert!(add("c", "IP=10.2.0.15", &conf).is_err());
    assert!(add("c", "IP=10.9.0.1", &conf).unwrap_err().chain().contains("in no range"));
    assert_eq!(allocations(&dir.path().join("net")).unwrap().len(), 4);
    run(Command::Check, "b", "", &conf).unwrap();
    let mut gc = conf.clone();
    gc.body.insert("cni.dev/valid-attachments".into(), json!([{ "containerID": "a", "ifname": "eth0" }]));
    run(Command::Gc, "", "", &gc).unwrap();
    assert_eq!(allocations(&dir.path().join("net")).unwrap().len(), 2);
    assert_eq!(run(Command::Check, "b", "", &conf).unwrap_err().code, code::UNKNOWN_CONTAINER);
}

#[test]
fn bad_ranges_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (ipam, words) in [
        (json!({}), "no IP ranges specified"),
        (json!({ "subnet": "10.0.0.1/24" }), "host bits set"),
        (json!({ "subnet": "10.0.0.0/31" }), "too small"),
        (json!({ "subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1" }), "not in network"),
        (json!({ "ranges": [[{ "subnet": "10.0.0.0/24" }], [{ "subnet": "10.0.0.0/25" }]] }), "overlaps"),
    ] {
        let error = add("a", "", &conf(dir.path(), ipam)).unwrap_err();
        assert!(error.chain().contains(words), "{}", error.chain());
    }
}
