//! Results for people: a table by SIG, failures, slow tests, and two runs side by side.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::results::{Baseline, Results, State, Test};

/// A test is slow above this many times the other's seconds, plus `SLACK`.
const FACTOR: f64 = 1.5;
const SLACK: f64 = 2.0;

fn slow(seconds: f64, than: f64) -> bool {
    seconds > FACTOR * than + SLACK
}

/// `sig-node` of `[sig-node] Pods ...`.
fn sig(name: &str) -> &str {
    name.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or("other")
}

#[derive(Default)]
struct Row {
    passed: usize,
    failed: usize,
    skipped: usize,
    seconds: f64,
    /// Seconds of the passed tests that the baseline has, and the baseline's.
    compared: (f64, f64),
    slow: usize,
}

impl Row {
    fn add(&mut self, test: &Test, baseline: Option<f64>) {
        match test.state {
            State::Passed => self.passed += 1,
            State::Failed => self.failed += 1,
            State::Skipped => self.skipped += 1,
        }
        self.seconds += test.seconds;
        if let (State::Passed, Some(seconds)) = (test.state, baseline) {
            self.compared.0 += test.seconds;
            self.compared.1 += seconds;
            self.slow += usize::from(slow(test.seconds, seconds));
        }
    }

    fn line(&self, name: &str) -> String {
        format!(
            "| {name:<24} | {:>6} | {:>6} | {:>7} | {:>8.1} | {:>10.1} | {:>8.1} | {:>4} |\n",
            self.passed, self.failed, self.skipped, self.seconds, self.compared.0, self.compared.1, self.slow
        )
    }
}

/// The whole report.
pub(super) fn render(results: &Results, baseline: &Baseline) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    let mut all = Row::default();
    for (name, test) in &results.tests {
        let seconds = baseline.seconds(name);
        rows.entry(sig(name)).or_default().add(test, seconds);
        all.add(test, seconds);
    }
    let mut text = String::from(
        "\n| SIG                      | passed | failed | skipped |  seconds | comparable | baseline | slow |\n\
         |--------------------------|-------:|-------:|--------:|---------:|-----------:|---------:|-----:|\n",
    );
    for (name, row) in &rows {
        text.push_str(&row.line(name));
    }
    text.push_str(&all.line("all"));
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "\n{} passed, {} failed, {} skipped, {:.0} s on the clock; comparable: passed tests that the baseline has",
        results.passed(),
        results.failed(),
        results.skipped(),
        results.clock_seconds
    );
    failures(results, &mut text);
    slow_tests(results, baseline, &mut text);
    text
}

fn failures(results: &Results, text: &mut String) {
    if results.failed() == 0 {
        return;
    }
    text.push_str("\nFailed:\n");
    for failure in &results.suite_failures {
        let _ = writeln!(text, "- the suite itself: {failure}");
    }
    for (name, test) in results.tests.iter().filter(|(_, t)| t.state == State::Failed) {
        let _ = writeln!(text, "- {name} ({:.1} s)\n    {}", test.seconds, test.message);
    }
}

fn slow_tests(results: &Results, baseline: &Baseline, text: &mut String) {
    let passed = results.tests.iter().filter(|(_, t)| t.state == State::Passed);
    let mut found: Vec<(&String, f64, f64)> = passed
        .filter_map(|(name, test)| Some((name, test.seconds, baseline.seconds(name)?)))
        .filter(|(_, seconds, than)| slow(*seconds, *than))
        .collect();
    found.sort_by(|a, b| (b.1 - b.2).total_cmp(&(a.1 - a.2)));
    if found.is_empty() {
        return;
    }
    let _ = writeln!(text, "\nSlower than {FACTOR} times the baseline and {SLACK} s:");
    for (name, seconds, than) in found {
        let _ = writeln!(text, "- {seconds:.1} s, baseline {than:.1} s: {name}");
    }
}

/// What changed from one run to another.
pub(super) fn compare(old: &Results, new: &Results) -> String {
    let failed = |test: Option<&Test>| test.is_some_and(|t| t.state == State::Failed);
    let passed = |test: Option<&Test>| test.is_some_and(|t| t.state == State::Passed);
    let mut text = format!(
        "\nBefore: {} passed, {} failed; now: {} passed, {} failed\n",
        old.passed(),
        old.failed(),
        new.passed(),
        new.failed()
    );
    let mut section = |title: &str, names: Vec<String>| {
        if !names.is_empty() {
            let _ = write!(text, "\n{title} ({}):\n- {}\n", names.len(), names.join("\n- "));
        }
    };
    let names = |keep: &dyn Fn(&str, &Test) -> bool| -> Vec<String> {
        new.tests.iter().filter(|(name, test)| keep(name, test)).map(|(name, _)| name.clone()).collect()
    };
    section("Fails now", names(&|name, test| failed(Some(test)) && !failed(old.tests.get(name))));
    section("Passes now", names(&|name, test| passed(Some(test)) && !passed(old.tests.get(name))));
    let missing = old.tests.keys().filter(|name| !new.tests.contains_key(*name)).cloned().collect();
    section("Not run now", missing);
    let both = new.tests.iter().filter_map(|(name, test)| {
        let before = old.tests.get(name)?;
        (passed(Some(test)) && passed(Some(before))).then_some((name, before.seconds, test.seconds))
    });
    let (mut slower, mut faster) = (Vec::new(), Vec::new());
    for (name, before, now) in both {
        let line = format!("{before:.1} s, now {now:.1} s: {name}");
        if slow(now, before) {
            slower.push(line);
        } else if slow(before, now) {
            faster.push(line);
        }
    }
    section("Slower", slower);
    section("Faster", faster);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(tests: &[(&str, State, f64)]) -> Results {
        let mut results = Results::default();
        for (name, state, seconds) in tests {
            let test = Test { state: *state, seconds: *seconds, message: "why".into(), serial: false };
            results.tests.insert((*name).to_owned(), test);
        }
        results
    }

    #[test]
    fn names_what_is_slow_and_what_failed() {
        let results = results(&[
            ("[sig-a] quick", State::Passed, 3.4),
            ("[sig-a] slow", State::Passed, 3.6),
            ("[sig-b] broken", State::Failed, 100.0),
        ]);
        let baseline = Baseline::of(&[("[sig-a] quick", 1.0), ("[sig-a] slow", 1.0), ("[sig-b] broken", 1.0)]);
        let text = render(&results, &baseline);
        assert!(text.contains("- 3.6 s, baseline 1.0 s: [sig-a] slow"), "{text}");
        assert!(!text.contains("s: [sig-a] quick") && !text.contains("baseline 1.0 s: [sig-b]"), "{text}");
        assert!(text.contains("- [sig-b] broken (100.0 s)\n    why"), "{text}");
        assert!(text.contains("| sig-a                    |      2 |      0 |"), "{text}");
    }

    #[test]
    fn compares_two_runs() {
        let old = results(&[("a", State::Passed, 1.0), ("b", State::Failed, 1.0), ("c", State::Passed, 1.0)]);
        let new = results(&[("a", State::Failed, 1.0), ("b", State::Passed, 1.0), ("d", State::Passed, 1.0)]);
        let text = compare(&old, &new);
        for part in ["Fails now (1):\n- a", "Passes now (2):\n- b\n- d", "Not run now (1):\n- c"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
