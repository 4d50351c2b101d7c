//! Address management as a delegate: the plugin that `ipam.type` names.

use super::{Command, Conf, Invocation, call, find};
use crate::error::{Error, Result};
use crate::exec;
use crate::result::CniResult;
use serde_json::Value;

/// The delegate's name; empty when the configuration has none.
pub fn kind(conf: &Conf) -> &str {
    conf.body.get("ipam").and_then(|i| i.get("type")).and_then(Value::as_str).unwrap_or_default()
}

fn delegate(command: Command, invocation: &Invocation, conf: &Conf) -> Result<Option<Value>> {
    let name = kind(conf);
    let invocation = Invocation { command, ..invocation.clone() };
    if let (true, Some(plugin)) = (invocation.built_in, find(name)) {
        return call(plugin, &invocation, conf);
    }
    let program = exec::find(name, &invocation.path)?;
    exec::run(&program, &invocation, &Value::Object(conf.body.clone()))
}

/// Allocates.
pub fn add(invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
    let value = delegate(Command::Add, invocation, conf)?.unwrap_or(Value::Null);
    let result = CniResult::from_json(&value, &conf.version)?;
    if result.ips.is_empty() {
        return Err(Error::config("IPAM plugin returned missing IP config"));
    }
    Ok(result)
}

/// Gives back.
pub fn del(invocation: &Invocation, conf: &Conf) -> Result<()> {
    if kind(conf).is_empty() {
        return Ok(());
    }
    delegate(Command::Del, invocation, conf).map(drop)
}

/// Checks.
pub fn check(invocation: &Invocation, conf: &Conf) -> Result<()> {
    if kind(conf).is_empty() {
        return Ok(());
    }
    delegate(Command::Check, invocation, conf).map(drop)
}

/// Collects leftovers.
pub fn gc(invocation: &Invocation, conf: &Conf) -> Result<()> {
    if kind(conf).is_empty() {
        return Ok(());
    }
    delegate(Command::Gc, invocation, conf).map(drop)
}

/// Whether it could allocate.
pub fn status(invocation: &Invocation, conf: &Conf) -> Result<()> {
    if kind(conf).is_empty() {
        return Ok(());
    }
    delegate(Command::Status, invocation, conf).map(drop)
}
