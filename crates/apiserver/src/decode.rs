//! Request bodies.

use http::{HeaderMap, header};
use meta::{GroupVersionKind, Object, Status};
use registry::{KindRow, Warnings};
use schema::codec::{self, Decoded};
use wire::Body;

use crate::negotiate::{ACCEPTED, Media};
use crate::words;

/// Upstream's limit of a request body.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;

/// What is done about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

impl FieldValidation {
    /// From the query parameter; `options` is the kind of options that an error is about.
    pub fn parse(text: &str, options: &str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let path = meta::field::Path::new("fieldValidation");
                let error = meta::field::Error::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
                Err(Status::invalid(&meta::GroupKind::new("meta.k8s.io", options), "", &[error]))
            }
        }
    }

    /// Deals with strict decoding errors.
    pub fn judge(self, kind: &GroupVersionKind, strict: Vec<String>, warnings: &Warnings) -> Result<(), Status> {
        match self {
            _ if strict.is_empty() => Ok(()),
            Self::Ignore => Ok(()),
            Self::Warn => {
                warn(strict, warnings);
                Ok(())
            }
            Self::Strict => Err(Status::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                kind.kind,
                kind.version,
                kind.kind,
                strict.join(", ")
            ))),
        }
    }
}

impl FieldValidation {
    /// As [`FieldValidation::judge`], for the outcome of a patch.
    ///
    /// # Errors
    /// 422 that shows the patch.
    pub fn judge_patch(
        self,
        shown: &dyn Fn() -> String,
        strict: Vec<String>,
        warnings: &Warnings,
    ) -> Result<(), Status> {
        match self {
            Self::Strict if !strict.is_empty() => {
                Err(words::invalid_patch(&shown(), &format!("strict decoding error: {}", strict.join(", "))))
            }
            Self::Warn => {
                warn(strict, warnings);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Warns of each strict error; one of YAML stands for several.
pub(crate) fn warn(strict: Vec<String>, warnings: &Warnings) {
    for error in strict {
        match error.strip_prefix("yaml: unmarshal errors:") {
            Some(lines) => {
                lines.lines().map(str::trim).filter(|l| !l.is_empty()).for_each(|l| warnings.add(l.to_owned()))
            }
            None => warnings.add(error),
        }
    }
}

/// Reads a body within the limit.
pub(crate) async fn read(body: Body) -> Result<bytes::Bytes, Status> {
    wire::read_all(body, MAX_BODY).await.map_err(|e| match e {
        wire::ReadError::TooLarge { limit } => Status::request_too_large(format!("limit is {limit}")),
        wire::ReadError::Broken(source) => Status::bad_request(format!("unable to read request body: {source}")),
    })
}

/// Media type of a body without parameters; JSON when not given.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let text = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    text.split(';').next().unwrap_or("").trim().to_lowercase()
}

/// Encoding of a body.
pub(crate) fn media(headers: &HeaderMap) -> Result<Media, Status> {
    match content_type(headers).as_str() {
        "" if headers.get(header::CONTENT_TYPE).is_none_or(|v| v.is_empty()) => Ok(Media::Json),
        text if text.contains('*') => Err(Status::unsupported_media_type(&ACCEPTED)),
        text => Media::parse(text).ok_or_else(|| Status::unsupported_media_type(&ACCEPTED)),
    }
}

/// Decodes a built-in object of any kind; missing kind and version are taken from `default`.
pub(crate) fn built_in(bytes: &[u8], media: Media, default: &GroupVersionKind) -> Result<Decoded, Status> {
    let result = match media {
        // As upstream: nothing is an empty object.
        Media::Json if bytes.trim_ascii() == b"null" => codec::decode_json(b"{}", Some(default)),
        Media::Json => codec::decode_json(bytes, Some(default)),
        Media::Yaml => codec::decode_yaml(bytes, Some(default)),
        Media::Protobuf => {
            codec::decode_protobuf_with_default(bytes, default).map(|object| Decoded { object, strict: Vec::new() })
        }
    };
    result.map_err(|e| words::undecodable(default, bytes, &e))
}

/// A custom resource's tree, before its schema is looked at.
fn untyped(bytes: &[u8], media: Media, kind: &GroupVersionKind) -> Result<Decoded, Status> {
    let unrecognized = |error: &dyn std::fmt::Display| words::unrecognized(&kind.kind, bytes, error);
    let decoded = match media {
        Media::Json => {
            let (value, strict) = words::read_json(bytes)
                .map_err(|e| unrecognized(&format!("couldn't get version/kind; json parse error: {e}")))?;
            let Some(object) = Object::from_value(value) else {
                return Err(unrecognized(
                    &"json: cannot unmarshal value into Go value of type map[string]interface {}",
                ));
            };
            Decoded { object, strict }
        }
        Media::Yaml => {
            codec::decode_untyped_yaml(bytes).map_err(|e| unrecognized(&words::yaml_words(&e.to_string())))?
        }
        Media::Protobuf => return Err(Status::unsupported_media_type(&ACCEPTED[..2])),
    };
    if decoded.object.kind().is_empty() {
        let text = String::from_utf8_lossy(&codec::to_json(&decoded.object)).into_owned();
        return Err(unrecognized(&format!("Object 'Kind' is missing in '{text}'")));
    }
    Ok(decoded)
}

/// Decodes an object of a row in a served version; strict errors are dealt with.
pub(crate) fn object(
    row: &KindRow,
    kind: &GroupVersionKind,
    headers: &HeaderMap,
    bytes: &[u8],
    validation: FieldValidation,
    warnings: &Warnings,
) -> Result<Object, Status> {
    let media = media(headers)?;
    let decoded = match &row.custom {
        None => built_in(bytes, media, kind)?,
        Some(custom) => {
            let mut decoded = untyped(bytes, media, kind)?;
            check_custom_kind(&decoded.object, kind)?;
            let pruned = custom.accept(&mut decoded.object, &kind.version).map_err(|status| {
                let text = status.message.strip_prefix("metadata: ").map(str::to_owned);
                text.map_or(status, |text| words::unhandled(kind, &kind.kind, &text))
            })?;
            decoded.strict.extend(pruned);
            decoded
        }
    };
    check_kind(&decoded.object, kind)?;
    validation.judge(kind, decoded.strict, warnings)?;
    Ok(decoded.object)
}

fn check_version(given: &GroupVersionKind, kind: &GroupVersionKind) -> Result<(), Status> {
    if given.group_version() == kind.group_version() {
        return Ok(());
    }
    Err(Status::bad_request(format!(
        "the API version in the data ({}) does not match the expected API version ({})",
        given.api_version(),
        kind.api_version()
    )))
}

fn check_kind(object: &Object, kind: &GroupVersionKind) -> Result<(), Status> {
    let given = object.gvk();
    if given.kind != kind.kind {
        return Err(words::unconvertible(&given, kind));
    }
    check_version(&given, kind)
}

fn check_custom_kind(object: &Object, kind: &GroupVersionKind) -> Result<(), Status> {
    let given = object.gvk();
    check_version(&given, kind)?;
    if given.kind == kind.kind {
        return Ok(());
    }
    let path = meta::field::Path::new("kind");
    let error = meta::field::Error::invalid(&path, given.kind.as_str(), format!("must be {}", kind.kind));
    Err(Status::invalid(&given.group_kind(), object.name(), &[error]))
}
