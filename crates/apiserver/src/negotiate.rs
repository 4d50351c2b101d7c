//! Which form of an answer the client takes.

use http::{HeaderMap, header};
use meta::Status;

/// An encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
}

/// What the object is turned into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Shape {
    #[default]
    Itself,
    Table,
    Metadata,
    MetadataList,
}

/// The chosen form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Negotiated {
    pub media: Media,
    pub shape: Shape,
    /// `v=` of the shape: `v1` or `v1beta1`.
    pub shape_version: String,
    pub pretty: bool,
}

impl Media {
    /// Content type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Media::Json => "application/json",
            Media::Yaml => "application/yaml",
            Media::Protobuf => "application/vnd.kubernetes.protobuf",
        }
    }

    /// From a media type without parameters.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "application/json" | "*/*" | "application/*" => Some(Media::Json),
            "application/yaml" => Some(Media::Yaml),
            "application/vnd.kubernetes.protobuf" => Some(Media::Protobuf),
            _ => None,
        }
    }
}

/// Media types that every built-in kind has.
pub(crate) const ACCEPTED: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// Upstream's routes look at the media types alone before anything else does: no `application/*`, and another message.
///
/// # Errors
/// 406 when no type is known.
pub(crate) fn representable(headers: &HeaderMap, list: bool) -> Result<(), Status> {
    let mut types = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).flat_map(|v| v.split(','));
    let known = |clause: &str| {
        let media = clause.split(';').next().unwrap_or("").trim();
        media == "*/*" || ACCEPTED.contains(&media)
    };
    let none = headers.get_all(header::ACCEPT).iter().all(|v| v.as_bytes().trim_ascii().is_empty());
    if none || types.any(known) {
        return Ok(());
    }
    let streams =
        if list { ", application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch" } else { "" };
    let all = ACCEPTED.join(", ");
    let message = format!("406: Not Acceptable\n\nAvailable representations: {all}{streams}");
    Err(Status::failure(406, meta::reason::NOT_ACCEPTABLE, message))
}

impl Negotiated {
    /// Plain JSON.
    pub fn json() -> Self {
        Self { media: Media::Json, shape: Shape::Itself, shape_version: String::new(), pretty: false }
    }

    /// Chooses from the `Accept` header. `shapes` says whether tables and partial metadata may be chosen, `protobuf` whether the
    /// kind has that encoding.
    ///
    /// # Errors
    /// 406 when nothing fits.
    pub fn choose(headers: &HeaderMap, shapes: bool, protobuf: bool) -> Result<Self, Status> {
        let accept: Vec<&str> = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok()).collect();
        let accept = accept.join(",");
        if accept.trim().is_empty() {
            return Ok(Self::json());
        }
        let mut clauses: Vec<(f32, &str)> = accept.split(',').map(|c| (quality(c), c.trim())).collect();
        clauses.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, clause) in clauses {
            if let Some(chosen) = clause_form(clause, shapes, protobuf) {
                return Ok(chosen);
            }
        }
        Err(Status::not_acceptable(&ACCEPTED))
    }

    /// Whether the answer is neither table nor metadata.
    pub fn itself(&self) -> bool {
        self.shape == Shape::Itself
    }

    /// `meta.k8s.io/v1` or the older one.
    pub fn shape_api_version(&self) -> String {
        format!("meta.k8s.io/{}", if self.shape_version.is_empty() { "v1" } else { &self.shape_version })
    }
}

fn quality(clause: &str) -> f32 {
    clause.split(';').skip(1).find_map(|p| p.trim().strip_prefix("q=")?.parse().ok()).unwrap_or(1.0)
}

fn clause_form(clause: &str, shapes: bool, protobuf: bool) -> Option<Negotiated> {
    let mut parts = clause.split(';').map(str::trim);
    let media = Media::parse(parts.next()?)?;
    if media == Media::Protobuf && !protobuf {
        return None;
    }
    let mut form = Negotiated { media, ..Negotiated::json() };
    let mut group = "";
    for (key, value) in parts.filter_map(|p| p.split_once('=')) {
        match key {
            "as" => {
                form.shape = match value {
                    "Table" => Shape::Table,
                    "PartialObjectMetadata" => Shape::Metadata,
                    "PartialObjectMetadataList" => Shape::MetadataList,
                    _ => return None,
                }
            }
            "v" => form.shape_version = value.to_owned(),
            "g" => group = value,
            "pretty" => form.pretty = value == "1",
            _ => {}
        }
    }
    if form.itself() {
        form.shape_version.clear();
        return Some(form);
    }
    let known = shapes && group == "meta.k8s.io" && matches!(form.shape_version.as_str(), "v1" | "v1beta1");
    known.then_some(form)
}
