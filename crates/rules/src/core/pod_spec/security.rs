//! Security contexts and the operating system.

use crate::C;

/// The highest user and group id.
const MAX_ID: i64 = i32::MAX as i64;

fn id(value: &C) {
    if value.exists() {
        value.in_range(0, MAX_ID);
    }
}

/// `spec.securityContext`, with the namespaces it shares with the host.
pub fn pod(spec: &C) {
    let context = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        id(&context.get(field));
    }
    for group in context.get("supplementalGroups").items() {
        id(&group);
    }
    let shared = spec.get("shareProcessNamespace");
    if shared.is_true() && spec.get("hostPID").is_true() {
        let word = "ShareProcessNamespace and HostPID cannot both be enabled";
        let at = context.get("shareProcessNamespace");
        at.invalid_value(true, word);
    }
    sysctls(&context.get("sysctls"), spec);
    let optional = |field: &str, valid: &[&str]| {
        let value = context.get(field);
        if value.exists() {
            value.one_of(valid);
        }
    };
    optional("fsGroupChangePolicy", &["Always", "OnRootMismatch"]);
    optional("supplementalGroupsPolicy", &["Merge", "Strict"]);
    optional("seLinuxChangePolicy", &["Recursive"]);
    seccomp(&context.get("seccompProfile"));
    app_armor(&context.get("appArmorProfile"));
    if spec.get("hostUsers").bool() == Some(false) {
        host_users(spec);
    }
}

fn host_users(spec: &C) {
    for (flag, name) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(flag).is_true() {
            spec.get(name).forbidden("when `hostUsers` is false");
        }
    }
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.get(list).items() {
            if !container.get("volumeDevices").is_empty() {
                container.get("volumeDevices").forbidden("when `hostUsers` is false");
            }
        }
    }
}

fn sysctls(list: &C, spec: &C) {
    const MAX: usize = 253;
    const REGEX: &str = r"^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
    let mut seen: Vec<&str> = Vec::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        if !name.required() {
            continue;
        }
        if name.str().len() > MAX || !sysctl_name(name.str()) {
            name.invalid(format!("must have at most {MAX} characters and match regex {REGEX}"));
        } else if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        let dotted = name.str().replace('/', ".");
        if dotted.starts_with("net.") && spec.get("hostNetwork").is_true() {
            name.invalid("may not be specified when 'hostNetwork' is true");
        }
        let ipc =
            ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| dotted.starts_with(p)) || dotted == "kernel.sem";
        if ipc && spec.get("hostIPC").is_true() {
            name.invalid("may not be specified when 'hostIPC' is true");
        }
    }
}

fn sysctl_name(name: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.split(['.', '/']).all(|part| {
        let bytes = part.as_bytes();
        bytes.first().is_some_and(|c| edge(*c))
            && bytes.last().is_some_and(|c| edge(*c))
            && bytes.iter().all(|c| edge(*c) || matches!(c, b'-' | b'_'))
    })
}

fn seccomp(profile: &C) {
    if !profile.exists() {
        return;
    }
    let local = profile.get("localhostProfile");
    let kind = profile.get("type");
    match kind.str() {
        "Localhost" => {
            if local.is_zero() {
                local.missing("must be set when seccomp type is Localhost");
            } else {
                super::volume::local_descending_path(&local);
            }
        }
        other => {
            if local.exists() {
                local.invalid("can only be set when seccomp type is Localhost");
            }
            if other.is_empty() {
                kind.missing("type is required when seccompProfile is set");
            } else {
                kind.one_of(&["Localhost", "RuntimeDefault", "Unconfined"]);
            }
        }
    }
}

fn app_armor(profile: &C) {
    if !profile.exists() {
        return;
    }
    let local = profile.get("localhostProfile");
    let kind = profile.get("type");
    match kind.str() {
        "Localhost" => {
            let text = local.str();
            if text.trim().is_empty() {
                local.missing("must be set when AppArmor type is Localhost");
            } else if text != text.trim() {
                local.invalid("must not be padded with whitespace");
            } else {
                local.max_len(4095);
            }
        }
        other => {
            if local.exists() && matches!(other, "RuntimeDefault" | "Unconfined") {
                local.invalid("can only be set when AppArmor type is Localhost");
            }
            if other.is_empty() {
                kind.missing("type is required when appArmorProfile is set");
            } else {
                kind.one_of(&["Localhost", "RuntimeDefault", "Unconfined"]);
            }
        }
    }
}

/// A container's `securityContext`.
pub fn container(context: &C, host_users: bool) {
    if !context.exists() {
        return;
    }
    id(&context.get("runAsUser"));
    id(&context.get("runAsGroup"));
    let mount = context.get("procMount");
    if mount.exists() {
        mount.one_of(&["Default", "Unmasked"]);
        if host_users && mount.str() == "Unmasked" {
            mount.invalid("`hostUsers` must be false to use `Unmasked`");
        }
    }
    seccomp(&context.get("seccompProfile"));
    if context.get("allowPrivilegeEscalation").bool() == Some(false) {
        if context.get("privileged").is_true() {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if context.get("capabilities.add").items().any(|c| c.str() == "CAP_SYS_ADMIN") {
            context.invalid("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    app_armor(&context.get("appArmorProfile"));
}

/// `spec.os`: what the other system does not have may not be set.
pub fn operating_system(spec: &C) {
    let system = spec.get("os");
    if !system.exists() {
        return;
    }
    let name = system.get("name");
    if !name.required() {
        return;
    }
    if !matches!(name.str(), "linux" | "windows") {
        let error = meta::field::Error::not_supported(&system.path(), name.str(), &["linux", "windows"]);
        return system.sink().push(error);
    }
    let windows = name.str() == "windows";
    let pod_fields: &[&str] = if windows {
        &[
            "seLinuxOptions",
            "seccompProfile",
            "appArmorProfile",
            "fsGroup",
            "fsGroupChangePolicy",
            "sysctls",
            "runAsUser",
            "runAsGroup",
            "supplementalGroups",
            "supplementalGroupsPolicy",
        ]
    } else {
        &["windowsOptions"]
    };
    let context = spec.get("securityContext");
    forbid(&context, pod_fields, &name);
    if windows {
        forbid(spec, &["hostUsers", "hostPID", "hostIPC", "shareProcessNamespace"], &name);
    }
    let own: &[&str] = if windows {
        &[
            "seLinuxOptions",
            "seccompProfile",
            "appArmorProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ]
    } else {
        &["windowsOptions"]
    };
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for container in spec.get(list).items() {
            forbid(&container.get("securityContext"), own, &name);
        }
    }
}

fn forbid(context: &C, fields: &[&str], system: &C) {
    for field in fields {
        let value = context.get(field);
        if value.exists() && !(value.is_zero() && value.value().is_some_and(serde_json::Value::is_boolean)) {
            let subject = if system.str() == "windows" { "windows" } else { "linux" };
            value.forbidden(format!("cannot be set for a {subject} pod"));
        }
    }
}
