//! `xtask conformance`: upstream's conformance suite against a cluster of our own.
//!
//! A fresh two-node cluster, the suite's images imported, the suite run by ginkgo, and a table by SIG with the seconds
//! beside upstream's. What each test did is kept as a file, so that two runs can be compared.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

mod cluster;
mod results;
mod suite;
mod table;

use cluster::Cluster;
use results::{Baseline, Results};

/// How the command is used.
pub const USAGE: &str = "usage: cargo xtask conformance --e2e-test PATH --images TAR [OPTIONS]
       cargo xtask conformance --results FILE [--compare OLD]

The suite and where it runs:
  --e2e-test PATH    upstream's e2e.test, of the version that the cluster says it has
  --ginkgo PATH      ginkgo's command, for several processes; default: beside e2e.test, else on PATH, else one process
  --kubectl PATH     kubectl for the tests of sig-cli; default: beside e2e.test, else on PATH
  --images TAR       the suite's images, imported into the fresh cluster
  --binary PATH      corten; default: the release build in target
  --kubeconfig FILE  use this running cluster: nothing is started, imported or ended
  --keep             leave the fresh cluster running
What is run:
  --focus RE         only tests whose name matches; may be repeated
  --skip RE          no tests whose name matches; may be repeated
  --procs N          processes for the tests that are not [Serial]; default 6
  --serial           also run the tests marked [Serial], one by one, after the others
What is shown:
  --out DIR          where results and ginkgo's reports go; default: target/conformance/TIME
  --baseline FILE    seconds per test to compare with (JSON object: name to seconds); default: upstream's, if it is there
  --compare OLD      results.json of an earlier run: what passes or fails now, what got slower
  --results FILE     run nothing, show these results again";

/// A line of the command, read.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Options {
    e2e_test: Option<PathBuf>,
    ginkgo: Option<PathBuf>,
    kubectl: Option<PathBuf>,
    images: Option<PathBuf>,
    binary: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
    keep: bool,
    focus: Vec<String>,
    skip: Vec<String>,
    procs: usize,
    serial: bool,
    out: Option<PathBuf>,
    baseline: Option<PathBuf>,
    compare: Option<PathBuf>,
    results: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self { procs: 6, ..Self::default() };
        let mut arguments = arguments.iter();
        while let Some(argument) = arguments.next() {
            let (flag, inline) = match argument.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            match flag {
                "--serial" => options.serial = true,
                "--keep" => options.keep = true,
                _ => {
                    let value = inline.or_else(|| arguments.next().cloned());
                    options
                        .set(flag, value.with_context(|| format!("{flag} needs a value, or is unknown\n{USAGE}"))?)?;
                }
            }
        }
        Ok(options)
    }

    fn set(&mut self, flag: &str, value: String) -> Result<()> {
        match flag {
            "--e2e-test" => self.e2e_test = Some(value.into()),
            "--ginkgo" => self.ginkgo = Some(value.into()),
            "--kubectl" => self.kubectl = Some(value.into()),
            "--images" => self.images = Some(value.into()),
            "--binary" => self.binary = Some(value.into()),
            "--kubeconfig" => self.kubeconfig = Some(value.into()),
            "--focus" => self.focus.push(value),
            "--skip" => self.skip.push(value),
            "--procs" => self.procs = value.parse().ok().filter(|n| *n > 0).context("--procs needs a number from 1")?,
            "--out" => self.out = Some(value.into()),
            "--baseline" => self.baseline = Some(value.into()),
            "--compare" => self.compare = Some(value.into()),
            "--results" => self.results = Some(value.into()),
            other => bail!("unknown flag {other:?}\n{USAGE}"),
        }
        Ok(())
    }
}

fn project_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program: beside another one, else on PATH.
fn find_program(name: &str, beside: &Path) -> Option<PathBuf> {
    let near = beside.parent().map(|dir| dir.join(name));
    let path = std::env::var_os("PATH").unwrap_or_default();
    near.into_iter().chain(std::env::split_paths(&path).map(|dir| dir.join(name))).find(|file| file.is_file())
}

/// The suite runs in a folder of its own, where relative paths would mean something else.
fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("find {}", path.display()))
}

fn release_binary() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| project_root().join("target"), PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let places = [target.join(triple).join("release/corten"), target.join("release/corten")];
    places
        .into_iter()
        .find(|file| file.is_file())
        .context("no release binary: run `make build`, or name one with --binary")
}

/// The command.
pub fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|a| matches!(a.as_str(), "--help" | "-h" | "help")) {
        println!("{USAGE}");
        return Ok(());
    }
    let options = Options::parse(arguments)?;
    let baseline = baseline(&options)?;
    // Read first: a run of an hour should not end in a missing file.
    let old = options.compare.as_deref().map(Results::load).transpose()?;
    let results = match &options.results {
        Some(file) => Results::load(file)?,
        None => run_suite(&options)?,
    };
    print!("{}", table::render(&results, &baseline));
    if let Some(old) = old {
        print!("{}", table::compare(&old, &results));
    }
    if results.failed() > 0 {
        bail!("{} tests failed", results.failed());
    }
    if results.passed() == 0 {
        bail!("no test ran");
    }
    Ok(())
}

fn baseline(options: &Options) -> Result<Baseline> {
    match &options.baseline {
        Some(file) => Baseline::load(file),
        None => {
            let file = project_root().join("../shared/reference/upstream-conformance-seconds.json");
            if file.is_file() { Baseline::load(&file) } else { Ok(Baseline::default()) }
        }
    }
}

fn run_suite(options: &Options) -> Result<Results> {
    let e2e_test = options.e2e_test.as_deref().with_context(|| format!("--e2e-test is missing\n{USAGE}"))?;
    let e2e_test = absolute(e2e_test)?;
    let out = match &options.out {
        Some(dir) => dir.clone(),
        None => project_root().join("target/conformance").join(results::now().to_string()),
    };
    std::fs::create_dir_all(&out).with_context(|| format!("create {}", out.display()))?;
    let out = absolute(&out)?;
    let cluster = match &options.kubeconfig {
        Some(file) => Cluster::running(file.clone()),
        None => {
            let images = options.images.as_deref().with_context(|| format!("--images is missing\n{USAGE}"))?;
            let binary = options.binary.clone().map_or_else(release_binary, Ok)?;
            let mut cluster = Cluster::start(&binary, &out, options.keep)?;
            cluster.import(images)?;
            cluster
        }
    };
    let program = |given: &Option<PathBuf>, name: &str| -> Result<Option<PathBuf>> {
        given.as_deref().map(absolute).transpose().map(|found| found.or_else(|| find_program(name, &e2e_test)))
    };
    let (kubectl, ginkgo) = (program(&options.kubectl, "kubectl")?, program(&options.ginkgo, "ginkgo")?);
    let suite =
        suite::Suite { e2e_test, ginkgo, kubectl, kubeconfig: cluster.kubeconfig().to_owned(), out: out.clone() };
    let mut results = Results::new();
    results.add_report(&suite.run_parallel(&options.focus, &options.skip, options.procs)?, false)?;
    let file = out.join("results.json");
    // Kept before the second part, which may take long or be broken off.
    results.store(&file)?;
    if options.serial {
        results.add_report(&suite.run_serial(&options.focus, &options.skip)?, true)?;
        results.store(&file)?;
    }
    eprintln!("results are in {}", file.display());
    if let Err(error) = cluster.end() {
        eprintln!("the cluster was not ended cleanly: {error:#}");
    }
    Ok(results)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        Options::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn reads_flags() {
        let options = parse("--e2e-test a --images=b --focus x --focus y --serial --procs 3").unwrap();
        assert_eq!(options.e2e_test, Some("a".into()));
        assert_eq!(options.images, Some("b".into()));
        assert_eq!((options.focus.len(), options.serial, options.procs), (2, true, 3));
        for wrong in ["--procs 0", "--unknown x", "--focus", "stray"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
