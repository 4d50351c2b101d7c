//! The specification's runtime side: a chain of plugins as one operation.
//!
//! ADD goes forward and hands each plugin the result before it; CHECK goes forward and DEL backward, both with the
//! cached final result. The caller takes care that one attachment sees one operation at a time.

use crate::cache::{Cache, Entry};
use crate::conf::{NetworkList, PluginConf};
use crate::error::{Error, Result, code};
use crate::plugins::{self, Command, Conf, Invocation};
use crate::result::CniResult;
use crate::{exec, version};
use base64::Engine;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Where programs and the cache are.
#[derive(Debug, Clone)]
pub struct Cni {
    /// Directories of external plugins.
    pub bin_dirs: Vec<PathBuf>,
    /// Attachments.
    pub cache: Cache,
    /// Whether names that are built in are called in process.
    pub built_in: bool,
}

/// A container's interface in a network.
#[derive(Debug, Clone, Default)]
pub struct Attachment {
    /// The container's id.
    pub container_id: String,
    /// Its namespace; unset only for DEL.
    pub netns: Option<PathBuf>,
    /// The interface's name.
    pub ifname: String,
    /// `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// Values for capabilities; a plugin gets those it declares.
    pub capabilities: Map<String, Value>,
}

impl Cni {
    /// Programs in `bin_dirs`, cache below `state_dir`.
    pub fn new(bin_dirs: Vec<PathBuf>, state_dir: &Path) -> Self {
        Self { bin_dirs, cache: Cache::new(state_dir), built_in: true }
    }

    /// Attaches: every plugin in order. On an error nothing is undone here; the caller calls [`Cni::del`], as the
    /// specification wants.
    ///
    /// # Errors
    /// The failing plugin's.
    pub fn add(&self, list: &NetworkList, attachment: &Attachment) -> Result<CniResult> {
        validate(attachment, true)?;
        let mut previous: Option<Value> = None;
        for plugin in &list.plugins {
            let config = self.config(list, plugin, attachment, previous.as_ref());
            let answer = self.call(Command::Add, list, plugin, attachment, config)?;
            previous = Some(
                answer.ok_or_else(|| Error::new(code::DECODING, format!("plugin {} gave no result", plugin.kind)))?,
            );
        }
        let value = previous.unwrap_or_else(|| json!({}));
        let result = CniResult::from_json(&value, &list.cni_version)?;
        self.cache.put(Entry {
            kind: String::new(),
            container_id: attachment.container_id.clone(),
            config: base64::engine::general_purpose::STANDARD.encode(list.to_json().to_string()),
            if_name: attachment.ifname.clone(),
            network_name: list.name.clone(),
            netns: attachment.netns.as_ref().map(|p| p.display().to_string()).unwrap_or_default(),
            cni_args: attachment.args.clone(),
            capability_args: Value::Object(attachment.capabilities.clone()),
            result: value,
        })?;
        Ok(result)
    }

    /// Detaches: every plugin in reverse, with the cached result from 0.4.0 on; the cache forgets it at the end.
    ///
    /// # Errors
    /// The first failing plugin's; later ones are then not called.
    pub fn del(&self, list: &NetworkList, attachment: &Attachment) -> Result<()> {
        validate(attachment, false)?;
        let cached = self.cache.get(&list.name, &attachment.container_id, &attachment.ifname)?;
        let mut attachment = attachment.clone();
        if let Some(Value::Object(capabilities)) = cached.as_ref().map(|c| &c.capability_args)
            && attachment.capabilities.is_empty()
        {
            attachment.capabilities = capabilities.clone();
        }
        let previous = cached.map(|c| c.result).filter(|_| version::at_least(&list.cni_version, "0.4.0"));
        for plugin in list.plugins.iter().rev() {
            let config = self.config(list, plugin, &attachment, previous.as_ref());
            self.call(Command::Del, list, plugin, &attachment, config)?;
        }
        self.cache.remove(&list.name, &attachment.container_id, &attachment.ifname)
    }

    /// Asks every plugin whether the attachment is as it was made.
    ///
    /// # Errors
    /// The first failing plugin's; also when nothing is cached or the version is below 0.4.0.
    pub fn check(&self, list: &NetworkList, attachment: &Attachment) -> Result<()> {
        if !version::at_least(&list.cni_version, "0.4.0") {
            return Err(Error::config(format!(
                "configuration version \"{}\" does not support CHECK",
                list.cni_version
            )));
        }
        if list.disable_check {
            return Ok(());
        }
        validate(attachment, true)?;
        let cached = self.cache.get(&list.name, &attachment.container_id, &attachment.ifname)?;
        let previous = cached
            .map(|c| c.result)
            .ok_or_else(|| Error::new(code::UNKNOWN_CONTAINER, "no cached result for this attachment"))?;
        for plugin in &list.plugins {
            let config = self.config(list, plugin, attachment, Some(&previous));
            self.call(Command::Check, list, plugin, attachment, config)?;
        }
        Ok(())
    }

    /// Removes what belongs to no attachment of `valid` (container id and interface): first the cached ones by DEL,
    /// then each plugin's own leftovers by GC.
    ///
    /// # Errors
    /// The first one, after everything was tried.
    pub fn gc(&self, list: &NetworkList, valid: &[(String, String)]) -> Result<()> {
        let mut first = None;
        for entry in self.cache.list(&list.name)? {
            if valid.iter().any(|(id, ifname)| *id == entry.container_id && *ifname == entry.if_name) {
                continue;
            }
            let stale = Attachment {
                container_id: entry.container_id,
                netns: Some(PathBuf::from(&entry.netns)).filter(|p| p.exists()),
                ifname: entry.if_name,
                args: entry.cni_args,
                capabilities: entry.capability_args.as_object().cloned().unwrap_or_default(),
            };
            if let Err(e) = self.del(list, &stale) {
                first.get_or_insert(e);
            }
        }
        if !list.disable_gc && version::at_least(&list.cni_version, "1.1.0") {
            let attachments: Vec<Value> =
                valid.iter().map(|(id, ifname)| json!({"containerID": id, "ifname": ifname})).collect();
            for plugin in &list.plugins {
                let nobody = Attachment::default();
                let mut config = self.config(list, plugin, &nobody, None);
                config.insert("cni.dev/valid-attachments".into(), attachments.clone().into());
                config.insert("cni.dev/attachments".into(), attachments.clone().into());
                if let Err(e) = self.call(Command::Gc, list, plugin, &nobody, config) {
                    first.get_or_insert(e);
                }
            }
        }
        first.map_or(Ok(()), Err)
    }

    /// Whether additions would work now; before 1.1.0 only whether all plugins are there.
    ///
    /// # Errors
    /// The first plugin's.
    pub fn status(&self, list: &NetworkList) -> Result<()> {
        for plugin in &list.plugins {
            if !(self.built_in && plugins::find(&plugin.kind).is_some()) {
                exec::find(&plugin.kind, &self.bin_dirs)?;
            }
            if version::at_least(&list.cni_version, "1.1.0") {
                let nobody = Attachment::default();
                let config = self.config(list, plugin, &nobody, None);
                self.call(Command::Status, list, plugin, &nobody, config)?;
            }
        }
        Ok(())
    }

    /// The plugin's configuration with what the runtime adds.
    fn config(
        &self,
        list: &NetworkList,
        plugin: &PluginConf,
        attachment: &Attachment,
        previous: Option<&Value>,
    ) -> Map<String, Value> {
        let mut body = plugin.body.clone();
        body.insert("name".into(), list.name.clone().into());
        body.insert("cniVersion".into(), list.cni_version.clone().into());
        let wanted: Map<String, Value> = attachment
            .capabilities
            .iter()
            .filter(|(name, _)| plugin.has_capability(name))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if !wanted.is_empty() {
            body.insert("runtimeConfig".into(), Value::Object(wanted));
        }
        if let Some(previous) = previous {
            body.insert("prevResult".into(), previous.clone());
        }
        body
    }

    fn call(
        &self,
        command: Command,
        list: &NetworkList,
        plugin: &PluginConf,
        attachment: &Attachment,
        config: Map<String, Value>,
    ) -> Result<Option<Value>> {
        let invocation = Invocation {
            command,
            container_id: attachment.container_id.clone(),
            netns: attachment.netns.clone(),
            ifname: attachment.ifname.clone(),
            args: attachment.args.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(";"),
            path: self.bin_dirs.clone(),
            built_in: self.built_in,
        };
        let answer = if let (true, Some(built_in)) = (self.built_in, plugins::find(&plugin.kind)) {
            plugins::call(built_in, &invocation, &Conf::new(config)?)
        } else {
            let program = exec::find(&plugin.kind, &self.bin_dirs)?;
            exec::run(&program, &invocation, &Value::Object(config))
        };
        answer.map_err(|e| Error {
            code: e.code,
            msg: format!(
                "plugin type=\"{}\" name=\"{}\" failed ({})",
                plugin.kind,
                list.name,
                command.name().to_lowercase()
            ),
            source: Some(Box::new(e)),
        })
    }
}

fn validate(attachment: &Attachment, netns: bool) -> Result<()> {
    plugins::validate_names(&attachment.container_id, &attachment.ifname)?;
    if netns && attachment.netns.is_none() {
        return Err(Error::new(code::INVALID_NETNS, "no network namespace given"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
