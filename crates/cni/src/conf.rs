//! Configuration: a list of plugins by name, from files, from a directory or from memory.

use crate::error::{Error, Result, code};
use crate::version;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// One plugin of a list.
#[derive(Debug, Clone)]
pub struct PluginConf {
    /// The plugin's name.
    pub kind: String,
    /// Everything given for it.
    pub body: Map<String, Value>,
}

impl PluginConf {
    fn from_value(value: Value) -> Result<Self> {
        let Value::Object(body) = value else {
            return Err(Error::config("a plugin's configuration must be an object"));
        };
        let kind = body.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
        if kind.is_empty() {
            return Err(Error::config("a plugin's configuration has no `type`"));
        }
        Ok(Self { kind, body })
    }

    /// Whether the plugin declares this capability.
    pub fn has_capability(&self, name: &str) -> bool {
        self.body.get("capabilities").and_then(|c| c.get(name)).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// A network: its plugins in order.
#[derive(Debug, Clone)]
pub struct NetworkList {
    /// The network's name.
    pub name: String,
    /// The version spoken with its plugins.
    pub cni_version: String,
    /// CHECK is not called.
    pub disable_check: bool,
    /// GC is not called.
    pub disable_gc: bool,
    /// The plugins.
    pub plugins: Vec<PluginConf>,
}

fn flag(body: &Map<String, Value>, key: &str) -> Result<bool> {
    match body.get(key) {
        None => Ok(false),
        Some(Value::Bool(b)) => Ok(*b),
        // libcni takes the words too.
        Some(Value::String(s)) if s.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(s)) if s.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(Error::config(format!("error parsing configuration list: invalid {key} value: {other}"))),
    }
}

/// A network's name: letters, digits, `_`, `.`, `-`, beginning with a letter or digit.
fn valid_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// The highest version known on both sides.
fn pick_version(body: &Map<String, Value>) -> Result<String> {
    let one = body.get("cniVersion").and_then(Value::as_str).filter(|v| !v.is_empty());
    let many = body.get("cniVersions").and_then(Value::as_array);
    let mut offered: Vec<&str> = many.into_iter().flatten().filter_map(Value::as_str).chain(one).collect();
    if offered.is_empty() {
        offered.push(version::ABSENT);
    }
    let best = offered.iter().copied().filter(|v| version::is_supported(v)).max_by(|a, b| version::compare(a, b));
    best.map(str::to_owned).ok_or_else(|| {
        let msg =
            format!("incompatible CNI versions: configuration is {offered:?}, supported are {:?}", version::SUPPORTED);
        Error::new(code::INCOMPATIBLE_VERSION, msg)
    })
}

impl NetworkList {
    /// Reads a list (`plugins`), or one plugin's configuration, which becomes a list of one.
    ///
    /// # Errors
    /// When it does not parse, has no plugin, or no common version.
    pub fn parse(text: &str) -> Result<Self> {
        Self::parse_in(text, None)
    }

    fn parse_in(text: &str, dir: Option<&Path>) -> Result<Self> {
        let value: Value = serde_json::from_str(text).map_err(|e| Error {
            code: code::DECODING,
            msg: "error parsing configuration".into(),
            source: Some(e.into()),
        })?;
        let Value::Object(mut body) = value else {
            return Err(Error::config("a network's configuration must be an object"));
        };
        let name = body.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        if !valid_name(&name) {
            return Err(Error::config(format!("error parsing configuration list: invalid network name \"{name}\"")));
        }
        let cni_version = pick_version(&body)?;
        let inlined = body.contains_key("plugins");
        let mut plugins = match body.remove("plugins") {
            Some(Value::Array(list)) => list.into_iter().map(PluginConf::from_value).collect::<Result<Vec<_>>>()?,
            Some(_) => return Err(Error::config("`plugins` must be a list")),
            None => Vec::new(),
        };
        if !inlined && body.contains_key("type") {
            plugins.push(PluginConf::from_value(Value::Object(body.clone()))?);
        } else if let Some(dir) = dir
            && !flag(&body, "loadOnlyInlinedPlugins")?
        {
            plugins.extend(extra_plugins(&dir.join(&name))?);
        }
        if plugins.is_empty() {
            return Err(Error::config("error parsing configuration list: no plugins in list"));
        }
        let (disable_check, disable_gc) = (flag(&body, "disableCheck")?, flag(&body, "disableGC")?);
        Ok(Self { name, cni_version, disable_check, disable_gc, plugins })
    }

    /// Reads a file: `.conflist` as a list, `.conf` and `.json` as one plugin.
    ///
    /// # Errors
    /// As [`NetworkList::parse`], and when the file cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|e| Error::io(path, e))?;
        Self::parse_in(&text, path.parent())
    }

    /// The list as JSON, for the cache.
    pub fn to_json(&self) -> Value {
        json!({
            "cniVersion": self.cni_version,
            "name": self.name,
            "disableCheck": self.disable_check,
            "disableGC": self.disable_gc,
            "plugins": self.plugins.iter().map(|p| Value::Object(p.body.clone())).collect::<Vec<_>>(),
        })
    }
}

/// Plugins of `<dir>/<network>/*.conf`, appended to a list that allows it.
fn extra_plugins(dir: &Path) -> Result<Vec<PluginConf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let mut out = Vec::new();
    for path in config_files(dir, &["conf"])? {
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io(&path, e))?;
        let value = serde_json::from_str(&text).map_err(|e| Error::internal(path.display().to_string(), e))?;
        out.push(PluginConf::from_value(value)?);
    }
    Ok(out)
}

fn config_files(dir: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        let wanted = path.extension().and_then(|e| e.to_str()).is_some_and(|e| extensions.contains(&e));
        if wanted && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The first good configuration of a directory, in the order of names; broken ones are skipped with a warning, as the
/// kubelet's own scan did. `None` when there is none.
///
/// # Errors
/// When the directory is there but cannot be read.
pub fn scan(dir: &Path) -> Result<Option<NetworkList>> {
    if !dir.exists() {
        return Ok(None);
    }
    for path in config_files(dir, &["conf", "conflist", "json"])? {
        match NetworkList::load(&path) {
            Ok(list) => return Ok(Some(list)),
            Err(error) => tracing::warn!(path = %path.display(), error = error.chain(), "skipped a CNI configuration"),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_single_configurations() {
        let list = NetworkList::parse(r#"{"name":"n","cniVersion":"1.0.0","cniVersions":["0.4.0","1.1.0","9.9.9"],"disableCheck":"true","plugins":[{"type":"bridge","capabilities":{"ips":true}}]}"#).unwrap();
        assert_eq!((list.cni_version.as_str(), list.disable_check, list.plugins.len()), ("1.1.0", true, 1));
        assert!(list.plugins[0].has_capability("ips") && !list.plugins[0].has_capability("mac"));
        let one = NetworkList::parse(r#"{"name":"n","cniVersion":"0.4.0","type":"ptp"}"#).unwrap();
        assert_eq!(one.plugins[0].kind, "ptp");
    }

    #[test]
    fn bad_ones_say_why() {
        for (text, words) in [
            ("[]", "must be an object"),
            ("{", "error parsing configuration"),
            (r#"{"name":"a b","cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#, "invalid network name"),
            (r#"{"name":"n","cniVersion":"1.0.0","plugins":[]}"#, "no plugins in list"),
            (r#"{"name":"n","cniVersion":"1.0.0","plugins":[{}]}"#, "no `type`"),
            (r#"{"name":"n","plugins":[{"type":"x"}]}"#, "incompatible CNI versions"),
            (r#"{"name":"n","cniVersion":"1.0.0","disableGC":3,"plugins":[{"type":"x"}]}"#, "invalid disableGC value"),
        ] {
            let error = NetworkList::parse(text).unwrap_err();
            assert!(error.msg.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn the_first_good_file_wins_and_a_network_directory_adds_plugins() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        assert!(scan(dir.path()).unwrap().is_none());
        write("00-broken.conflist", "{");
        write("10-net.conflist", r#"{"name":"net","cniVersion":"1.1.0","plugins":[{"type":"bridge"}]}"#);
        write("20-late.conf", r#"{"name":"late","cniVersion":"1.1.0","type":"ptp"}"#);
        std::fs::create_dir(dir.path().join("net")).unwrap();
        write("net/a.conf", r#"{"type":"tuning"}"#);
        let list = scan(dir.path()).unwrap().unwrap();
        assert_eq!(list.plugins.iter().map(|p| p.kind.as_str()).collect::<Vec<_>>(), ["bridge", "tuning"]);
    }
}
