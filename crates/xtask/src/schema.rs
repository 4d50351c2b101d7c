//! `xtask schema`: the table of every API type's fields, from upstream's facts.
//!
//! Reads `wire/go-fields.json` (names, Go types, tags), `wire/protobuf-fields.json` (the truth about wire types) and
//! `openapi/` (list types, keys, defaults, required), and writes static Rust tables. Facts only: no descriptions.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

mod emit;
mod groups;
mod openapi;
mod resolve;

/// Runs the command: writes the tables, or with `--check` only compares them.
pub fn run(args: &[String]) -> Result<()> {
    let mut check = false;
    let mut upstream = default_upstream();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--check" => check = true,
            "--upstream" => upstream = args.next().context("--upstream needs a directory")?.into(),
            other => bail!("unknown flag {other:?}"),
        }
    }
    let files = generate(&upstream)?;
    let target = generated_dir();
    if check {
        return compare(&target, &files);
    }
    std::fs::create_dir_all(&target)?;
    for (name, text) in &files {
        let path = target.join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// The generated files as (name, text).
pub fn generate(upstream: &Path) -> Result<Vec<(&'static str, String)>> {
    let model = resolve::Model::load(upstream)?;
    Ok(emit::files(&model))
}

fn compare(target: &Path, files: &[(&'static str, String)]) -> Result<()> {
    for (name, text) in files {
        let path = target.join(name);
        let have = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        if have != *text {
            bail!("{} is stale: run `cargo xtask schema`", path.display());
        }
    }
    Ok(())
}

fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn default_upstream() -> PathBuf {
    project_root().join("../shared/upstream")
}

fn generated_dir() -> PathBuf {
    project_root().join("crates/schema/src/generated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_fresh() {
        let upstream = default_upstream();
        if !upstream.is_dir() {
            eprintln!("skipped: upstream's facts are not beside the project");
            return;
        }
        let files = generate(&upstream).expect("generate");
        compare(&generated_dir(), &files).expect("fresh");
    }
}
