//! The configuration file: `apiserver.config.k8s.io/v1 EncryptionConfiguration`, or the old `v1 EncryptionConfig`.
//!
//! Strict, as upstream: an unknown field is an error, and so is everything that would silently not be sealed.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use meta::GroupResource;
use registry::SealError;
use serde::Deserialize;

const KMS_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a configuration is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is no YAML of the wanted shape.
    #[error("error while parsing file: error decoding encryption provider configuration")]
    Parse(#[source] serde_yaml_ng::Error),
    /// It is of another kind.
    #[error("error while parsing file: no kind {kind:?} is registered for version {version:?}")]
    Kind {
        /// The kind found.
        kind: String,
        /// The apiVersion found.
        version: String,
    },
    /// Something in it is wrong; all problems, joined.
    #[error("error while parsing file: invalid configuration: {0}")]
    Invalid(String),
    /// A rule can never apply.
    #[error("error while building transformers: resource {resource:?} is masked by earlier rule {rule:?}")]
    Masked {
        /// The resource that is masked.
        resource: String,
        /// The rule before it.
        rule: String,
    },
    /// A key cannot be used.
    #[error("error while building transformers")]
    Cipher(#[source] SealError),
    /// A key service's endpoint cannot be used.
    #[error("error while building transformers: could not configure KMSv2-Plugin's probe {name:?}: {message}")]
    Service {
        /// The provider's name.
        name: String,
        /// Why.
        message: String,
    },
}

/// A named key.
#[derive(Clone)]
pub struct Key {
    /// Its name, part of what it seals.
    pub name: String,
    /// The key itself.
    pub secret: Vec<u8>,
}

/// A key service.
#[derive(Debug, Clone)]
pub struct KmsSettings {
    /// The provider's name, part of what it seals.
    pub name: String,
    /// Path of its socket.
    pub socket: String,
    /// How long a call may take.
    pub timeout: Duration,
}

/// A provider.
#[derive(Clone)]
pub enum Provider {
    /// As it is.
    Identity,
    /// AES-GCM.
    AesGcm(Vec<Key>),
    /// AES-CBC.
    AesCbc(Vec<Key>),
    /// NaCl's secret box.
    Secretbox(Vec<Key>),
    /// A key service, version 2.
    Kms(KmsSettings),
}

/// Providers of some resources.
pub struct Rule {
    /// The resources; `*` for all of a group, and for all groups.
    pub resources: Vec<GroupResource>,
    /// Providers; the first one seals.
    pub providers: Vec<Provider>,
}

/// A checked configuration.
pub struct Configuration {
    /// Its rules.
    pub rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<FileRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRule {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<FileProvider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileProvider {
    aesgcm: Option<FileKeys>,
    aescbc: Option<FileKeys>,
    secretbox: Option<FileKeys>,
    identity: Option<Empty>,
    kms: Option<FileKms>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKeys {
    #[serde(default)]
    keys: Vec<FileKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct FileKms {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    name: String,
    cachesize: Option<i64>,
    #[serde(default)]
    endpoint: String,
    timeout: Option<String>,
}

/// Reads a configuration.
///
/// # Errors
/// See [`ConfigError`].
pub fn parse(text: &str) -> Result<Configuration, ConfigError> {
    let file: File = serde_yaml_ng::from_str(text).map_err(ConfigError::Parse)?;
    let known = matches!(
        (file.api_version.as_str(), file.kind.as_str()),
        ("apiserver.config.k8s.io/v1", "EncryptionConfiguration") | ("v1", "EncryptionConfig")
    );
    if !known {
        return Err(ConfigError::Kind { kind: file.kind, version: file.api_version });
    }
    let mut wrong = Vec::new();
    let mut names = BTreeSet::new();
    if file.resources.is_empty() {
        wrong.push("resources: Required value: at least one resources is required".to_owned());
    }
    let mut rules = Vec::new();
    for (i, rule) in file.resources.iter().enumerate() {
        let at = format!("resources[{i}].resources");
        if rule.resources.is_empty() {
            wrong.push(format!("{at}: Required value: at least one {at} is required"));
        }
        let resources: Vec<GroupResource> = rule.resources.iter().map(|r| group_resource(r)).collect();
        check_overlap(&resources, &rule.resources, &at, &mut wrong);
        rule.resources.iter().enumerate().for_each(|(j, name)| check_name(name, &format!("{at}[{j}]"), &mut wrong));
        let at = format!("resources[{i}].providers");
        if rule.providers.is_empty() {
            wrong.push(format!("{at}: Required value: at least one {at} is required"));
        }
        let each = rule.providers.iter().enumerate();
        let providers = each.filter_map(|(j, p)| provider(p, &format!("{at}[{j}]"), &mut names, &mut wrong)).collect();
        rules.push(Rule { resources, providers });
    }
    match wrong.len() {
        0 => Ok(Configuration { rules }),
        1 => Err(ConfigError::Invalid(wrong.remove(0))),
        _ => Err(ConfigError::Invalid(format!("[{}]", wrong.join(", ")))),
    }
}

/// `deployments.apps`, `secrets`, `*.`, `*.apps`, `*.*`.
fn group_resource(text: &str) -> GroupResource {
    let (resource, group) = text.split_once('.').unwrap_or((text, ""));
    GroupResource::new(group, resource)
}

/// A resource as a configuration names it.
pub(crate) fn shown(resource: &GroupResource) -> String {
    match (resource.resource.as_str(), resource.group.as_str()) {
        ("*", "") => "*.".to_owned(),
        (name, "") => name.to_owned(),
        (name, group) => format!("{name}.{group}"),
    }
}

fn check_overlap(resources: &[GroupResource], given: &[String], at: &str, wrong: &mut Vec<String>) {
    let pairs = || {
        let indexed = resources.iter().enumerate();
        indexed.flat_map(|(i, a)| resources.iter().enumerate().filter(move |(j, _)| i != *j).map(move |(_, b)| (a, b)))
    };
    let any = |r: &GroupResource| r.group == "*" && r.resource == "*";
    if pairs().any(|(a, b)| a == b) {
        wrong.push(format!("{at}: Invalid value: {given:?}: the same resource cannot be specified multiple times"));
    }
    let covers = |a: &GroupResource, b: &GroupResource| {
        a != b && (any(a) || (a.group == b.group && (a.resource == "*" || b.resource == "*")))
    };
    if pairs().any(|(a, b)| covers(a, b)) {
        wrong.push(format!(
            "{at}: Invalid value: {given:?}: using overlapping resources such as 'secrets' and '*.' in the same resource \
             list is not allowed as they will be masked"
        ));
    }
}

fn check_name(name: &str, at: &str, wrong: &mut Vec<String>) {
    let resource = group_resource(name);
    let problem = if name.chars().any(char::is_uppercase) {
        "resource name should not contain capital letters"
    } else if name == "*" {
        "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    } else if matches!(name, "apiserveripinfo" | "serviceipallocations" | "servicenodeportallocations") {
        "resources which do not have REST API/s cannot be encrypted"
    } else if resource.group == "events.k8s.io" {
        "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config file"
    } else if resource.group == "extensions" {
        "'extensions' group has been removed and cannot be used for encryption"
    } else if resource.group == "*" && resource.resource != "*" {
        "encrypting the same resource across groups is not supported"
    } else {
        return;
    };
    wrong.push(format!("{at}: Invalid value: {name:?}: {problem}"));
}

fn provider(given: &FileProvider, at: &str, names: &mut BTreeSet<String>, wrong: &mut Vec<String>) -> Option<Provider> {
    let found = [
        given.aesgcm.is_some(),
        given.aescbc.is_some(),
        given.secretbox.is_some(),
        given.identity.is_some(),
        given.kms.is_some(),
    ];
    match found.iter().filter(|is| **is).count() {
        1 => {}
        0 => {
            wrong.push(format!(
                "{at}: Invalid value: provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, \
                 Secretbox, Identity"
            ));
            return None;
        }
        _ => {
            wrong.push(format!(
                "{at}: Invalid value: more than one provider specified in a single element, should split into different \
                 list elements"
            ));
            return None;
        }
    }
    const AES: &[usize] = &[16, 24, 32];
    if let Some(given) = &given.aesgcm {
        return keys(given, &format!("{at}.aesgcm.keys"), AES, wrong).map(Provider::AesGcm);
    }
    if let Some(given) = &given.aescbc {
        return keys(given, &format!("{at}.aescbc.keys"), AES, wrong).map(Provider::AesCbc);
    }
    if let Some(given) = &given.secretbox {
        return keys(given, &format!("{at}.secretbox.keys"), &[32], wrong).map(Provider::Secretbox);
    }
    match &given.kms {
        Some(given) => kms(given, &format!("{at}.kms"), names, wrong).map(Provider::Kms),
        None => Some(Provider::Identity),
    }
}

fn keys(given: &FileKeys, at: &str, lengths: &[usize], wrong: &mut Vec<String>) -> Option<Vec<Key>> {
    let before = wrong.len();
    if given.keys.is_empty() {
        wrong.push(format!("{at}: Required value: at least one keys is required"));
    }
    let mut all = Vec::new();
    for (i, key) in given.keys.iter().enumerate() {
        if key.name.is_empty() {
            wrong.push(format!("{at}[{i}].name: Required value: name is a mandatory field for a key"));
        }
        if key.secret.is_empty() {
            wrong.push(format!("{at}[{i}].secret: Required value: secret is a mandatory field for a key"));
            continue;
        }
        let redacted = format!("{at}[{i}].secret: Invalid value: \"REDACTED\"");
        match base64::engine::general_purpose::STANDARD.decode(&key.secret) {
            Err(_) => wrong.push(format!("{redacted}: secrets must be base64 encoded")),
            Ok(secret) if !lengths.contains(&secret.len()) => {
                let expected: Vec<String> = lengths.iter().map(ToString::to_string).collect();
                wrong.push(format!(
                    "{redacted}: secret is not of the expected length, got {}, expected one of [{}]",
                    secret.len(),
                    expected.join(" ")
                ));
            }
            Ok(secret) => all.push(Key { name: key.name.clone(), secret }),
        }
    }
    (wrong.len() == before).then_some(all)
}

fn kms(given: &FileKms, at: &str, names: &mut BTreeSet<String>, wrong: &mut Vec<String>) -> Option<KmsSettings> {
    let before = wrong.len();
    if given.name.is_empty() {
        wrong.push(format!("{at}.name: Required value: name is a mandatory field for a provider"));
    }
    if given.name.contains(':') {
        let name = &given.name;
        wrong.push(format!(
            "{at}.name: Invalid value: {name:?}: invalid KMS provider name {name}, must not contain ':'"
        ));
    }
    if !names.insert(given.name.clone()) {
        let name = &given.name;
        wrong.push(format!(
            "{at}.name: Invalid value: {name:?}: duplicate KMS provider name {name}, names must be unique"
        ));
    }
    let timeout = match &given.timeout {
        None => Some(KMS_TIMEOUT),
        Some(text) => meta::time::parse_go_duration(text),
    };
    if timeout.is_none_or(|t| t.is_zero()) {
        wrong.push(format!("{at}.timeout: Invalid value: timeout should be a positive value"));
    }
    let socket = given.endpoint.strip_prefix("unix://").map(str::to_owned);
    if given.endpoint.is_empty() {
        wrong.push(format!("{at}.endpoint: Required value: endpoint is a mandatory field for a kms"));
    } else if socket.as_deref().is_none_or(str::is_empty) {
        let scheme = given.endpoint.split_once("://").map_or("", |(scheme, _)| scheme);
        wrong.push(format!(
            "{at}.endpoint: Invalid value: {:?}: unsupported scheme {scheme:?} for KMS provider, only unix is supported",
            given.endpoint
        ));
    }
    match given.api_version.as_str() {
        "v2" if given.cachesize.is_some() => {
            wrong.push(format!("{at}.cachesize: Invalid value: cachesize is not supported in v2"));
        }
        "v2" => {}
        "" | "v1" => wrong.push(format!(
            "{at}.apiVersion: Invalid value: \"v1\": KMSv1 is deprecated upstream and not supported here, use v2"
        )),
        other => wrong.push(format!(
            "{at}.apiVersion: Invalid value: {other:?}: unsupported apiVersion for KMS provider, only v2 is supported"
        )),
    }
    (wrong.len() == before).then(|| KmsSettings {
        name: given.name.clone(),
        socket: socket.unwrap_or_default(),
        timeout: timeout.unwrap_or(KMS_TIMEOUT),
    })
}
