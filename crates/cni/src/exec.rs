//! Plugins as programs: environment and configuration in, result or error out.

use crate::error::{Error, Result, code};
use crate::plugins::Invocation;
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program of this name in the first directory that has it.
///
/// # Errors
/// When none has, or the name is a path.
pub fn find(name: &str, dirs: &[PathBuf]) -> Result<PathBuf> {
    if name.is_empty() || name.contains('/') {
        return Err(Error::config(format!("invalid plugin name: \"{name}\"")));
    }
    dirs.iter()
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::new(code::INTERNAL, format!("failed to find plugin \"{name}\" in path {dirs:?}")))
}

/// Runs the program; its standard output is the answer, empty for commands without one.
///
/// # Errors
/// The plugin's own error object, or words on how it died.
pub fn run(program: &Path, invocation: &Invocation, config: &Value) -> Result<Option<Value>> {
    let path = std::env::join_paths(&invocation.path).map_err(|e| Error::internal("CNI_PATH", e))?;
    let mut command = Command::new(program);
    command
        .env("CNI_COMMAND", invocation.command.name())
        .env("CNI_CONTAINERID", &invocation.container_id)
        .env("CNI_NETNS", invocation.netns.as_deref().unwrap_or(Path::new("")))
        .env("CNI_IFNAME", &invocation.ifname)
        .env("CNI_ARGS", &invocation.args)
        .env("CNI_PATH", path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| Error::io(program, e))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A plugin that does not read its configuration closes the pipe: its answer tells more than our EPIPE.
        let _ = stdin.write_all(config.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(|e| Error::io(program, e))?;
    let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    if output.status.success() {
        if answer.is_none() && !output.stdout.iter().all(u8::is_ascii_whitespace) {
            return Err(Error::new(code::DECODING, format!("plugin {} printed no JSON", program.display())));
        }
        return Ok(answer);
    }
    if let Some(error) = answer.as_ref().and_then(Error::from_json) {
        return Err(error);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let tail = stderr.trim().chars().take(400).collect::<String>();
    Err(Error::new(code::INTERNAL, format!("plugin {} failed ({}): {tail}", program.display(), output.status)))
}
