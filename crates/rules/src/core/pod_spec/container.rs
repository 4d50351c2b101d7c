//! Containers of all three kinds.

use meta::field::Error;
use meta::names;

use super::{Holder, Spec, env, probe, resources, security, volume};
use crate::C;

/// Fields that an ephemeral container may have.
const EPHEMERAL_FIELDS: [&str; 17] = [
    "name",
    "image",
    "command",
    "args",
    "workingDir",
    "env",
    "envFrom",
    "volumeMounts",
    "volumeDevices",
    "imagePullPolicy",
    "securityContext",
    "stdin",
    "stdinOnce",
    "tty",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "targetContainerName",
];

/// Validates all containers of a spec.
pub fn validate(around: &Spec<'_, '_, '_>, holder: Holder) {
    let containers = around.spec.get("containers");
    let mut names: Vec<&str> = Vec::new();
    if containers.is_empty() {
        containers.missing("");
    }
    let mut host_ports = Vec::new();
    for container in containers.items() {
        common(around, &container);
        unique(&container, &mut names);
        lifecycle_and_probes(around, &container);
        restart_rules(&container);
        conflicting_host_ports(&container, &mut host_ports);
        only_in_pods(&container, holder);
    }
    init_containers(around, &mut names, holder);
    ephemeral_containers(around, &mut names);
    env_files(around);
}

/// Variables may be read from files of an empty directory only.
fn env_files(around: &Spec) {
    let volumes = around.spec.get("volumes");
    for list in ["containers", "initContainers"] {
        for container in around.spec.get(list).items() {
            for variable in container.get("env").items() {
                let name = variable.get("valueFrom");
                let name = name.get("fileKeyRef.volumeName");
                if name.is_zero() {
                    continue;
                }
                match volumes.items().find(|v| v.get("name").str() == name.str()).map(|v| v.get("emptyDir").exists()) {
                    None => name.not_found(),
                    Some(false) => name.invalid("referenced volume must be of type emptyDir"),
                    Some(true) => {}
                }
            }
        }
    }
}

fn init_containers<'v>(around: &Spec<'_, '_, 'v>, names: &mut Vec<&'v str>, holder: Holder) {
    for container in around.spec.get("initContainers").items() {
        common(around, &container);
        unique_if_named(&container, names);
        let policy = container.get("restartPolicy");
        let sidecar = policy.str() == "Always";
        if !policy.exists() && !container.get("restartPolicyRules").is_empty() {
            policy.missing("must specify restartPolicy when restart rules are used");
        } else if sidecar && !container.get("restartPolicyRules").is_empty() {
            let rules = container.get("restartPolicyRules");
            rules.forbidden("restartPolicyRules are not allowed for init containers with restart policy Always");
        } else if policy.exists() {
            restart_rules(&container);
        }
        conflicting_host_ports(&container, &mut Vec::new());
        if sidecar {
            lifecycle_and_probes(around, &container);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if container.get(field).exists() {
                    container.get(field).forbidden("may not be set for init containers without restartPolicy=Always");
                }
            }
        }
        only_in_pods(&container, holder);
    }
}

fn ephemeral_containers<'v>(around: &Spec<'_, '_, 'v>, names: &mut Vec<&'v str>) {
    let others = names.len();
    for container in around.spec.get("ephemeralContainers").items() {
        common(around, &container);
        only_in_pods(&container, Holder::Pod);
        unique_if_named(&container, names);
        let target = container.get("targetContainerName");
        if !target.is_zero() && !names[..others].iter().any(|n| *n == target.str()) {
            target.not_found();
        }
        for (field, value) in container.entries() {
            if !EPHEMERAL_FIELDS.contains(&field) && !value.is_zero() {
                container.get(field).forbidden("cannot be set for an Ephemeral Container");
            }
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.get(field).is_zero() {
                    mount.get(field).forbidden("cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

fn unique<'v>(container: &C<'_, 'v>, names: &mut Vec<&'v str>) {
    let name = container.get("name");
    if names.contains(&name.str()) {
        name.duplicate();
    } else {
        names.push(name.str());
    }
}

/// The same, for those whose missing name was reported already.
fn unique_if_named<'v>(container: &C<'_, 'v>, names: &mut Vec<&'v str>) {
    if !container.get("name").is_zero() {
        unique(container, names);
    }
}

fn common(around: &Spec, container: &C) {
    let name = container.get("name");
    if name.required() {
        name.check(names::dns1123_label);
    }
    container.get("image").required();
    container.get("terminationMessagePolicy").required_one_of(&["File", "FallbackToLogsOnError"]);
    ports(&container.get("ports"));
    env::validate(&container.get("env"));
    env::from(&container.get("envFrom"));
    volume::mounts(around, container);
    volume::devices(around, container);
    container.get("imagePullPolicy").required_one_of(&["Always", "IfNotPresent", "Never"]);
    resources::requirements(&container.get("resources"), Some(&around.claims));
    resize_policy(around, &container.get("resizePolicy"));
    security::container(&container.get("securityContext"), around.host_users);
}

fn ports(ports: &C) {
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.is_zero() && name.check(names::port_name) {
            if seen.contains(&name.str()) {
                name.duplicate();
            }
            seen.push(name.str());
        }
        let number = port.get("containerPort");
        if number.int() == 0 {
            number.missing("");
        } else {
            number.invalid_all(names::port_num(number.int()));
        }
        let host = port.get("hostPort");
        if host.int() != 0 {
            host.invalid_all(names::port_num(host.int()));
        }
        port.get("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
    }
}

fn conflicting_host_ports(container: &C, taken: &mut Vec<String>) {
    for port in container.get("ports").items() {
        let host = port.get("hostPort");
        if host.int() == 0 {
            continue;
        }
        let key = format!("{}/{}/{}", port.get("protocol").str(), port.get("hostIP").str(), host.int());
        if taken.contains(&key) {
            host.sink().push(Error::duplicate(&host.path(), key));
        } else {
            taken.push(key);
        }
    }
}

fn lifecycle_and_probes(around: &Spec, container: &C) {
    for hook in ["postStart", "preStop"] {
        let handler = container.get("lifecycle");
        let handler = handler.get(hook);
        if handler.exists() {
            probe::handler(&handler, around.grace);
        }
    }
    let signal = container.get("lifecycle");
    let signal = signal.get("stopSignal");
    if signal.exists() && around.spec.get("os.name").is_zero() {
        signal.forbidden("may not be set for containers with empty `spec.os.name`");
    }
    probe::liveness(&container.get("livenessProbe"), around.grace);
    probe::readiness(&container.get("readinessProbe"), around.grace);
    probe::liveness(&container.get("startupProbe"), around.grace);
}

fn restart_rules(container: &C) {
    let policy = container.get("restartPolicy");
    let rules = container.get("restartPolicyRules");
    if policy.exists() {
        policy.one_of(&["Always", "Never", "OnFailure"]);
    } else if !rules.is_empty() {
        policy.missing("must specify restartPolicy when restart rules are used");
    }
    rules.max_items(20);
    for rule in rules.items() {
        rule.get("action").one_of(&["Restart", "RestartAllContainers"]);
        let codes = rule.get("exitCodes");
        if codes.exists() {
            codes.get("operator").one_of(&["In", "NotIn"]);
            codes.get("values").max_items(255);
        } else {
            codes.missing("must be specified");
        }
    }
}

fn resize_policy(around: &Spec, policies: &C) {
    let mut seen = Vec::new();
    for policy in policies.items() {
        let resource = policy.get("resourceName").str();
        if seen.contains(&resource) {
            policy.sink().push(Error::duplicate(&policy.path(), resource));
        }
        seen.push(resource);
        let check = |value: &str, valid: &[&str]| {
            if value.is_empty() {
                policies.missing("");
            } else if !valid.contains(&value) {
                policies.sink().push(Error::not_supported(&policies.path(), value, valid));
            }
        };
        check(resource, &["cpu", "memory"]);
        let restart = policy.get("restartPolicy").str();
        check(restart, &["NotRequired", "RestartContainer"]);
        if around.restart_policy == "Never" && restart != "NotRequired" {
            policies.invalid_value(restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
        }
    }
}

/// In a pod, images must not have blanks around; templates may, for history's sake.
fn only_in_pods(container: &C, holder: Holder) {
    let image = container.get("image");
    if holder == Holder::Pod && image.str() != image.str().trim() {
        image.invalid("must not have leading or trailing whitespace");
    }
}
