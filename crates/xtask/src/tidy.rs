//! The rules of the rooms, checked: rows, bans, file sizes, module comments. The table is DESIGN's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Rows of crates; a crate may use only crates of lower rows.
const ROWS: &[&[&str]] = &[
    &["rt", "telemetry", "features"],
    &["meta", "sys", "pki", "node-api"],
    &["auth-api", "schema", "celx", "grpc", "wire"],
    &["managedfields", "api", "store", "runtime", "images", "cni", "cri-client"],
    &["registry", "client", "rules", "component-helpers"],
    &["informer", "encryption"],
    &["kinds", "authn", "authz", "scheduler", "volumes", "proxy", "netpol", "dns", "overlay", "bgp", "local", "hollow"],
    &["admission", "controllers", "kubelet", "metrics-api", "etcd-server", "cri-server", "cli"],
    &["apiserver"],
    &["corten"],
];
/// Crates beside the rows: they may use all.
const BESIDE: &[&str] = &["xtask", "testkit", "sim", "e2e", "bench"];

/// A crate that only some may name.
const ONLY: &[(&str, &[&str])] =
    &[("store", &["registry", "etcd-server", "corten"]), ("k8s-openapi", &["api", "schema"])];
/// Crates that some may not name.
const NEVER: &[(&[&str], &[&str])] = &[
    (&["controllers", "scheduler", "kubelet", "proxy", "dns"], &["registry", "kinds", "apiserver"]),
    (&["runtime", "images", "cni"], &["api"]),
];
/// Crates that run in a simulation, and what they must not use.
const SIMULATED: &[&str] = &["registry", "informer", "controllers", "scheduler"];
const NOT_SIMULATED: &[&str] =
    &["tokio::spawn", "tokio::time", "tokio::select!", "std::thread", "SystemTime::now", "std::time::Instant"];
/// Longest file, in lines; generated ones and tests are not counted.
const MAX_LINES: usize = 600;

/// Everything that is wrong, one line each.
pub fn problems(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    let crates = root.join("crates");
    for entry in std::fs::read_dir(&crates).context("read crates")? {
        let dir = entry?.path();
        let Some(name) = dir.file_name().and_then(|n| n.to_str()).map(str::to_owned) else { continue };
        let manifest =
            std::fs::read_to_string(dir.join("Cargo.toml")).with_context(|| format!("manifest of {name}"))?;
        check_dependencies(&name, &dependencies(&manifest), &mut found);
        let mut files = Vec::new();
        sources(&dir.join("src"), &mut files)?;
        for file in files {
            let text = std::fs::read_to_string(&file)?;
            let shown = file.strip_prefix(root).unwrap_or(&file).display().to_string();
            check_file(&name, &shown, &text, &mut found);
        }
    }
    found.sort();
    Ok(found)
}

/// The names under `[dependencies]`; dev-dependencies are free.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.trim() == "[dependencies]";
        } else if inside && let Some((name, _)) = line.split_once(['.', '=', ' ']) {
            names.push(name.trim().to_owned());
        }
    }
    names
}

fn row(name: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&name))
}

fn check_dependencies(name: &str, dependencies: &[String], found: &mut Vec<String>) {
    if BESIDE.contains(&name) {
        return;
    }
    let Some(own) = row(name) else {
        found.push(format!("crate {name} is in no row"));
        return;
    };
    for dependency in dependencies {
        if let Some(other) = row(dependency)
            && other >= own
        {
            found
                .push(format!("crate {name} (row {own}) uses {dependency} (row {other}): only lower rows are allowed"));
        }
        if BESIDE.contains(&dependency.as_str()) {
            found.push(format!("crate {name} uses {dependency}, which is for tests and tools"));
        }
        for (banned, allowed) in ONLY {
            if dependency == banned && !allowed.contains(&name) {
                found.push(format!("crate {name} uses {banned}: only {} may", allowed.join(", ")));
            }
        }
        for (who, what) in NEVER {
            if who.contains(&name) && what.contains(&dependency.as_str()) {
                found.push(format!("crate {name} must not use {dependency}"));
            }
        }
    }
}

fn sources(dir: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

fn check_file(name: &str, shown: &str, text: &str, found: &mut Vec<String>) {
    let generated =
        shown.contains("/generated/") || text.starts_with("// @generated") || text.contains("// @generated");
    let test = shown.contains("/tests") || shown.ends_with("tests.rs");
    if generated {
        return;
    }
    let lines = text.lines().count();
    if lines > MAX_LINES && !test {
        found.push(format!("{shown} has {lines} lines, more than {MAX_LINES}"));
    }
    if !test && !text.trim_start().starts_with("//!") {
        found.push(format!("{shown} does not open with a module comment (//!)"));
    }
    // The simulation's one file takes the place of a C function.
    let may_be_unsafe =
        name == "sys" || shown.starts_with("crates/store/src/engine/embedded/") || shown == "crates/sim/src/entropy.rs";
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if !may_be_unsafe && (code.contains("unsafe {") || code.contains("unsafe fn") || code.contains("unsafe impl")) {
            found.push(format!("{shown}:{}: unsafe code outside of sys", number + 1));
        }
        if SIMULATED.contains(&name) && !test {
            for banned in NOT_SIMULATED.iter().filter(|banned| code.contains(**banned)) {
                found.push(format!("{shown}:{}: {banned} in a simulated room; use rt", number + 1));
            }
        }
    }
}

/// The command.
pub fn run(_: &[String]) -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let problems = problems(&root.canonicalize()?)?;
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    for problem in &problems {
        *by_kind.entry(problem).or_default() += 1;
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        println!("tidy");
        return Ok(());
    }
    bail!("{} problems", problems.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let problems = problems(&root).unwrap();
        assert!(problems.is_empty(), "{}", problems.join("\n"));
    }

    #[test]
    fn rules_bite() {
        let mut found = Vec::new();
        check_dependencies("store", &["registry".into()], &mut found);
        check_dependencies("kubelet", &["registry".into()], &mut found);
        check_dependencies("unknown", &[], &mut found);
        check_file(
            "controllers",
            "crates/controllers/src/x.rs",
            "use std::time::Instant;\nfn f() { unsafe {} }",
            &mut found,
        );
        assert_eq!(found.len(), 6, "{found:#?}");
    }
}
