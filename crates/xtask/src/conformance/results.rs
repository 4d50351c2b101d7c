//! What each test did, read from ginkgo's reports and kept as a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// How a test ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    Passed,
    Failed,
    /// It said itself that it does not apply.
    Skipped,
}

/// One test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Test {
    pub(super) state: State,
    pub(super) seconds: f64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) message: String,
    #[serde(default)]
    pub(super) serial: bool,
}

/// One run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Results {
    /// Seconds since 1970.
    pub(super) started: u64,
    /// Seconds that the parts took, on the clock.
    #[serde(default)]
    pub(super) clock_seconds: f64,
    pub(super) tests: BTreeMap<String, Test>,
    /// What went wrong outside of tests (a set-up that failed).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) suite_failures: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    #[serde(default)]
    run_time: f64,
    spec_reports: Option<Vec<Spec>>,
    special_suite_failure_reasons: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    container_hierarchy_texts: Option<Vec<String>>,
    leaf_node_type: String,
    leaf_node_text: String,
    state: String,
    run_time: f64,
    failure: Option<Failure>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    message: String,
    forwarded_panic: String,
}

impl Failure {
    fn first_line(&self) -> String {
        let lines = self.message.lines().chain(self.forwarded_panic.lines()).map(str::trim);
        lines.filter(|line| !line.is_empty()).take(1).collect()
    }
}

impl Spec {
    fn name(&self) -> String {
        let mut words: Vec<&str> = self.container_hierarchy_texts.iter().flatten().map(String::as_str).collect();
        words.push(&self.leaf_node_text);
        words.join(" ")
    }

    fn seconds(&self) -> f64 {
        (self.run_time / 1e8).round() / 10.0
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

impl Results {
    pub(super) fn new() -> Self {
        Self { started: now(), ..Self::default() }
    }

    pub(super) fn load(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no results file", file.display()))
    }

    pub(super) fn store(&self, file: &Path) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(self).context("encode the results")?;
        std::fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
    }

    /// Takes in ginkgo's JSON report.
    pub(super) fn add_report(&mut self, file: &Path, serial: bool) -> Result<()> {
        let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        self.add(&bytes, serial).with_context(|| format!("{} is no report of ginkgo", file.display()))
    }

    fn add(&mut self, bytes: &[u8], serial: bool) -> Result<()> {
        let reports: Vec<Report> = serde_json::from_slice(bytes)?;
        for report in reports {
            self.clock_seconds += report.run_time / 1e9;
            self.suite_failures.extend(report.special_suite_failure_reasons.unwrap_or_default());
            for spec in report.spec_reports.unwrap_or_default() {
                self.add_spec(&spec, serial);
            }
        }
        Ok(())
    }

    fn add_spec(&mut self, spec: &Spec, serial: bool) {
        let message = spec.failure.as_ref().map(Failure::first_line).unwrap_or_default();
        let state = match spec.state.as_str() {
            "passed" => State::Passed,
            // Tests that were not chosen are called skipped as well, but give no reason.
            "skipped" if message.is_empty() => return,
            "skipped" => State::Skipped,
            "pending" | "" => return,
            _ => State::Failed,
        };
        if spec.leaf_node_type == "It" {
            let message = if message.is_empty() && state == State::Failed { spec.state.clone() } else { message };
            self.tests.insert(spec.name(), Test { state, seconds: spec.seconds(), message, serial });
        } else if state == State::Failed {
            self.suite_failures.push(format!("{}: {message}", spec.leaf_node_type));
        }
    }

    fn count(&self, state: State) -> usize {
        self.tests.values().filter(|t| t.state == state).count()
    }

    pub(super) fn passed(&self) -> usize {
        self.count(State::Passed)
    }

    pub(super) fn failed(&self) -> usize {
        self.count(State::Failed) + self.suite_failures.len()
    }

    pub(super) fn skipped(&self) -> usize {
        self.count(State::Skipped)
    }
}

/// Seconds per test that another cluster took.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Baseline(BTreeMap<String, f64>);

impl Baseline {
    pub(super) fn load(file: &Path) -> Result<Self> {
        let bytes = std::fs::read(file).with_context(|| format!("read {}", file.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no object of seconds per test", file.display()))
    }

    pub(super) fn seconds(&self, name: &str) -> Option<f64> {
        self.0.get(name).copied()
    }

    #[cfg(test)]
    pub(super) fn of(pairs: &[(&str, f64)]) -> Self {
        Self(pairs.iter().map(|(name, seconds)| ((*name).to_owned(), *seconds)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_report() {
        let report = r#"[{"RunTime": 5000000000, "SpecialSuiteFailureReasons": null, "SpecReports": [
            {"ContainerHierarchyTexts": ["[sig-a] A"], "LeafNodeType": "It", "LeafNodeText": "works", "State": "passed", "RunTime": 1260000000},
            {"ContainerHierarchyTexts": ["[sig-a] A"], "LeafNodeType": "It", "LeafNodeText": "breaks", "State": "failed", "RunTime": 1,
             "Failure": {"Message": "\n told so\nmore"}},
            {"ContainerHierarchyTexts": null, "LeafNodeType": "It", "LeafNodeText": "not chosen", "State": "skipped", "RunTime": 0},
            {"ContainerHierarchyTexts": null, "LeafNodeType": "It", "LeafNodeText": "does not apply", "State": "skipped", "RunTime": 0,
             "Failure": {"Message": "needs a cloud"}},
            {"ContainerHierarchyTexts": null, "LeafNodeType": "SynchronizedBeforeSuite", "LeafNodeText": "", "State": "timedout", "RunTime": 1,
             "Failure": {"Message": "no nodes"}}
        ]}]"#;
        let mut results = Results::new();
        results.add(report.as_bytes(), false).unwrap();
        assert_eq!((results.passed(), results.failed(), results.skipped()), (1, 2, 1));
        assert_eq!(results.tests["[sig-a] A works"].seconds, 1.3);
        assert_eq!(results.tests["[sig-a] A breaks"].message, "told so");
        assert_eq!(results.suite_failures, ["SynchronizedBeforeSuite: no nodes"]);
    }
}
