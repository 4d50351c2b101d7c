//! Field paths and validation errors, as upstream's `field.Path` and `field.Error`.

use std::fmt;

use serde_json::Value;

use crate::status::{Status, StatusCause};

/// A path to a field: `spec.containers[0].ports[1].name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Path(String);

impl Path {
    /// A path of one name; an empty name gives the empty path.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A named child.
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of a list.
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// An element of a map.
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The text form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "<nil>" } else { &self.0 })
    }
}

/// What is wrong with a field; each has upstream's `reason` of a status cause and text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The value refers to something that does not exist.
    NotFound,
    /// A required value is absent.
    Required,
    /// The value occurs twice where it must be unique.
    Duplicate,
    /// The value is malformed or out of bounds.
    Invalid,
    /// The value is not one of the known values.
    NotSupported,
    /// The field must not be set here.
    Forbidden,
    /// The value is too long.
    TooLong,
    /// The list has too many items.
    TooMany,
    /// A fault of ours while validating.
    Internal,
    /// The value has a wrong type.
    TypeInvalid,
}

impl ErrorType {
    /// The `reason` of the status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One validation error, printed as `path: Invalid value: "x": detail`.
#[derive(Debug, Clone, PartialEq)]
pub struct Error {
    /// What is wrong.
    pub kind: ErrorType,
    /// Where.
    pub field: Path,
    /// The offending value, printed where the kind shows it.
    pub value: Value,
    /// More words, may be empty.
    pub detail: String,
}

impl Error {
    fn build(kind: ErrorType, field: &Path, value: Value, detail: impl Into<String>) -> Self {
        Self { kind, field: field.clone(), value, detail: detail.into() }
    }

    /// A reference to something absent.
    pub fn not_found(field: &Path, value: impl Into<Value>) -> Self {
        Self::build(ErrorType::NotFound, field, value.into(), "")
    }

    /// A required value is absent.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::Required, field, Value::String(String::new()), detail)
    }

    /// A value occurs twice.
    pub fn duplicate(field: &Path, value: impl Into<Value>) -> Self {
        Self::build(ErrorType::Duplicate, field, value.into(), "")
    }

    /// A malformed value.
    pub fn invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::Invalid, field, value.into(), detail)
    }

    /// A value of the wrong type.
    pub fn type_invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::TypeInvalid, field, value.into(), detail)
    }

    /// Not one of the known values; they are listed in the given order (upstream's sets are sorted, its slices are not).
    pub fn not_supported(field: &Path, value: impl Into<Value>, valid: &[&str]) -> Self {
        let quoted: Vec<String> = valid.iter().map(|v| format!("{v:?}")).collect();
        let detail = if quoted.is_empty() { String::new() } else { format!("supported values: {}", quoted.join(", ")) };
        Self::build(ErrorType::NotSupported, field, value.into(), detail)
    }

    /// Must not be set.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::Forbidden, field, Value::String(String::new()), detail)
    }

    /// Too long, in bytes.
    pub fn too_long(field: &Path, max_bytes: usize) -> Self {
        Self::build(
            ErrorType::TooLong,
            field,
            Value::String(String::new()),
            format!("may not be more than {max_bytes} bytes"),
        )
    }

    /// Too many items.
    pub fn too_many(field: &Path, actual: usize, max: usize) -> Self {
        let unit = if max == 1 { "item" } else { "items" };
        Self::build(ErrorType::TooMany, field, actual.into(), format!("must have at most {max} {unit}"))
    }

    /// A fault of ours.
    pub fn internal(field: &Path, detail: impl Into<String>) -> Self {
        Self::build(ErrorType::Internal, field, Value::Null, detail)
    }

    /// The text without the path: what a status cause's `message` holds.
    pub fn body(&self) -> String {
        let mut text = match self.kind {
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal => {
                self.kind.text().to_owned()
            }
            _ => format!("{}: {}", self.kind.text(), go_value(&self.value)),
        };
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }

    /// The cause of a status.
    pub fn cause(&self) -> StatusCause {
        StatusCause { reason: self.kind.reason().to_owned(), message: self.body(), field: self.field.to_string() }
    }
}

/// Prints a value as Go's `%#v`-like formatting in `field.Error` does: strings quoted, trees as JSON.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

impl std::error::Error for Error {}

/// Joins errors as upstream's aggregate does: one alone, several in brackets, duplicates once.
pub fn aggregate(errors: &[Error]) -> String {
    let mut texts: Vec<String> = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !texts.contains(&text) {
            texts.push(text);
        }
    }
    match texts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// The `Invalid` status of an object.
pub fn invalid(kind: &crate::GroupKind, name: &str, errors: &[Error]) -> Status {
    Status::invalid(kind, name, errors)
}
