//! Against the real hierarchies; root only.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::{DeviceAccess, Hierarchies, Resources};
use crate::devices::DeviceKind;

fn allow_null() -> Resources {
    let null = DeviceAccess { kind: DeviceKind::Char, major: Some(1), minor: Some(3), access: "rw".to_owned() };
    Resources { devices: Some(vec![null]), ..Resources::default() }
}

/// Runs a script whose shell joins the group after its first line of input; gives what it printed.
fn run_in(group: &super::Group, script: &str) -> String {
    let mut shell = Command::new("sh")
        .args(["-c", &format!("read go; {script}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    group.add(shell.id()).unwrap();
    shell.stdin.take().unwrap().write_all(b"go\n").unwrap();
    String::from_utf8(shell.wait_with_output().unwrap().stdout).unwrap()
}

#[test]
fn limits_devices_and_killing_on_what_is_mounted() {
    let hierarchies = Hierarchies::detect().unwrap();
    let group = hierarchies.group(format!("/sys-test-{}/a", std::process::id()));
    group.create().unwrap();
    group.create().unwrap();
    group.set(&Resources { memory_limit: Some(64 << 20), pids_limit: Some(20), ..allow_null() }).unwrap();
    let script = "(echo x > /dev/null) && echo null; head -c1 /dev/zero && echo zero";
    assert_eq!(run_in(&group, script).trim(), "null");
    assert_eq!(group.stats().memory_limit, Some(64 << 20));
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    group.add(sleeper.id()).unwrap();
    assert!(group.processes().contains(&sleeper.id()));
    assert!(!group.wait_empty(Duration::from_millis(20)));
    group.kill().unwrap();
    sleeper.wait().unwrap();
    assert!(group.wait_empty(Duration::from_secs(5)));
    let parent = hierarchies.group(group.path().parent().unwrap());
    parent.remove().unwrap();
    assert!(!parent.exists());
}

/// The v2 way of devices works on any v2 mount, with or without controllers.
#[test]
fn device_rules_of_v2() {
    let Some(mount) = Hierarchies::detect().unwrap().v2 else { return };
    let hierarchies = Hierarchies { v1: Vec::new(), v2: Some(mount), v2_controllers: Vec::new() };
    let group = hierarchies.group(format!("/sys-test-v2-{}", std::process::id()));
    group.create().unwrap();
    group.set(&allow_null()).unwrap();
    let script = "(echo x > /dev/null) && echo null; head -c1 /dev/zero && echo zero";
    let printed = run_in(&group, script);
    group.remove().unwrap();
    assert_eq!(printed.trim(), "null");
}
