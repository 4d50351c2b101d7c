//! Lists.

use api::Kind;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::call::{Answer, encode};
use crate::error::Error;

/// What to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListParams {
    /// Label selector in its string form.
    pub label_selector: String,
    /// Field selector in its string form.
    pub field_selector: String,
    /// Resource version; empty asks for the newest state, `0` for any.
    pub resource_version: String,
    /// At most so many items, 0 for all.
    pub limit: u64,
    /// Where an earlier list stopped.
    pub continue_token: String,
    /// Only kind, version and metadata of each object.
    pub metadata_only: bool,
}

impl ListParams {
    pub(crate) fn accept(&self) -> &'static str {
        if self.metadata_only {
            "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        } else {
            "application/json"
        }
    }

    /// The query with its `?`, empty when there is none.
    pub(crate) fn query(&self) -> String {
        let limit = if self.limit == 0 { String::new() } else { self.limit.to_string() };
        join_query(&[
            ("labelSelector", &self.label_selector),
            ("fieldSelector", &self.field_selector),
            ("resourceVersion", &self.resource_version),
            ("limit", &limit),
            ("continue", &self.continue_token),
        ])
    }
}

pub(crate) fn join_query(pairs: &[(&str, &str)]) -> String {
    let parts: Vec<String> =
        pairs.iter().filter(|(_, v)| !v.is_empty()).map(|(k, v)| format!("{k}={}", encode(v))).collect();
    if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
}

/// A list and the version of the state it shows.
#[derive(Debug, Clone)]
pub struct List<T> {
    /// The items.
    pub items: Vec<T>,
    /// The state's version, from where to watch.
    pub resource_version: String,
    /// Where to go on, empty at the end.
    pub continue_token: String,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Wire<T> {
    #[serde(default)]
    metadata: WireMeta,
    items: Option<Vec<T>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct WireMeta {
    resource_version: String,
    r#continue: String,
}

impl<T: DeserializeOwned> List<T> {
    /// Decodes a list from JSON.
    ///
    /// # Errors
    /// The bytes are no list of this type.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let wire: Wire<T> = serde_json::from_slice(bytes).map_err(Error::Decode)?;
        Ok(Self {
            items: wire.items.unwrap_or_default(),
            resource_version: wire.metadata.resource_version,
            continue_token: wire.metadata.r#continue,
        })
    }
}

impl<T: Kind> List<T> {
    /// Decodes a list of a typed kind in either encoding.
    pub(crate) fn typed(answer: &Answer) -> Result<Self, Error> {
        let (list, mut unreadable) = Self::readable(answer)?;
        match unreadable.pop() {
            None => Ok(list),
            Some(error) => Err(error),
        }
    }

    /// Decodes what can be decoded, and tells what cannot: one broken object does not hide the others.
    pub(crate) fn readable(answer: &Answer) -> Result<(Self, Vec<Error>), Error> {
        let mut unreadable = Vec::new();
        let mut keep =
            |item: Result<T, api::DecodeError>| item.map_err(|e| unreadable.push(Error::Decode(e.source))).ok();
        let list = if answer.protobuf {
            let wrong = |e| Error::Decode(serde::de::Error::custom(e));
            let list = schema::codec::split_protobuf_list(&answer.bytes).map_err(wrong)?;
            Self {
                items: list.items.iter().filter_map(|item| keep(T::decode_message(item))).collect(),
                resource_version: list.meta.resource_version.to_string(),
                continue_token: list.meta.continue_token,
            }
        } else {
            // By trees, whose reader knows Go's zero values: serde alone does not take `null` for a time.
            let list = List::<serde_json::Value>::decode(&answer.bytes)?;
            Self {
                items: list.items.into_iter().filter_map(|item| keep(api::from_value(item))).collect(),
                resource_version: list.resource_version,
                continue_token: list.continue_token,
            }
        };
        Ok((list, unreadable))
    }
}
