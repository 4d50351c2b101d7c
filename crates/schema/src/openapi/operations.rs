//! One operation of a path, in v3 form.

use meta::GroupVersionKind;
use serde_json::{Map, Value, json};

use super::definitions::reference;
use crate::table::Elem;

/// What the operations of a group version share.
pub(super) struct Target {
    /// `AppsV1`, in operation ids.
    pub prefix: String,
    /// `apps_v1`.
    tag: String,
}

impl Target {
    pub fn new(group: &str, version: &str) -> Self {
        let short = if group.is_empty() { "core" } else { group.strip_suffix(".k8s.io").unwrap_or(group) };
        let words: String = short.split(['.', '-']).map(camel).collect();
        let lower = words.chars().take(1).map(|c| c.to_ascii_lowercase()).chain(words.chars().skip(1));
        Self { tag: format!("{}_{version}", lower.collect::<String>()), prefix: format!("{words}{}", camel(version)) }
    }
}

impl Target {
    /// The tag of the group version.
    pub fn tag(&self) -> &str {
        &self.tag
    }
}

/// `exec` → `Exec`.
pub(super) fn camel(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// An operation before it is written.
#[derive(Default)]
pub(super) struct Operation {
    pub id: String,
    pub text: String,
    /// `x-kubernetes-action`, empty for none.
    pub action: String,
    pub gvk: Option<GroupVersionKind>,
    pub parameters: Vec<Value>,
    /// The body's definition, and whether it must be there.
    pub body: Option<(String, bool)>,
    /// The body is a patch; the flag tells whether strategic merge is known.
    pub patch: Option<bool>,
    pub responses: Vec<(u16, String)>,
    /// Answers may be streams of events.
    pub streams: bool,
    /// Answers are plain text.
    pub text_only: bool,
}

impl Operation {
    pub fn build(&self, target: &Target) -> Value {
        let mut operation = json!({
            "description": self.text, "operationId": self.id, "tags": [target.tag], "responses": self.responses(),
        });
        if !self.parameters.is_empty() {
            operation["parameters"] = self.parameters.clone().into();
        }
        if let Some((name, required)) = &self.body {
            let schema = json!({"schema": reference(name)});
            let types: &[&str] = match self.patch {
                None => &["*/*"],
                Some(true) => &[
                    "application/apply-patch+yaml",
                    "application/json-patch+json",
                    "application/merge-patch+json",
                    "application/strategic-merge-patch+json",
                ],
                Some(false) => {
                    &["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
                }
            };
            let content: Map<String, Value> = types.iter().map(|t| ((*t).to_owned(), schema.clone())).collect();
            operation["requestBody"] = json!({"content": content});
            if *required {
                operation["requestBody"]["required"] = true.into();
            }
        }
        if !self.action.is_empty() {
            operation["x-kubernetes-action"] = self.action.clone().into();
        }
        if let Some(gvk) = &self.gvk {
            operation["x-kubernetes-group-version-kind"] =
                json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind});
        }
        operation
    }

    fn responses(&self) -> Value {
        let mut responses = Map::new();
        let mut types = vec!["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
        if self.streams {
            types.extend(["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"]);
        }
        for (code, name) in &self.responses {
            let schema = json!({"schema": reference(name)});
            let content: Map<String, Value> = types.iter().map(|t| ((*t).to_owned(), schema.clone())).collect();
            let text = match code {
                201 => "Created",
                202 => "Accepted",
                _ => "OK",
            };
            responses.insert(code.to_string(), json!({"description": text, "content": content}));
        }
        if self.text_only {
            let content = json!({"*/*": {"schema": {"type": "string"}}});
            responses.insert("200".to_owned(), json!({"description": "OK", "content": content}));
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        responses.into()
    }
}

/// A query parameter.
pub(super) fn parameter(name: &str, kind: &str) -> Value {
    json!({"name": name, "in": "query", "schema": {"type": kind, "uniqueItems": true}})
}

/// A path parameter.
pub(super) fn path_parameter(name: &str, text: &str) -> Value {
    json!({
        "name": name, "in": "path", "required": true, "description": text,
        "schema": {"type": "string", "uniqueItems": true},
    })
}

/// What lists and watches take; without the watch's own for `deletecollection`.
pub(super) fn list_parameters(watch: bool) -> Vec<Value> {
    const LIST: [(&str, &str); 9] = [
        ("continue", "string"),
        ("fieldSelector", "string"),
        ("labelSelector", "string"),
        ("limit", "integer"),
        ("resourceVersion", "string"),
        ("resourceVersionMatch", "string"),
        ("sendInitialEvents", "boolean"),
        ("shardSelector", "string"),
        ("timeoutSeconds", "integer"),
    ];
    let mut all: Vec<Value> = LIST.iter().map(|(name, kind)| parameter(name, kind)).collect();
    if watch {
        all.push(parameter("allowWatchBookmarks", "boolean"));
        all.push(parameter("watch", "boolean"));
    }
    all
}

/// What writes take.
pub(super) fn body_parameters(patch: bool) -> Vec<Value> {
    let mut all: Vec<Value> =
        ["dryRun", "fieldManager", "fieldValidation"].iter().map(|name| parameter(name, "string")).collect();
    if patch {
        all.push(parameter("force", "boolean"));
    }
    all
}

/// What deletes take.
pub(super) fn delete_parameters() -> Vec<Value> {
    vec![
        parameter("dryRun", "string"),
        parameter("gracePeriodSeconds", "integer"),
        parameter("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
        parameter("orphanDependents", "boolean"),
        parameter("propagationPolicy", "string"),
    ]
}

/// The fields of an options kind as query parameters.
pub(super) fn option_parameters(kind: &GroupVersionKind) -> Vec<Value> {
    let fields = crate::type_by_gvk(kind).map(|t| t.json_fields()).unwrap_or_default();
    let kind = |elem: Elem| match elem {
        Elem::Bool => "boolean",
        Elem::I32 | Elem::I64 => "integer",
        _ => "string",
    };
    fields.iter().map(|field| parameter(field.name(), kind(field.elem()))).collect()
}
