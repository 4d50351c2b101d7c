//! The checks of the Pod Security Standards. Upstream's order: baseline by id, then restricted by id.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::level::{Level, LevelVersion, Version};
use crate::pod::{containers, items, text};

/// What a check has against a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// What checks look at.
struct Pod<'a> {
    annotations: Vec<(&'a str, &'a str)>,
    spec: &'a Value,
    containers: Vec<&'a Value>,
    version: Version,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

/// From which version a check holds, and from which restricted one it is replaced by.
struct Row {
    since: u32,
    /// Minor version from which the restricted level has a check of its own instead.
    replaced: Option<u32>,
    check: Check,
}

const fn row(since: u32, replaced: Option<u32>, check: Check) -> Row {
    Row { since, replaced, check }
}

const BASELINE: &[Row] = &[
    row(0, None, app_armor),
    row(0, Some(22), capabilities_baseline),
    row(0, None, host_namespaces),
    row(0, Some(0), host_path_volumes),
    row(0, None, host_ports),
    row(34, None, host_probes),
    row(0, None, privileged),
    row(0, Some(35), proc_mount),
    row(0, None, se_linux),
    row(0, Some(19), seccomp_baseline),
    row(0, None, sysctls),
    row(0, None, windows_host_process),
];
const RESTRICTED: &[Row] = &[
    row(8, None, privilege_escalation),
    row(22, None, capabilities_restricted),
    row(35, None, proc_mount_strict),
    row(0, None, restricted_volumes),
    row(0, None, run_as_non_root),
    row(23, None, run_as_user),
    row(19, None, seccomp_restricted),
];

/// All violations of a level by a pod or a template (`metadata` and `spec` of it).
pub(super) fn evaluate(wanted: LevelVersion, body: &Map<String, Value>, spec: &Value) -> Vec<Violation> {
    if wanted.level == Level::Privileged {
        return Vec::new();
    }
    let annotations = body.get("metadata").and_then(|m| m.get("annotations")).and_then(Value::as_object);
    let all = containers(spec, &["initContainers", "containers", "ephemeralContainers"]);
    let pod = Pod {
        annotations: annotations.into_iter().flatten().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))).collect(),
        spec,
        containers: all.into_iter().map(|(_, c)| c).collect(),
        version: wanted.version,
    };
    let at = |minor: u32| wanted.version >= Version(minor);
    let strict = wanted.level == Level::Restricted;
    let baseline = BASELINE.iter().filter(|r| at(r.since) && !(strict && r.replaced.is_some_and(at)));
    let restricted = RESTRICTED.iter().filter(|r| strict && at(r.since));
    baseline.chain(restricted).filter_map(|r| (r.check)(&pod)).collect()
}

fn quote<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

fn named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quote(names))
}

fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

fn name(container: &Value) -> &str {
    text(container, &["name"])
}

/// A field of a container's or pod's security context, when set.
fn context<'a>(holder: &'a Value, field: &str) -> Option<&'a Value> {
    holder.get("securityContext")?.get(field).filter(|v| !v.is_null())
}

impl<'a> Pod<'a> {
    fn is_windows(&self) -> bool {
        text(self.spec, &["os", "name"]) == "windows"
    }

    /// Pods in a user namespace of their own may be root in it.
    fn is_relaxed(&self) -> bool {
        self.version >= Version(35) && self.spec.get("hostUsers") == Some(&Value::Bool(false))
    }

    fn names_of(&self, bad: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers.iter().filter(|c| bad(c)).map(|c| name(c)).collect()
    }

    /// The pod and the containers that set something bad, as messages name them; `None` when nobody does.
    fn setters(&self, bad: impl Fn(&Value) -> bool) -> Option<String> {
        let mut setters = Vec::new();
        if bad(self.spec) {
            setters.push("pod".to_owned());
        }
        let names = self.names_of(bad);
        if !names.is_empty() {
            setters.push(named(&names));
        }
        (!setters.is_empty()).then(|| setters.join(" and "))
    }

    /// The values of a security context field in the pod and its containers.
    fn values(&self, pick: impl Fn(&Value) -> Option<String>) -> BTreeSet<String> {
        std::iter::once(&self.spec).chain(&self.containers).filter_map(|holder| pick(holder)).collect()
    }
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let bad = |holder: &Value| {
        let kind = context(holder, "appArmorProfile").map(|p| text(p, &["type"]))?;
        (!matches!(kind, "RuntimeDefault" | "Localhost")).then(|| kind.to_owned())
    };
    let mut setters: Vec<String> = pod.setters(|h| bad(h).is_some()).into_iter().collect();
    let mut values: Vec<String> = pod.values(bad).into_iter().collect();
    let allowed = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let prefix = "container.apparmor.security.beta.kubernetes.io/";
    let annotations = pod.annotations.iter().filter(|(k, v)| k.starts_with(prefix) && !allowed(v));
    let mut annotations: Vec<String> = annotations.map(|(k, v)| format!("{k}={v:?}")).collect();
    annotations.sort();
    if !annotations.is_empty() {
        setters.push(plural("annotation", "annotations", annotations.len()).to_owned());
        values.append(&mut annotations);
    }
    if setters.is_empty() {
        return None;
    }
    let reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", values.len());
    violation(reason, format!("{} must not set AppArmor profile type to {}", setters.join(" and "), quote(&values)))
}

const BASELINE_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn capabilities<'a>(container: &'a Value, field: &str) -> Vec<&'a str> {
    context(container, "capabilities").into_iter().flat_map(|c| items(c, field)).filter_map(Value::as_str).collect()
}

/// The containers that add a capability beyond `allowed`, and those capabilities, as messages name them.
fn added(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let bad = |c: &&str| !allowed.contains(c);
    let names = pod.names_of(|c| capabilities(c, "add").iter().any(&bad));
    let all: BTreeSet<&str> = pod.containers.iter().flat_map(|c| capabilities(c, "add")).filter(bad).collect();
    let what = "in securityContext.capabilities.add";
    (!names.is_empty()).then(|| format!("{} must not include {} {what}", named(&names), quote(all)))
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    violation("non-default capabilities", added(pod, &BASELINE_CAPABILITIES)?)
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= Version(25) && pod.is_windows() {
        return None;
    }
    let mut details = Vec::new();
    let missing = pod.names_of(|c| !capabilities(c, "drop").contains(&"ALL"));
    if !missing.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&missing)));
    }
    details.extend(added(pod, &["NET_BIND_SERVICE"]));
    if details.is_empty() {
        return None;
    }
    violation("unrestricted capabilities", details.join("; "))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set = ["hostNetwork", "hostPID", "hostIPC"];
    let set: Vec<String> = set
        .iter()
        .filter(|field| pod.spec.get(**field) == Some(&Value::Bool(true)))
        .map(|field| format!("{field}=true"))
        .collect();
    if set.is_empty() { None } else { violation("host namespaces", set.join(", ")) }
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = items(pod.spec, "volumes").filter(|v| v.get("hostPath").is_some_and(|p| !p.is_null()));
    let names: Vec<&str> = volumes.map(name).collect();
    if names.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", names.len()), quote(&names)))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let used = |c: &Value| -> Vec<String> {
        let ports = items(c, "ports").filter_map(|p| p.get("hostPort")?.as_i64()).filter(|p| *p != 0);
        ports.map(|p| p.to_string()).collect()
    };
    let names = pod.names_of(|c| !used(c).is_empty());
    if names.is_empty() {
        return None;
    }
    let ports: BTreeSet<String> = pod.containers.iter().flat_map(|c| used(c)).collect();
    let word = plural("hostPort", "hostPorts", ports.len());
    let ports: Vec<String> = ports.into_iter().collect();
    violation(
        "hostPort",
        format!("{} {} {word} {}", named(&names), plural("uses", "use", names.len()), ports.join(", ")),
    )
}

fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    let hosts = |c: &Value| -> Vec<String> {
        let handlers = [
            &["livenessProbe"][..],
            &["readinessProbe"],
            &["startupProbe"],
            &["lifecycle", "postStart"],
            &["lifecycle", "preStop"],
        ];
        let found = handlers.iter().filter_map(|path| path.iter().try_fold(c, |v, step| v.get(*step)));
        found
            .flat_map(|h| [text(h, &["httpGet", "host"]), text(h, &["tcpSocket", "host"])])
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut names = pod.names_of(|c| !hosts(c).is_empty());
    if names.is_empty() {
        return None;
    }
    names.sort_unstable();
    let hosts: BTreeSet<String> = pod.containers.iter().flat_map(|c| hosts(c)).collect();
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    let detail = format!("{} {} {what} {}", named(&names), plural("uses", "use", names.len()), quote(&hosts));
    violation("probe or lifecycle host", detail)
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.names_of(|c| context(c, "privileged") == Some(&Value::Bool(true)));
    if names.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", named(&names)))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_relaxed() { None } else { proc_mount_strict(pod) }
}

fn proc_mount_strict(pod: &Pod<'_>) -> Option<Violation> {
    let bad =
        |c: &Value| context(c, "procMount").and_then(Value::as_str).filter(|m| *m != "Default").map(str::to_owned);
    let names = pod.names_of(|c| bad(c).is_some());
    if names.is_empty() {
        return None;
    }
    let kinds: BTreeSet<String> = pod.containers.iter().filter_map(|c| bad(c)).collect();
    violation("procMount", format!("{} must not set securityContext.procMount to {}", named(&names), quote(&kinds)))
}

fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    let known = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let known = if pod.version >= Version(31) { &known[..] } else { &known[..4] };
    let options = |h: &Value, field: &str| context(h, "seLinuxOptions").map(|o| text(o, &[field]).to_owned());
    let bad_type = |h: &Value| options(h, "type").filter(|kind| !known.contains(&kind.as_str()));
    let has = |h: &Value, field: &str| options(h, field).is_some_and(|v| !v.is_empty());
    let setters = pod.setters(|h| bad_type(h).is_some() || has(h, "user") || has(h, "role"))?;
    let mut data = Vec::new();
    let types = pod.values(bad_type);
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quote(&types)));
    }
    for field in ["user", "role"] {
        if pod.setters(|h| has(h, field)).is_some() {
            data.push(format!("{field} may not be set"));
        }
    }
    violation("seLinuxOptions", format!("{setters} set forbidden securityContext.seLinuxOptions: {}", data.join("; ")))
}

fn bad_seccomp(holder: &Value) -> Option<String> {
    let kind = context(holder, "seccompProfile").map(|p| text(p, &["type"]))?;
    (!matches!(kind, "RuntimeDefault" | "Localhost")).then(|| kind.to_owned())
}

fn explicit_seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|h| bad_seccomp(h).is_some())?;
    let values = quote(pod.values(bad_seccomp));
    violation("seccompProfile", format!("{setters} must not set securityContext.seccompProfile.type to {values}"))
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= Version(19) {
        return explicit_seccomp(pod);
    }
    let allowed = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let own = |key: &str| {
        key == "seccomp.security.alpha.kubernetes.io/pod"
            || key
                .strip_prefix("container.seccomp.security.alpha.kubernetes.io/")
                .is_some_and(|n| pod.containers.iter().any(|c| name(c) == n))
    };
    let bad = pod.annotations.iter().filter(|(k, v)| own(k) && !allowed(v));
    let bad: BTreeSet<String> = bad.map(|(k, v)| format!("{k}={v:?}")).collect();
    if bad.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", bad.len());
    let list: Vec<String> = bad.into_iter().collect();
    violation("seccompProfile", format!("forbidden {word} {}", list.join(", ")))
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= Version(25) && pod.is_windows() {
        return None;
    }
    if let Some(explicit) = explicit_seccomp(pod) {
        return Some(explicit);
    }
    if context(pod.spec, "seccompProfile").is_some() {
        return None;
    }
    let missing = pod.names_of(|c| context(c, "seccompProfile").is_none());
    if missing.is_empty() {
        return None;
    }
    let must = "must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"";
    violation("seccompProfile", format!("pod or {} {must}", named(&missing)))
}

const SYSCTLS: [(u32, &str); 12] = [
    (0, "kernel.shm_rmid_forced"),
    (0, "net.ipv4.ip_local_port_range"),
    (0, "net.ipv4.tcp_syncookies"),
    (0, "net.ipv4.ping_group_range"),
    (0, "net.ipv4.ip_unprivileged_port_start"),
    (27, "net.ipv4.ip_local_reserved_ports"),
    (29, "net.ipv4.tcp_keepalive_time"),
    (29, "net.ipv4.tcp_fin_timeout"),
    (29, "net.ipv4.tcp_keepalive_intvl"),
    (29, "net.ipv4.tcp_keepalive_probes"),
    (32, "net.ipv4.tcp_rmem"),
    (32, "net.ipv4.tcp_wmem"),
];

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let allowed = |name: &str| SYSCTLS.iter().any(|(since, n)| *n == name && pod.version >= Version(*since));
    let given = pod.spec.get("securityContext").into_iter().flat_map(|c| items(c, "sysctls"));
    let bad: Vec<&str> = given.into_iter().map(name).filter(|n| !allowed(n)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn windows_host_process(pod: &Pod<'_>) -> Option<Violation> {
    let bad = |h: &Value| context(h, "windowsOptions").and_then(|o| o.get("hostProcess")) == Some(&Value::Bool(true));
    let setters = pod.setters(bad)?;
    violation("hostProcess", format!("{setters} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.version >= Version(25) && pod.is_windows() {
        return None;
    }
    let names = pod.names_of(|c| context(c, "allowPrivilegeEscalation") != Some(&Value::Bool(false)));
    if names.is_empty() {
        return None;
    }
    let must = "must set securityContext.allowPrivilegeEscalation=false";
    violation("allowPrivilegeEscalation != false", format!("{} {must}", named(&names)))
}

const FREE_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn restricted_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let sources = |v: &Value| -> Vec<String> {
        let fields = v.as_object().into_iter().flatten().filter(|(k, v)| *k != "name" && !v.is_null());
        fields.map(|(k, _)| k.clone()).collect()
    };
    // A volume without a source is an emptyDir: the default is filled in before this.
    let free = |v: &Value| sources(v).is_empty() || sources(v).iter().any(|s| FREE_VOLUMES.contains(&s.as_str()));
    let bad: Vec<&Value> = items(pod.spec, "volumes").filter(|v| !free(v)).collect();
    if bad.is_empty() {
        return None;
    }
    let names: Vec<&str> = bad.iter().map(|v| name(v)).collect();
    let kind = |v: &Value| sources(v).into_iter().next().unwrap_or_else(|| "unknown".into());
    let kinds: BTreeSet<String> = bad.iter().map(|v| kind(v)).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", names.len()),
        quote(&names),
        plural("uses", "use", names.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quote(&kinds)
    );
    violation("restricted volume types", detail)
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_relaxed() {
        return None;
    }
    let reason = "runAsNonRoot != true";
    if let Some(setters) = pod.setters(|h| context(h, "runAsNonRoot") == Some(&Value::Bool(false))) {
        return violation(reason, format!("{setters} must not set securityContext.runAsNonRoot=false"));
    }
    if context(pod.spec, "runAsNonRoot").is_some() {
        return None;
    }
    let missing = pod.names_of(|c| context(c, "runAsNonRoot").is_none());
    if missing.is_empty() {
        return None;
    }
    violation(reason, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&missing)))
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_relaxed() {
        return None;
    }
    let setters = pod.setters(|h| context(h, "runAsUser").and_then(Value::as_i64) == Some(0))?;
    violation("runAsUser=0", format!("{setters} must not set runAsUser=0"))
}
