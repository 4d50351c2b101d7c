//! kubectl against one server.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What a command has said.
pub struct Said {
    /// Whether it succeeded.
    pub worked: bool,
    /// Both of its streams.
    pub text: String,
}

/// The program and whom it talks to.
pub struct Kubectl {
    /// The program.
    pub program: PathBuf,
    /// Its configuration.
    pub kubeconfig: PathBuf,
}

impl Kubectl {
    /// Runs it with an object on its standard input.
    ///
    /// # Errors
    /// It does not start.
    pub fn kubectl(&self, words: &[&str], input: &Value) -> Result<Said> {
        let mut command = Command::new(&self.program);
        command.args(words).env("KUBECONFIG", &self.kubeconfig);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start kubectl")?;
        // One that reads nothing closes the pipe early.
        let _ = child.stdin.take().context("no pipe")?.write_all(input.to_string().as_bytes());
        let output = child.wait_with_output().context("wait for kubectl")?;
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        Ok(Said { worked: output.status.success(), text })
    }

    /// As [`Kubectl::kubectl`]; it has to succeed.
    ///
    /// # Errors
    /// It does not.
    pub fn ok(&self, words: &[&str], input: &Value) -> Result<String> {
        let said = self.kubectl(words, input)?;
        ensure!(said.worked, "kubectl {}: {}", words.join(" "), said.text);
        Ok(said.text)
    }

    /// As [`Kubectl::kubectl`]; it has to fail.
    ///
    /// # Errors
    /// It does not.
    pub fn fails(&self, words: &[&str], input: &Value) -> Result<String> {
        let said = self.kubectl(words, input)?;
        ensure!(!said.worked, "kubectl {} succeeded: {}", words.join(" "), said.text);
        Ok(said.text)
    }

    /// An object, or a list of them.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, words: &[&str]) -> Result<Value> {
        let words = [&["get", "-o", "json"], words].concat();
        serde_json::from_str(&self.ok(&words, &Value::Null)?).context("parse")
    }
}
