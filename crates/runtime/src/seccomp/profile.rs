//! A seccomp profile as people write it: the OCI form, and docker's, which adds conditions on capabilities and
//! architectures.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use serde::Deserialize;

use super::{Rules, compile, number};

/// The document.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    names: Vec<String>,
    name: String,
    action: String,
    errno_ret: Option<u32>,
    args: Vec<Arg>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
}

impl Profile {
    /// Compiles it: first the program of the default with what it lets through, then one per other action.
    pub(super) fn compile(&self, capabilities: u64) -> Result<Vec<BpfProgram>, String> {
        let default = action(&self.default_action, self.default_errno_ret)?;
        let mut groups: BTreeMap<u32, (SeccompAction, Rules)> = BTreeMap::new();
        for entry in self.syscalls.iter().filter(|e| e.applies(capabilities)) {
            let action = action(&entry.action, entry.errno_ret)?;
            if action == default {
                continue;
            }
            let (_, rules) = groups.entry(u32::from(action.clone())).or_insert_with(|| (action, Rules::new()));
            for name in entry.names.iter().chain(Some(&entry.name).filter(|n| !n.is_empty())) {
                // Names of other architectures and of newer kernels are left out, as libseccomp does.
                if let Some(number) = number(name) {
                    entry.add_to(rules, number)?;
                }
            }
        }
        let allowed = groups.remove(&u32::from(SeccompAction::Allow)).map(|(_, rules)| rules);
        let mut programs = Vec::new();
        let failed = |e: seccompiler::BackendError| format!("compile the seccomp profile: {e}");
        if default != SeccompAction::Allow {
            let mut open = allowed.unwrap_or_default();
            for (action, rules) in groups.values() {
                // The default's program must let through what another one is to decide. It cannot where that
                // decision is a weaker one on other arguments; then the stronger default stays, as the kernel has it.
                if strength(action) < strength(&default) {
                    open.extend(rules.clone());
                }
            }
            programs.push(compile(open, default.clone(), SeccompAction::Allow).map_err(failed)?);
        }
        for (action, rules) in groups.into_values() {
            programs.push(compile(rules, SeccompAction::Allow, action).map_err(failed)?);
        }
        if programs.is_empty() {
            // Everything is allowed: an honest program that says so.
            let never = SeccompAction::Errno(libc::EPERM as u32);
            programs.push(compile(Rules::new(), SeccompAction::Allow, never).map_err(failed)?);
        }
        Ok(programs)
    }
}

impl Entry {
    fn applies(&self, capabilities: u64) -> bool {
        let has = |cap: &String| sys::caps::bit(cap).is_some_and(|bit| capabilities & bit != 0);
        let arch = |a: &String| {
            let names: &[&str] =
                if cfg!(target_arch = "x86_64") { &["amd64", "x86_64"] } else { &["arm64", "aarch64"] };
            names.contains(&a.as_str())
        };
        let included = self
            .includes
            .as_ref()
            .is_none_or(|f| f.caps.iter().all(has) && (f.arches.is_empty() || f.arches.iter().any(arch)));
        let excluded = self.excludes.as_ref().is_some_and(|f| f.caps.iter().any(has) || f.arches.iter().any(arch));
        included && !excluded
    }

    fn add_to(&self, rules: &mut Rules, number: i64) -> Result<(), String> {
        if self.args.is_empty() {
            rules.insert(number, Vec::new());
            return Ok(());
        }
        let mut conditions = Vec::new();
        for arg in &self.args {
            let (op, value) = match arg.op.as_str() {
                "SCMP_CMP_NE" => (SeccompCmpOp::Ne, arg.value),
                "SCMP_CMP_LT" => (SeccompCmpOp::Lt, arg.value),
                "SCMP_CMP_LE" => (SeccompCmpOp::Le, arg.value),
                "SCMP_CMP_EQ" => (SeccompCmpOp::Eq, arg.value),
                "SCMP_CMP_GE" => (SeccompCmpOp::Ge, arg.value),
                "SCMP_CMP_GT" => (SeccompCmpOp::Gt, arg.value),
                "SCMP_CMP_MASKED_EQ" => (SeccompCmpOp::MaskedEq(arg.value), arg.value_two),
                other => return Err(format!("seccomp profile: unknown comparison {other:?}")),
            };
            let condition = SeccompCondition::new(arg.index, SeccompCmpArgLen::Qword, op, value);
            conditions.push(condition.map_err(|e| format!("seccomp profile: {e}"))?);
        }
        let rule = SeccompRule::new(conditions).map_err(|e| format!("seccomp profile: {e}"))?;
        match rules.get_mut(&number) {
            Some(list) if list.is_empty() => {} // any arguments already match
            Some(list) => list.push(rule),
            None => drop(rules.insert(number, vec![rule])),
        }
        Ok(())
    }
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(errno.unwrap_or(libc::EPERM as u32)),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_TRACE" => SeccompAction::Trace(errno.unwrap_or(libc::EPERM as u32)),
        other => return Err(format!("seccomp profile: unsupported action {other:?}")),
    })
}

/// The kernel takes the strongest answer of all programs.
fn strength(action: &SeccompAction) -> u8 {
    match action {
        SeccompAction::Allow => 0,
        SeccompAction::Log => 1,
        SeccompAction::Trace(_) => 2,
        SeccompAction::Errno(_) => 3,
        SeccompAction::Trap => 4,
        SeccompAction::KillThread => 5,
        SeccompAction::KillProcess => 6,
    }
}

#[cfg(test)]
mod tests {
    use super::Profile;

    fn compile(text: &str) -> Result<usize, String> {
        serde_json::from_str::<Profile>(text).map_err(|e| e.to_string())?.compile(0).map(|p| p.len())
    }

    #[test]
    fn profiles() {
        let cases = [
            (r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#, Ok(1)),
            (
                r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","nosuch"],"action":"SCMP_ACT_ALLOW"},
                {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#,
                Ok(2),
            ),
            (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, Err(())),
        ];
        for (text, expect) in cases {
            assert_eq!(compile(text).map_err(|_| ()), expect, "{text}");
        }
    }
}
