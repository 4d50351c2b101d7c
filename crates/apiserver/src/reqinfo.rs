//! What a request is about, from its method, path and query, as upstream's request info resolver has it.

use http::Method;
use meta::selector::FieldSelector;

use crate::query::{Query, unescape};

/// What a request is about.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestInfo {
    /// Whether it is about a resource (else about a path).
    pub resource_request: bool,
    /// API verb, or the lower-case method.
    pub verb: &'static str,
    /// The path as sent.
    pub path: String,
    /// API group, empty for core.
    pub group: String,
    /// API version.
    pub version: String,
    /// Namespace, empty for none.
    pub namespace: String,
    /// Resource.
    pub resource: String,
    /// Subresource.
    pub subresource: String,
    /// Name.
    pub name: String,
    /// Whether it is a HEAD, whose verb is `get`.
    pub method_head: bool,
    /// Path below a proxy subresource, with its slash; empty for none.
    pub rest: String,
}

impl RequestInfo {
    /// Reads a request's head.
    pub fn new(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self { path: path.to_owned(), verb: method_verb(method), ..Self::default() };
        info.method_head = method == Method::HEAD;
        // Unescaped first: an escaped slash parts as any other.
        let parts: Vec<String> = unescape(path.trim_matches('/'), false).split('/').map(str::to_owned).collect();
        let mut rest = match parts.first().map(String::as_str) {
            Some("api") if parts.len() >= 3 => {
                info.version.clone_from(&parts[1]);
                parts[2..].to_vec()
            }
            Some("apis") if parts.len() >= 4 => {
                info.group.clone_from(&parts[1]);
                info.version.clone_from(&parts[2]);
                parts[3..].to_vec()
            }
            _ => return info,
        };
        info.resource_request = true;
        info.verb = api_verb(method);
        if rest.first().is_some_and(|p| p == "watch") && rest.len() > 1 {
            info.verb = "watch";
            rest.remove(0);
        }
        info.locate(rest, path);
        info.refine_verb(method, query);
        info
    }

    /// Finds namespace, resource, name and subresource in the path after the version.
    fn locate(&mut self, mut parts: Vec<String>, path: &str) {
        if parts[0] == "namespaces" && parts.len() > 1 {
            self.namespace.clone_from(&parts[1]);
            // `/namespaces/x/status` is the namespace's own; `/namespaces/x/pods` is not.
            if parts.len() > 2 && !matches!(parts[2].as_str(), "status" | "finalize") {
                parts.drain(..2);
            }
        }
        self.resource.clone_from(&parts[0]);
        if let Some(name) = parts.get(1) {
            self.name.clone_from(name);
        }
        if let Some(subresource) = parts.get(2) {
            self.subresource.clone_from(subresource);
        }
        if parts.len() > 3 || (self.subresource == "proxy" && path.ends_with('/')) {
            // The rest is passed on as it was written.
            let marker = format!("/{}/", self.subresource);
            let at = path.find(&format!("/{}{marker}", self.name)).map(|at| at + self.name.len() + 1);
            if let Some(at) = at {
                self.rest = path[at + marker.len() - 1..].to_owned();
            }
        }
    }

    fn refine_verb(&mut self, method: &Method, query: &Query) {
        if self.verb == "get" && self.name.is_empty() {
            self.verb = if query.flag("watch") { "watch" } else { "list" };
            // A selector on the name narrows the request to one object for authorization.
            if let Ok(fields) = FieldSelector::parse(query.get("fieldSelector"))
                && let Some(name) = fields.required_value("metadata.name")
                && meta::names::path_segment(name).is_empty()
            {
                self.name = name.to_owned();
            }
        } else if self.verb == "get" && query.flag("watch") && self.subresource.is_empty() {
            self.verb = "watch";
        } else if *method == Method::DELETE && self.name.is_empty() {
            self.verb = "deletecollection";
        }
    }

    /// Whether the request may last beyond the usual deadline and does not count against the limits.
    pub fn long_running(&self) -> bool {
        matches!(self.verb, "watch")
            || (self.resource_request
                && matches!(self.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward"))
    }

    /// Whether the request changes nothing.
    pub fn read_only(&self) -> bool {
        matches!(self.verb, "get" | "list" | "watch")
    }
}

fn method_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "post",
        "PUT" => "put",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "HEAD" => "head",
        "OPTIONS" => "options",
        _ => "get",
    }
}

fn api_verb(method: &Method) -> &'static str {
    match method.as_str() {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "GET" | "HEAD" => "get",
        _ => "",
    }
}
