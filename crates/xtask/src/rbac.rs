//! `xtask rbac`: upstream's bootstrap policy as one JSON table of facts, for crate `authz`.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;

const TARGET: &str = "crates/authz/src/bootstrap/policy.json";
/// Table, and the files (lists of objects) that fill it.
const TABLES: &[(&str, &[&str])] = &[
    ("clusterRoles", &["cluster-roles.yaml", "controller-roles.yaml"]),
    ("clusterRoleBindings", &["cluster-role-bindings.yaml", "controller-role-bindings.yaml"]),
    ("roles", &["namespace-roles.yaml"]),
    ("roleBindings", &["namespace-role-bindings.yaml"]),
];

/// Writes the table, or with `--check` says whether it is fresh.
pub fn run(args: &[String]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut upstream = root.join("../shared/upstream");
    let mut check = false;
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--check" => check = true,
            "--upstream" => upstream = PathBuf::from(rest.next().context("--upstream needs a folder")?),
            other => bail!("unknown argument {other:?}"),
        }
    }
    let text = render(&upstream.join("rbac"))?;
    let target = root.join(TARGET);
    if !check {
        return std::fs::write(&target, text).with_context(|| format!("write {}", target.display()));
    }
    let found = std::fs::read_to_string(&target).with_context(|| format!("read {}", target.display()))?;
    if found != text {
        bail!("{TARGET} is stale: run `cargo xtask rbac`");
    }
    Ok(())
}

fn render(dir: &Path) -> anyhow::Result<String> {
    let mut out = String::from("{");
    for (index, (table, files)) in TABLES.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(out, "{comma}\n\"{table}\": [")?;
        let mut first = true;
        for file in *files {
            let path = dir.join(file);
            let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let list: Value = serde_yaml_ng::from_str(&text).with_context(|| format!("parse {}", path.display()))?;
            for item in list.get("items").and_then(Value::as_array).context("the file is no list")? {
                write!(out, "{}\n{item}", if first { "" } else { "," })?;
                first = false;
            }
        }
        out.push_str("\n]");
    }
    out.push_str("\n}\n");
    Ok(out)
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_policy_is_fresh() {
        // Upstream's data is not part of the repository: without it there is nothing to compare with.
        let upstream = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream/rbac");
        if upstream.is_dir() {
            super::run(&["--check".to_owned()]).unwrap();
        }
    }
}
