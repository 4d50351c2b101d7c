//! Options of lists and watches, and the continue token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meta::selector::{FieldSelector, LabelSelector};
use meta::{GroupVersionKind, Status, field};
use serde::{Deserialize, Serialize};

/// `resourceVersionMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VersionMatch {
    /// Not given.
    #[default]
    Unset,
    /// `Exact`
    Exact,
    /// `NotOlderThan`
    NotOlderThan,
}

/// What a list or watch asks for.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Namespace, empty for all.
    pub namespace: String,
    /// Label selector.
    pub labels: LabelSelector,
    /// Field selector.
    pub fields: FieldSelector,
    /// The version in whose form fields are looked at, for custom resources of several versions: their fields differ.
    pub fields_at: Option<GroupVersionKind>,
    /// `resourceVersion`: `None` when unset.
    pub resource_version: Option<i64>,
    /// `resourceVersionMatch`.
    pub version_match: VersionMatch,
    /// `limit`, 0 for none.
    pub limit: usize,
    /// `continue`, empty for none.
    pub continue_token: String,
    /// `sendInitialEvents`.
    pub send_initial_events: Option<bool>,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
}

impl ListOptions {
    /// Whether nothing is filtered by selectors.
    pub fn unfiltered(&self) -> bool {
        self.labels.is_everything() && self.fields.is_everything()
    }

    /// Parses `resourceVersion`.
    ///
    /// # Errors
    /// Not a number: 400 in upstream's words.
    pub fn parse_version(text: &str) -> Result<Option<i64>, Status> {
        if text.is_empty() {
            return Ok(None);
        }
        text.parse::<u64>().ok().and_then(|v| i64::try_from(v).ok()).map(Some).ok_or_else(|| {
            Status::bad_request(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))
        })
    }
}

/// Checks the options of a list as upstream's `ValidateListOptions`.
pub fn validate_list(options: &ListOptions, raw_match: &str) -> Vec<field::Error> {
    let mut errors = Vec::new();
    let path = field::Path::new("resourceVersionMatch");
    if options.send_initial_events.is_some() {
        errors.push(field::Error::forbidden(
            &field::Path::new("sendInitialEvents"),
            "sendInitialEvents is forbidden for list",
        ));
        return errors;
    }
    if raw_match.is_empty() {
        return errors;
    }
    if options.resource_version.is_none() {
        errors.push(field::Error::forbidden(
            &path,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if !options.continue_token.is_empty() {
        errors.push(field::Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
    }
    if options.version_match == VersionMatch::Unset {
        errors.push(field::Error::not_supported(&path, raw_match, &["Exact", "NotOlderThan", ""]));
    }
    if options.version_match == VersionMatch::Exact && options.resource_version == Some(0) {
        errors.push(field::Error::forbidden(
            &path,
            "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
    errors
}

/// Checks the options of a watch.
pub fn validate_watch(options: &ListOptions, raw_match: &str) -> Vec<field::Error> {
    let mut errors = Vec::new();
    let path = field::Path::new("resourceVersionMatch");
    match options.send_initial_events {
        None if !raw_match.is_empty() => {
            errors.push(field::Error::forbidden(
                &path,
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        Some(_) if raw_match.is_empty() => errors.push(field::Error::forbidden(
            &path,
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
        Some(_) if options.version_match != VersionMatch::NotOlderThan => {
            errors.push(field::Error::forbidden(
                &path,
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
            ));
        }
        _ => {}
    }
    if !raw_match.is_empty() && options.version_match != VersionMatch::NotOlderThan {
        errors.push(field::Error::not_supported(&path, raw_match, &["NotOlderThan"]));
    }
    if !options.continue_token.is_empty() {
        errors.push(field::Error::forbidden(&path, "resourceVersionMatch is forbidden when continue is provided"));
    }
    errors
}

/// Upstream's token; clients must not look inside, but mixed API servers must understand each other.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    v: String,
    #[serde(default)]
    rv: i64,
    start: String,
}

/// Makes a token: the revision (-1 for an inconsistent continuation) and the next key below the list's prefix.
pub(crate) fn encode_token(prefix: &str, next_key: &str, revision: i64) -> String {
    let start = next_key.strip_prefix(prefix).unwrap_or(next_key).to_owned();
    let token = Token { v: "meta.k8s.io/v1".into(), rv: revision, start };
    // Strings and a number cannot fail to serialise.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// The key to start from and the revision (0: the current one).
pub(crate) fn decode_token(prefix: &str, token: &str) -> Result<(String, i64), Status> {
    let invalid = |why: &str| Status::bad_request(format!("invalid continue token: {why}"));
    let bytes = URL_SAFE_NO_PAD.decode(token.trim_end_matches('=')).map_err(|e| match e {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            invalid(&format!("continue key is not valid: illegal base64 data at input byte {at}"))
        }
        other => invalid(&format!("continue key is not valid: {other}")),
    })?;
    let token: Token =
        serde_json::from_slice(&bytes).map_err(|e| invalid(&format!("continue key is not valid: {e}")))?;
    if token.v != "meta.k8s.io/v1" {
        let version = &token.v;
        return Err(invalid(&format!(
            "continue key is not valid: server does not recognize this encoded version {version}"
        )));
    }
    if token.rv == 0 {
        let why = "incorrect encoded start resourceVersion (version meta.k8s.io/v1)";
        return Err(invalid(&format!("continue key is not valid: {why}")));
    }
    if token.start.is_empty() {
        return Err(invalid("continue key is not valid: encoded start key empty (version meta.k8s.io/v1)"));
    }
    // A relative path must not climb out of the prefix.
    if token.start.split('/').any(|step| step == ".." || step == ".") {
        return Err(invalid(&format!("continue key is not valid: {}", token.start)));
    }
    Ok((format!("{prefix}{}", token.start.trim_start_matches('/')), token.rv))
}
