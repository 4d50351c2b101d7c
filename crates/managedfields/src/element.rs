//! One step of a field path.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};

use crate::value;

/// One step of a field path: a field, a keyed list item, a set's item, or an index.
#[derive(Debug, Clone)]
pub enum PathElement {
    /// A field of a struct or key of a map.
    Field(String),
    /// An item of a list of type map, by its key fields, sorted by name.
    Key(Vec<(String, Value)>),
    /// An item of a set, by value.
    Value(Value),
    /// An item by index.
    Index(i64),
}

impl PathElement {
    /// A field step.
    pub fn field(name: impl Into<String>) -> Self {
        Self::Field(name.into())
    }

    /// Reads the form of FieldsV1: `f:name`, `k:{…}`, `v:…`, `i:3`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some((kind, rest)) = text.split_once(':').filter(|(kind, _)| kind.len() == 1) else {
            return Err(if text.len() < 2 {
                "key must be 2 characters long:".to_owned()
            } else {
                format!("missing colon: {text}")
            });
        };
        match kind {
            "f" => Ok(Self::Field(rest.to_owned())),
            "v" => serde_json::from_str(rest).map(Self::Value).map_err(|e| e.to_string()),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).map_err(|e| e.to_string())?;
                let mut keys: Vec<(String, Value)> = keys.into_iter().collect();
                keys.sort_by(|a, b| a.0.cmp(&b.0));
                Ok(Self::Key(keys))
            }
            "i" => rest.parse().map(Self::Index).map_err(|_| format!("invalid index {rest:?}")),
            _ => Err("unknown path element type".to_owned()),
        }
    }

    /// Writes the form of FieldsV1.
    pub(crate) fn serialize(&self) -> String {
        match self {
            Self::Field(name) => ["f:", name].concat(),
            Self::Value(value) => format!("v:{value}"),
            Self::Index(index) => format!("i:{index}"),
            Self::Key(keys) => {
                let parts: Vec<String> =
                    keys.iter().map(|(k, v)| format!("{}:{v}", Value::String(k.clone()))).collect();
                format!("k:{{{}}}", parts.join(","))
            }
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl fmt::Display for PathElement {
    /// As in upstream's messages: `.name`, `[name="x"]`, `[="v"]`, `[3]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let parts: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={}", value::text(v))).collect();
                write!(f, "[{}]", parts.join(","))
            }
            Self::Value(v) => write!(f, "[={}]", value::text(v)),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Ord for PathElement {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.cmp(b),
            (Self::Key(a), Self::Key(b)) => {
                let parts = a.iter().zip(b).map(|(a, b)| a.0.cmp(&b.0).then_with(|| value::compare(&a.1, &b.1)));
                parts.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
            }
            (Self::Value(a), Self::Value(b)) => value::compare(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for PathElement {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for PathElement {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for PathElement {}

/// A path as upstream prints it: `.spec.containers[name="a"].image`.
pub(crate) fn path_text(path: &[PathElement]) -> String {
    path.iter().map(ToString::to_string).collect()
}
