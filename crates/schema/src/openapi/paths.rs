//! The paths of a resource.

use meta::GroupVersion;
use serde_json::{Map, Value, json};

use super::operations::{
    Operation, Target, body_parameters, delete_parameters, list_parameters, parameter, path_parameter,
};
use super::{Resource, Subresource, definitions, kind_definition};

/// `/api/v1` or `/apis/apps/v1`.
fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

/// The discovery path of a group version.
pub(super) fn group_version(paths: &mut Map<String, Value>, gv: &GroupVersion) {
    let target = Target::new(&gv.group, &gv.version);
    let list = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";
    let operation = Operation {
        id: format!("get{}APIResources", target.prefix),
        text: "get available resources".to_owned(),
        responses: vec![(200, list.to_owned())],
        ..Operation::default()
    };
    paths.insert(format!("{}/", root(&gv.group, &gv.version)), json!({"get": operation.build(&target)}));
}

/// The paths above all group versions, which only v2 has.
pub(super) fn roots(paths: &mut Map<String, Value>, served: &std::collections::BTreeSet<GroupVersion>) {
    let mut get = |path: String, tag: &str, id: &str, text: &str, answer: String| {
        let mut operation = Operation {
            id: id.to_owned(),
            text: text.to_owned(),
            responses: vec![(200, answer)],
            ..Operation::default()
        }
        .build(&Target::new("", ""));
        operation["tags"] = json!([tag]);
        paths.insert(path, json!({"get": operation}));
    };
    get("/api/".into(), "core", "getCoreAPIVersions", "get available API versions", definitions_name("APIVersions"));
    get("/apis/".into(), "apis", "getAPIVersions", "get available API versions", definitions_name("APIGroupList"));
    let info = "io.k8s.apimachinery.pkg.version.Info".to_owned();
    get("/version/".into(), "version", "getCodeVersion", "get the version information for this server", info);
    for gv in served.iter().filter(|gv| !gv.group.is_empty()) {
        let target = Target::new(&gv.group, "");
        let (tag, id) = (target.tag().trim_end_matches('_').to_owned(), format!("get{}APIGroup", target.prefix));
        let path = format!("/apis/{}/", gv.group);
        get(path, &tag, &id, "get information of a group", definitions_name("APIGroup"));
    }
}

struct Paths<'a> {
    resource: &'a Resource,
    target: Target,
    /// `Namespaced` or nothing.
    scope: &'static str,
    collection: String,
}

/// All paths of a resource and its subresources.
pub(super) fn resource(paths: &mut Map<String, Value>, resource: &Resource) {
    let root = root(&resource.group, &resource.version);
    let scoped = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let this = Paths {
        resource,
        target: Target::new(&resource.group, &resource.version),
        scope: if resource.namespaced { "Namespaced" } else { "" },
        collection: format!("{root}{scoped}/{}", resource.plural),
    };
    this.collection(paths);
    this.item(paths);
    if resource.namespaced && this.has("list") {
        this.all_namespaces(paths, &root);
    }
    if this.has("watch") {
        this.watches(paths, &root);
    }
    for subresource in &resource.subresources {
        this.subresource(paths, subresource);
    }
}

impl Paths<'_> {
    fn has(&self, verb: &str) -> bool {
        self.resource.verbs.iter().any(|v| v == verb)
    }

    fn operation(&self, verb: &str, action: &str, id: String, text: String) -> Operation {
        Operation {
            id: format!("{verb}{}{id}", self.target.prefix),
            text,
            action: action.to_owned(),
            gvk: Some(self.resource.gvk()),
            ..Operation::default()
        }
    }

    fn common(&self, item: bool) -> Vec<Value> {
        let mut list = Vec::new();
        if item {
            list.push(path_parameter("name", &format!("name of the {}", self.resource.kind)));
        }
        if self.resource.namespaced {
            list.push(path_parameter("namespace", "object name and auth scope, such as for teams and projects"));
        }
        list.push(parameter("pretty", "string"));
        list
    }

    fn insert(&self, paths: &mut Map<String, Value>, path: String, mut operations: Map<String, Value>, item: bool) {
        if !operations.is_empty() {
            operations.insert("parameters".to_owned(), self.common(item).into());
            paths.insert(path, operations.into());
        }
    }

    fn list(&self, id: String) -> Operation {
        let text = format!("list or watch objects of kind {}", self.resource.kind);
        Operation {
            responses: vec![(200, self.resource.list_definition_name())],
            parameters: list_parameters(true),
            streams: true,
            ..self.operation("list", "list", id, text)
        }
    }

    fn collection(&self, paths: &mut Map<String, Value>) {
        let (kind, scope) = (&self.resource.kind, self.scope);
        let name = self.resource.definition_name();
        let mut operations = Map::new();
        if self.has("list") {
            operations.insert("get".into(), self.list(format!("{scope}{kind}")).build(&self.target));
        }
        if self.has("create") {
            let operation = Operation {
                body: Some((name.clone(), true)),
                responses: [200, 201, 202].map(|code| (code, name.clone())).to_vec(),
                parameters: body_parameters(false),
                ..self.operation("create", "post", format!("{scope}{kind}"), format!("create a {kind}"))
            };
            operations.insert("post".into(), operation.build(&self.target));
        }
        if self.has("deletecollection") {
            let mut parameters = delete_parameters();
            parameters.extend(list_parameters(false));
            let text = format!("delete collection of {kind}");
            let operation = Operation {
                body: Some((definitions_name("DeleteOptions"), false)),
                responses: vec![(200, definitions_name("Status"))],
                parameters,
                ..self.operation("delete", "deletecollection", format!("Collection{scope}{kind}"), text)
            };
            operations.insert("delete".into(), operation.build(&self.target));
        }
        self.insert(paths, self.collection.clone(), operations, false);
    }

    fn item(&self, paths: &mut Map<String, Value>) {
        let (kind, scope) = (&self.resource.kind, self.scope);
        let name = self.resource.definition_name();
        let id = format!("{scope}{kind}");
        let mut operations = self.read_write(&self.resource.verbs, &name, &id, "", None);
        if self.has("delete") {
            let operation = Operation {
                body: Some((definitions_name("DeleteOptions"), false)),
                responses: [200, 202].map(|code| (code, definitions_name("Status"))).to_vec(),
                parameters: delete_parameters(),
                ..self.operation("delete", "delete", id, format!("delete a {kind}"))
            };
            operations.insert("delete".into(), operation.build(&self.target));
        }
        self.insert(paths, format!("{}/{{name}}", self.collection), operations, true);
    }

    /// get, put and patch of an object or a subresource of it.
    fn read_write(
        &self,
        verbs: &[String],
        name: &str,
        id: &str,
        part: &str,
        gvk: Option<&meta::GroupVersionKind>,
    ) -> Map<String, Value> {
        let kind = &self.resource.kind;
        let of = if part.is_empty() { String::new() } else { format!("{part} of ") };
        let gvk = gvk.cloned().unwrap_or_else(|| self.resource.gvk());
        let make = |verb: &str, action: &str, text: String| Operation {
            gvk: Some(gvk.clone()),
            ..self.operation(verb, action, id.to_owned(), text)
        };
        let has = |verb: &str| verbs.iter().any(|v| v == verb);
        let both = || [200, 201].map(|code| (code, name.to_owned())).to_vec();
        let mut operations = Map::new();
        if has("get") {
            let get = make("read", "get", format!("read {of}the specified {kind}"));
            let get = Operation { responses: vec![(200, name.to_owned())], ..get };
            operations.insert("get".into(), get.build(&self.target));
        }
        if has("update") {
            let put = make("replace", "put", format!("replace {of}the specified {kind}"));
            let body = Some((name.to_owned(), true));
            let put = Operation { body, responses: both(), parameters: body_parameters(false), ..put };
            operations.insert("put".into(), put.build(&self.target));
        }
        if has("patch") {
            let patch = make("patch", "patch", format!("partially update {of}the specified {kind}"));
            let patch = Operation {
                body: Some((definitions::PATCH.to_owned(), true)),
                patch: Some(self.resource.custom.is_none()),
                responses: both(),
                parameters: body_parameters(true),
                ..patch
            };
            operations.insert("patch".into(), patch.build(&self.target));
        }
        operations
    }

    fn all_namespaces(&self, paths: &mut Map<String, Value>, root: &str) {
        let list = Operation { parameters: Vec::new(), ..self.list(format!("{}ForAllNamespaces", self.resource.kind)) };
        let mut parameters = list_parameters(true);
        parameters.push(parameter("pretty", "string"));
        let path = json!({"get": list.build(&self.target), "parameters": parameters});
        paths.insert(format!("{root}/{}", self.resource.plural), path);
    }

    fn watches(&self, paths: &mut Map<String, Value>, root: &str) {
        let (kind, scope) = (&self.resource.kind, self.scope);
        let below = self.collection.strip_prefix(root).unwrap_or_default();
        let mut forms = vec![
            (format!("{root}/watch{below}"), "watchlist", format!("{scope}{kind}List")),
            (format!("{root}/watch{below}/{{name}}"), "watch", format!("{scope}{kind}")),
        ];
        if self.resource.namespaced {
            let all = format!("{kind}ListForAllNamespaces");
            forms.push((format!("{root}/watch/{}", self.resource.plural), "watchlist", all));
        }
        for (path, action, id) in forms {
            let text = if action == "watch" {
                format!("watch changes to an object of kind {kind}; deprecated: use the watch parameter of a list")
            } else {
                format!("watch individual changes to a list of {kind}; deprecated: use the watch parameter of a list")
            };
            let watch = Operation {
                responses: vec![(200, definitions_name("WatchEvent"))],
                streams: true,
                ..self.operation("watch", action, id, text)
            };
            let mut parameters = list_parameters(true);
            if path.contains("{name}") {
                parameters.push(path_parameter("name", &format!("name of the {kind}")));
            }
            if path.contains("{namespace}") {
                parameters
                    .push(path_parameter("namespace", "object name and auth scope, such as for teams and projects"));
            }
            parameters.push(parameter("pretty", "string"));
            paths.insert(path, json!({"get": watch.build(&self.target), "parameters": parameters}));
        }
    }

    fn subresource(&self, paths: &mut Map<String, Value>, sub: &Subresource) {
        let path = format!("{}/{{name}}/{}", self.collection, sub.name);
        if sub.kind.kind.ends_with("Options") {
            self.connect(paths, path, sub);
            return;
        }
        let name =
            if sub.kind == self.resource.gvk() { self.resource.definition_name() } else { kind_definition(&sub.kind) };
        let id = format!("{}{}{}", self.scope, self.resource.kind, super::operations::camel(&sub.name));
        let mut operations = self.read_write(&sub.verbs, &name, &id, &sub.name, Some(&sub.kind));
        if sub.verbs.iter().any(|v| v == "create") {
            let text = format!("create {} of a {}", sub.name, self.resource.kind);
            let operation = Operation {
                gvk: Some(sub.kind.clone()),
                body: Some((name.clone(), true)),
                responses: [200, 201, 202].map(|code| (code, name.clone())).to_vec(),
                parameters: body_parameters(false),
                ..self.operation("create", "post", id, text)
            };
            operations.insert("post".into(), operation.build(&self.target));
        }
        self.insert(paths, path, operations, true);
    }

    /// exec, attach, port-forward and proxy: streams with their options as parameters.
    fn connect(&self, paths: &mut Map<String, Value>, path: String, sub: &Subresource) {
        let methods: &[&str] = if sub.name == "proxy" {
            &["get", "post", "put", "delete", "options", "head", "patch"]
        } else {
            &["get", "post"]
        };
        let forms: &[(&str, &str)] =
            if sub.name == "proxy" { &[("", ""), ("/{path}", "WithPath")] } else { &[("", "")] };
        for (suffix, with) in forms {
            let mut operations = Map::new();
            for method in methods {
                let verb = super::operations::camel(method);
                let name = super::operations::camel(&sub.name);
                let text =
                    format!("connect {} requests to {} of {}", method.to_uppercase(), sub.name, self.resource.kind);
                let operation = Operation {
                    gvk: Some(sub.kind.clone()),
                    text_only: true,
                    ..self.operation(
                        "connect",
                        "connect",
                        format!("{verb}{}{}{name}{with}", self.scope, self.resource.kind),
                        text,
                    )
                };
                operations.insert((*method).to_owned(), operation.build(&self.target));
            }
            let mut parameters = super::operations::option_parameters(&sub.kind);
            parameters.push(path_parameter("name", &format!("name of the {}", sub.kind.kind)));
            if self.resource.namespaced {
                parameters
                    .push(path_parameter("namespace", "object name and auth scope, such as for teams and projects"));
            }
            if !suffix.is_empty() {
                parameters.push(path_parameter("path", "path to the resource"));
            }
            operations.insert("parameters".to_owned(), parameters.into());
            paths.insert(format!("{path}{suffix}"), operations.into());
        }
    }
}

fn definitions_name(name: &str) -> String {
    format!("io.k8s.apimachinery.pkg.apis.meta.v1.{name}")
}
