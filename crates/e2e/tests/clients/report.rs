//! Cases counted one by one, in the words of cargo's own tests, so that `cargo xtask test` sums them.

use std::sync::Mutex;
use std::time::Instant;

use anyhow::Result;

/// What came of the cases so far.
pub struct Report {
    filters: Vec<String>,
    began: Instant,
    sum: Mutex<Sum>,
}

#[derive(Default)]
struct Sum {
    passed: usize,
    failures: Vec<(String, String)>,
}

impl Report {
    /// A report on the groups that the arguments name; on all without any.
    pub fn new(arguments: impl Iterator<Item = String>) -> Self {
        let filters = arguments.filter(|word| !word.starts_with('-')).collect();
        Self { filters, began: Instant::now(), sum: Mutex::default() }
    }

    /// Whether a group is to be run.
    pub fn wants(&self, group: &str) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| group.contains(filter.as_str()))
    }

    fn sum(&self) -> std::sync::MutexGuard<'_, Sum> {
        self.sum.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Notes a case.
    pub fn note(&self, case: &str, result: Result<()>) {
        let mut sum = self.sum();
        match result {
            Ok(()) => {
                sum.passed += 1;
                println!("test {case} ... ok");
            }
            Err(error) => {
                println!("test {case} ... FAILED");
                eprintln!("{case}: {error:#}");
                sum.failures.push((case.to_owned(), format!("{error:#}")));
            }
        }
    }

    /// Says why a case is not run.
    pub fn skip(&self, case: &str, why: &str) {
        println!("test {case} ... skipped: {why}");
    }

    /// How many cases have failed so far.
    pub fn failures(&self) -> usize {
        self.sum().failures.len()
    }

    /// The last lines, and whether nothing failed.
    pub fn end(&self) -> bool {
        let sum = self.sum();
        for (case, error) in &sum.failures {
            println!("---- {case}\n{error}");
        }
        let (word, failed) = if sum.failures.is_empty() { ("ok", 0) } else { ("FAILED", sum.failures.len()) };
        println!(
            "test result: {word}. {} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
            sum.passed,
            self.began.elapsed().as_secs_f64()
        );
        failed == 0
    }
}
