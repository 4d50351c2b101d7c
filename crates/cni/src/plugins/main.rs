//! A built-in plugin as an executable: environment and standard input in, standard output and exit code out.

use super::{Command, Conf, Invocation, Plugin, call, find, validate_names};
use crate::error::{Error, Result, code};
use crate::version;
use serde_json::{Map, Value, json};
use std::io::{Read, Write};
use std::path::PathBuf;

/// Acts as the plugin executable `name`; the answer is the process's exit code. `None` when no such plugin is
/// built in, so that the caller can say so in its own way.
pub fn main(name: &str) -> Option<i32> {
    let plugin = find(name)?;
    let mut input = String::new();
    let read = std::io::stdin().read_to_string(&mut input);
    let (text, code) = match read {
        Ok(_) => main_with(plugin, |key| std::env::var(key).ok(), &input),
        Err(e) => (Error::new(code::IO, e.to_string()).to_json(version::CURRENT).to_string(), 1),
    };
    // When the runtime has gone, nobody is left to hear of it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Some(code)
}

/// The same with the environment and the input given: output and exit code.
pub fn main_with(plugin: &dyn Plugin, env: impl Fn(&str) -> Option<String>, input: &str) -> (String, i32) {
    let spoken = serde_json::from_str::<Value>(input).ok();
    let version =
        spoken.as_ref().and_then(|v| v.get("cniVersion")).and_then(Value::as_str).unwrap_or(version::ABSENT).to_owned();
    match answer(plugin, env, spoken) {
        Ok(Some(value)) => (value.to_string(), 0),
        Ok(None) => (String::new(), 0),
        Err(error) => (error.to_json(&version).to_string(), 1),
    }
}

fn answer(plugin: &dyn Plugin, env: impl Fn(&str) -> Option<String>, input: Option<Value>) -> Result<Option<Value>> {
    let text = |key: &str| env(key).unwrap_or_default();
    let command = match text("CNI_COMMAND").as_str() {
        "ADD" => Command::Add,
        "DEL" => Command::Del,
        "CHECK" => Command::Check,
        "GC" => Command::Gc,
        "STATUS" => Command::Status,
        "VERSION" => {
            return Ok(Some(json!({ "cniVersion": version::CURRENT, "supportedVersions": version::SUPPORTED })));
        }
        "" => return Err(Error::new(code::INVALID_ENVIRONMENT, "required env variables [CNI_COMMAND] missing")),
        other => return Err(Error::new(code::INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND: {other}"))),
    };
    let Some(Value::Object(body)) = input else {
        return Err(Error::new(code::DECODING, "error unmarshall network config"));
    };
    let conf = Conf::new(Map::clone(&body))?;
    let invocation = Invocation {
        command,
        container_id: text("CNI_CONTAINERID"),
        netns: env("CNI_NETNS").filter(|v| !v.is_empty()).map(PathBuf::from),
        ifname: text("CNI_IFNAME"),
        args: text("CNI_ARGS"),
        path: env("CNI_PATH").map(|v| std::env::split_paths(&v).collect()).unwrap_or_default(),
        built_in: true,
    };
    if !matches!(command, Command::Gc | Command::Status) {
        validate_names(&invocation.container_id, &invocation.ifname)?;
    }
    call(plugin, &invocation, &conf)
}
