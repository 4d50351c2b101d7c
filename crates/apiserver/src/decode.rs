//! Request bodies.

use http::{HeaderMap, header};
use meta::{GroupVersionKind, Object, Status};
use registry::{KindRow, Warnings};
use schema::codec::{self, Decoded};
use wire::Body;

use crate::negotiate::{ACCEPTED, Media};

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
    /// From the query parameter.
    pub fn parse(text: &str) -> Result<Self, Status> {
        match text {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => {
                let path = meta::field::Path::new("fieldValidation");
                let error = meta::field::Error::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
                Err(Status::invalid(&meta::GroupKind::new("meta.k8s.io", "CreateOptions"), "", &[error]))
            }
        }
    }

    /// Deals with strict decoding errors.
    pub fn judge(self, kind: &GroupVersionKind, strict: Vec<String>, warnings: &Warnings) -> Result<(), Status> {
        match self {
            _ if strict.is_empty() => Ok(()),
            Self::Ignore => Ok(()),
            Self::Warn => {
                strict.into_iter().for_each(|s| warnings.add(s));
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
        "" => Ok(Media::Json),
        text => Media::parse(text).ok_or_else(|| Status::unsupported_media_type(text, &ACCEPTED)),
    }
}

/// Decodes a built-in object of any kind; missing kind and version are taken from `default`.
pub(crate) fn built_in(bytes: &[u8], media: Media, default: &GroupVersionKind) -> Result<Decoded, Status> {
    let result = match media {
        Media::Json => codec::decode_json(bytes, Some(default)),
        Media::Yaml => codec::decode_yaml(bytes, Some(default)),
        Media::Protobuf => codec::decode_protobuf(bytes).map(|object| Decoded { object, strict: Vec::new() }),
    };
    result.map_err(|e| unreadable(default, &e))
}

fn unreadable(kind: &GroupVersionKind, error: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!(
        "{} in version {:?} cannot be handled as a {}: {error}",
        kind.kind, kind.version, kind.kind
    ))
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
            let mut decoded = match media {
                Media::Json => codec::decode_untyped_json(bytes).map_err(|e| unreadable(kind, &e))?,
                Media::Yaml => codec::decode_untyped_yaml(bytes).map_err(|e| unreadable(kind, &e))?,
                Media::Protobuf => {
                    return Err(Status::unsupported_media_type(media.content_type(), &ACCEPTED[..2]));
                }
            };
            check_kind(&decoded.object, kind)?;
            let pruned = custom.accept(&mut decoded.object, &kind.version)?;
            decoded.strict.extend(pruned);
            decoded
        }
    };
    check_kind(&decoded.object, kind)?;
    validation.judge(kind, decoded.strict, warnings)?;
    Ok(decoded.object)
}

fn check_kind(object: &Object, kind: &GroupVersionKind) -> Result<(), Status> {
    let given = object.gvk();
    if given.group_version() != kind.group_version() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({}) does not match the expected API version ({})",
            given.api_version(),
            kind.api_version()
        )));
    }
    if given.kind != kind.kind {
        return Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: kind does not match",
            given.kind, given.version, kind.kind
        )));
    }
    Ok(())
}
