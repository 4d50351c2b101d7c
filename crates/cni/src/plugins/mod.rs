//! The built-in plugins: one file and one row of [`PLUGINS`] each.

mod bandwidth;
mod bridge;
pub mod host_local;
mod ipam;
mod link;
mod loopback;
mod main;
mod masquerade;
mod portmap;
mod ptp;
mod static_ipam;
mod tuning;

pub(crate) use link::no_duplicate_detection;
pub use main::{main, main_with};

use crate::error::{Error, Result, code};
use crate::result::CniResult;
use crate::version;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// Every built-in plugin.
pub static PLUGINS: &[&dyn Plugin] = &[
    &bandwidth::Bandwidth,
    &bridge::Bridge,
    &host_local::HostLocal,
    &loopback::Loopback,
    &portmap::Portmap,
    &ptp::Ptp,
    &static_ipam::Static,
    &tuning::Tuning,
];

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Compare with what was made.
    Check,
    /// Remove leftovers.
    Gc,
    /// Say whether ADD would work.
    Status,
}

impl Command {
    /// `CNI_COMMAND`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }
}

/// The environment of one call.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// `CNI_NETNS`.
    pub netns: Option<PathBuf>,
    /// `CNI_IFNAME`.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// Whether a delegate that is built in is called in process.
    pub built_in: bool,
}

impl Invocation {
    /// The namespace, which every command but DEL needs.
    fn netns(&self) -> Result<&std::path::Path> {
        self.netns
            .as_deref()
            .ok_or_else(|| Error::new(code::INVALID_ENVIRONMENT, "required env variables [CNI_NETNS] missing"))
    }

    /// A value of `CNI_ARGS`.
    fn arg(&self, name: &str) -> Option<&str> {
        self.args.split(';').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == name).map(|(_, v)| v)
    }
}

/// A plugin's configuration.
#[derive(Debug, Clone)]
pub struct Conf {
    /// The network's name.
    pub name: String,
    /// The version to speak.
    pub version: String,
    /// Everything.
    pub body: Map<String, Value>,
}

impl Conf {
    /// Reads the common fields.
    ///
    /// # Errors
    /// When the version is not supported.
    pub fn new(body: Map<String, Value>) -> Result<Self> {
        let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut version = text("cniVersion");
        if version.is_empty() {
            version::ABSENT.clone_into(&mut version);
        }
        if !version::is_supported(&version) {
            let msg =
                format!("incompatible CNI versions: config is \"{version}\", plugin supports {:?}", version::SUPPORTED);
            return Err(Error::new(code::INCOMPATIBLE_VERSION, msg));
        }
        Ok(Self { name: text("name"), version, body })
    }

    /// The plugin's own fields.
    fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.body.clone())).map_err(|e| Error {
            code: code::DECODING,
            msg: "failed to load netconf".into(),
            source: Some(e.into()),
        })
    }

    /// The result of the plugin before.
    fn previous(&self) -> Result<Option<CniResult>> {
        self.body.get("prevResult").filter(|v| !v.is_null()).map(|v| CniResult::from_json(v, &self.version)).transpose()
    }

    /// The result of the plugin before, which a chained plugin needs.
    fn need_previous(&self) -> Result<CniResult> {
        self.previous()?.ok_or_else(|| Error::config("must be called as a chained plugin: prevResult is missing"))
    }

    /// A capability's value.
    fn capability<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        let Some(value) = self.body.get("runtimeConfig").and_then(|r| r.get(name)).filter(|v| !v.is_null()) else {
            return Ok(None);
        };
        serde_json::from_value(value.clone()).map(Some).map_err(|e| Error {
            code: code::DECODING,
            msg: format!("runtimeConfig.{name}"),
            source: Some(e.into()),
        })
    }

    /// A value of `args.cni`.
    fn cni_arg(&self, name: &str) -> Option<&Value> {
        self.body.get("args")?.get("cni")?.get(name)
    }

    /// Attachments that GC must keep.
    fn valid_attachments(&self) -> Vec<(String, String)> {
        let list = ["cni.dev/valid-attachments", "cni.dev/attachments"]
            .iter()
            .find_map(|k| self.body.get(*k).and_then(Value::as_array));
        let text = |v: &Value, key: &str| v.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        list.into_iter().flatten().map(|v| (text(v, "containerID"), text(v, "ifname"))).collect()
    }
}

/// A plugin. All methods are synchronous and idempotent where the specification says so (DEL, GC).
pub trait Plugin: Sync {
    /// `type` in configurations and the executable's name.
    fn name(&self) -> &'static str;

    /// ADD.
    ///
    /// # Errors
    /// Whatever kept it from attaching; it has undone what it did itself.
    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult>;

    /// DEL; succeeds where nothing is left.
    ///
    /// # Errors
    /// When something is left and could not be removed.
    fn del(&self, invocation: &Invocation, conf: &Conf) -> Result<()>;

    /// CHECK.
    ///
    /// # Errors
    /// What differs.
    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()>;

    /// GC.
    ///
    /// # Errors
    /// When something stale could not be removed.
    fn gc(&self, _invocation: &Invocation, _conf: &Conf) -> Result<()> {
        Ok(())
    }

    /// STATUS.
    ///
    /// # Errors
    /// Why ADD would fail.
    fn status(&self, _invocation: &Invocation, _conf: &Conf) -> Result<()> {
        Ok(())
    }
}

/// The built-in plugin of this name.
pub fn find(name: &str) -> Option<&'static dyn Plugin> {
    PLUGINS.iter().copied().find(|p| p.name() == name)
}

/// Calls a plugin as the invocation says; ADD answers with the result in the configuration's version.
///
/// # Errors
/// The plugin's.
pub fn call(plugin: &dyn Plugin, invocation: &Invocation, conf: &Conf) -> Result<Option<Value>> {
    match invocation.command {
        Command::Add => {
            invocation.netns()?;
            plugin.add(invocation, conf).map(|result| Some(result.to_json(&conf.version)))
        }
        Command::Del => plugin.del(invocation, conf).map(|()| None),
        Command::Check => {
            invocation.netns()?;
            plugin.check(invocation, conf).map(|()| None)
        }
        Command::Gc => plugin.gc(invocation, conf).map(|()| None),
        Command::Status => plugin.status(invocation, conf).map(|()| None),
    }
}

/// libcni's rules for ids and interface names.
pub(crate) fn validate_names(container_id: &str, ifname: &str) -> Result<()> {
    let id_ok = container_id.starts_with(|c: char| c.is_ascii_alphanumeric())
        && container_id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if !id_ok {
        return Err(Error::new(
            code::INVALID_ENVIRONMENT,
            format!("invalid characters in containerID \"{container_id}\""),
        ));
    }
    let bad = ifname.is_empty()
        || ifname.len() > 15
        || ifname == "."
        || ifname == ".."
        || ifname.contains(|c: char| c == '/' || c == ':' || c.is_whitespace());
    if bad {
        return Err(Error::new(code::INVALID_ENVIRONMENT, format!("invalid interface name \"{ifname}\"")));
    }
    Ok(())
}
