//! Many seeds, each in a process of its own.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::Options;

/// How long a seed may run before it counts as hung.
const LIMIT: Duration = Duration::from_secs(120);
/// How often a running seed is looked at.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Tally {
    done: u64,
    failed: Vec<u64>,
    requests: u64,
    faults: u64,
    seconds: f64,
}

impl Tally {
    /// Adds the numbers of a report's first line: those before the words.
    fn add(&mut self, line: &str) {
        let words = line.split([' ', ',']).filter(|word| !word.is_empty());
        let mut before = "";
        for word in words {
            match word {
                "requests" => self.requests += before.parse::<u64>().unwrap_or(0),
                "faults" => self.faults += before.parse::<u64>().unwrap_or(0),
                "s" => self.seconds += before.parse::<f64>().unwrap_or(0.0),
                _ => {}
            }
            before = word;
        }
    }
}

/// One seed: its exit code and what it printed.
fn child(seed: u64) -> (bool, String) {
    let run = || -> std::io::Result<(bool, String)> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["--seed", &seed.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let begun = Instant::now();
        // What it prints is short and fits the pipe.
        let hung = loop {
            if child.try_wait()?.is_some() {
                break false;
            }
            if begun.elapsed() > LIMIT {
                child.kill()?;
                break true;
            }
            std::thread::sleep(LOOK);
        };
        let output = child.wait_with_output()?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if hung {
            text.push_str(&format!("seed {seed}: FAILED: hung for {} s\n", LIMIT.as_secs()));
        }
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            errors.lines().take(5).for_each(|line| text.push_str(&format!("seed {seed}: {line}\n")));
        }
        Ok((output.status.success(), text))
    };
    run().unwrap_or_else(|error| (false, format!("seed {seed}: FAILED: cannot run: {error}\n")))
}

/// Runs the seeds and prints what became of them.
pub fn run(options: &Options) -> ExitCode {
    let jobs = options.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, end) = (AtomicU64::new(options.first), options.first.saturating_add(options.seeds));
    let tally = Mutex::new(Tally::default());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let (good, text) = child(seed);
                    tally_one(&mut tally.lock(), seed, good, &text, options.seeds, begun);
                }
            });
        }
    });
    let tally = tally.into_inner();
    println!(
        "{} requests, {} met a fault; {:.0} simulated hours in {:.0} s",
        tally.requests,
        tally.faults,
        tally.seconds / 3600.0,
        begun.elapsed().as_secs_f64()
    );
    println!("{} seeds, {} failed", tally.done, tally.failed.len());
    ExitCode::from(u8::from(!tally.failed.is_empty()))
}

fn tally_one(tally: &mut Tally, seed: u64, good: bool, text: &str, all: u64, begun: Instant) {
    tally.done += 1;
    text.lines().next().into_iter().for_each(|line| tally.add(line));
    if !good {
        tally.failed.push(seed);
        print!("{text}");
        println!("  replay: cargo run --release -p sim -- --seed {seed} --trace");
    }
    if tally.done.is_multiple_of(50) || tally.done == all {
        println!(
            "{} of {all} seeds, {} failed, {:.0} s",
            tally.done,
            tally.failed.len(),
            begun.elapsed().as_secs_f64()
        );
    }
    // Nobody to print to is no reason to stop.
    let _ = std::io::stdout().flush();
}
