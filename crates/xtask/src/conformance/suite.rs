//! Running upstream's suite: with ginkgo's command in several processes, or by `e2e.test` alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::signal::unix::{SignalKind, signal};

/// Longest run of one part; the slowest upstream tests take minutes each.
const TIMEOUT: &str = "6h";

/// The suite's programs and the cluster that it talks to.
pub(super) struct Suite {
    pub(super) e2e_test: PathBuf,
    pub(super) ginkgo: Option<PathBuf>,
    pub(super) kubectl: Option<PathBuf>,
    pub(super) kubeconfig: PathBuf,
    pub(super) out: PathBuf,
}

impl Suite {
    /// Runs the tests that are not `[Serial]`; gives ginkgo's JSON report.
    pub(super) fn run_parallel(&self, focus: &[String], skip: &[String], procs: usize) -> Result<PathBuf> {
        let labels = "Conformance && !Serial";
        let report = self.out.join("parallel.json");
        match &self.ginkgo {
            Some(ginkgo) => {
                let mut command = Command::new(ginkgo);
                command.arg(format!("--procs={procs}")).args(["--no-color", &format!("--timeout={TIMEOUT}")]);
                select(&mut command, "--", labels, focus, skip);
                command.arg("--output-dir").arg(&self.out).arg("--json-report=parallel.json");
                command.arg(&self.e2e_test).arg("--");
                self.about_cluster(&mut command)?;
                self.finish(command, report)
            }
            None => {
                eprintln!("no ginkgo: the tests run in one process");
                self.run_alone(labels, focus, skip, report)
            }
        }
    }

    /// Runs the tests that are `[Serial]`, one by one.
    pub(super) fn run_serial(&self, focus: &[String], skip: &[String]) -> Result<PathBuf> {
        self.run_alone("Conformance && Serial", focus, skip, self.out.join("serial.json"))
    }

    fn run_alone(&self, labels: &str, focus: &[String], skip: &[String], report: PathBuf) -> Result<PathBuf> {
        let mut command = Command::new(&self.e2e_test);
        self.about_cluster(&mut command)?;
        command.args(["--ginkgo.no-color", &format!("--ginkgo.timeout={TIMEOUT}")]);
        select(&mut command, "--ginkgo.", labels, focus, skip);
        command.arg(format!("--ginkgo.json-report={}", report.display()));
        self.finish(command, report)
    }

    fn about_cluster(&self, command: &mut Command) -> Result<()> {
        let kubeconfig =
            self.kubeconfig.canonicalize().with_context(|| format!("find {}", self.kubeconfig.display()))?;
        command.args(["--provider=skeleton", "--num-nodes=2", "--dump-logs-on-failure=false"]);
        command.arg(format!("--kubeconfig={}", kubeconfig.display()));
        command.env("KUBECONFIG", &kubeconfig);
        if let Some(kubectl) = &self.kubectl {
            command.arg(format!("--kubectl-path={}", kubectl.display()));
        }
        Ok(())
    }

    /// The report counts, not the exit code: failing tests are what we are here to see.
    fn finish(&self, mut command: Command, report: PathBuf) -> Result<PathBuf> {
        remove(&report)?;
        let program = command.get_program().to_owned();
        let log = report.with_extension("log");
        let output = std::fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        eprintln!("running; follow it in {}", log.display());
        command
            .current_dir(&self.out)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("share the log")?)
            .stderr(output);
        let status = run_interruptible(command).with_context(|| format!("run {}", Path::new(&program).display()))?;
        if !report.is_file() {
            let program = Path::new(&program).display();
            bail!("{program} ended without a report ({status}); its output is in {}", log.display());
        }
        Ok(report)
    }
}

/// Runs a command in a process group of its own. An interrupt is passed on, so that the suite ends with a report of what ran,
/// and we go on to show it and to end the cluster.
fn run_interruptible(command: Command) -> Result<std::process::ExitStatus> {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start an executor")?;
    executor.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("catch signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("catch signals")?;
        let mut child = tokio::process::Command::from(command).process_group(0).spawn().context("start it")?;
        loop {
            tokio::select! {
                status = child.wait() => return status.context("wait for it"),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            eprintln!("interrupted: the suite ends the tests that run");
            let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // It may have ended meanwhile.
                let _ = kill_process(pid, Signal::INT);
            }
        }
    })
}

fn remove(report: &Path) -> Result<()> {
    match std::fs::remove_file(report) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", report.display()))
        }
        _ => Ok(()),
    }
}

fn select(command: &mut Command, prefix: &str, labels: &str, focus: &[String], skip: &[String]) {
    command.arg(format!("{prefix}label-filter={labels}"));
    for (flag, expressions) in [("focus", focus), ("skip", skip)] {
        command.args(expressions.iter().map(|e| format!("{prefix}{flag}={e}")));
    }
}
