//! The environment of admission policies and webhook conditions: which variables there are, and their types.
//!
//! Every variable has a fixed place, so that one activation serves all environments; what an environment does not have
//! stands there under a name that no expression can spell.

use std::sync::LazyLock;

use crate::env::{Env, Program};
use crate::types::{ObjectType, Type, TypeKind};

/// Places of the variables.
#[allow(missing_docs)]
pub mod slot {
    pub const OBJECT: usize = 0;
    pub const OLD_OBJECT: usize = 1;
    pub const NAMESPACE_OBJECT: usize = 2;
    pub const REQUEST: usize = 3;
    pub const PARAMS: usize = 4;
    pub const AUTHORIZER: usize = 5;
    pub const REQUEST_RESOURCE: usize = 6;
    pub const VARIABLES: usize = 7;
}

/// Which of the optional variables an environment has.
#[derive(Debug, Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Has {
    pub params: bool,
    pub authorizer: bool,
    pub variables: bool,
    pub mutations: bool,
}

fn texts() -> Type {
    Type::list(Type::STR)
}

/// The type of `request`.
pub static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let text = Type::STR;
    let kind = Type::record(
        "kubernetes.GroupVersionKind",
        &[("group", text.clone()), ("version", text.clone()), ("kind", text.clone())],
    );
    let resource = Type::record(
        "kubernetes.GroupVersionResource",
        &[("group", text.clone()), ("version", text.clone()), ("resource", text.clone())],
    );
    let user = Type::record(
        "kubernetes.UserInfo",
        &[
            ("username", text.clone()),
            ("uid", text.clone()),
            ("groups", texts()),
            ("extra", Type::map(Type::STR, texts())),
        ],
    );
    Type::record(
        "kubernetes.AdmissionRequest",
        &[
            ("kind", kind.clone()),
            ("resource", resource.clone()),
            ("subResource", text.clone()),
            ("requestKind", kind),
            ("requestResource", resource),
            ("requestSubResource", text.clone()),
            ("name", text.clone()),
            ("namespace", text.clone()),
            ("operation", text),
            ("userInfo", user),
            ("dryRun", Type::BOOL),
            ("options", Type::DYN),
        ],
    )
});

/// The type of `namespaceObject`.
pub static NAMESPACE: LazyLock<Type> = LazyLock::new(|| {
    let text = Type::STR;
    let map = Type::map(Type::STR, Type::STR);
    let condition = Type::record(
        "kubernetes.NamespaceCondition",
        &[
            ("status", text.clone()),
            ("type", text.clone()),
            ("lastTransitionTime", Type::TIMESTAMP),
            ("message", text.clone()),
            ("reason", text.clone()),
        ],
    );
    let metadata = Type::record(
        "kubernetes.NamespaceMetadata",
        &[
            ("name", text.clone()),
            ("generateName", text.clone()),
            ("namespace", text.clone()),
            ("labels", map.clone()),
            ("annotations", map),
            ("UID", text.clone()),
            ("creationTimestamp", Type::TIMESTAMP),
            ("deletionGracePeriodSeconds", Type::INT),
            ("deletionTimestamp", Type::TIMESTAMP),
            ("generation", Type::INT),
            ("resourceVersion", text.clone()),
            ("finalizers", texts()),
        ],
    );
    let status =
        Type::record("kubernetes.NamespaceStatus", &[("conditions", Type::list(condition)), ("phase", text.clone())]);
    let spec = Type::record("kubernetes.NamespaceSpec", &[("finalizers", texts())]);
    Type::record("kubernetes.Namespace", &[("metadata", metadata), ("spec", spec), ("status", status)])
});

/// An environment. `object` is the type of the objects, `dyn` unless a type check is what is wanted.
pub fn env(has: Has, object: Type, params: Type) -> Env {
    let optional = |has: bool, name: &'static str, hidden: &'static str| if has { name } else { hidden };
    let authorizer = |name: &'static str, hidden: &'static str| optional(has.authorizer, name, hidden);
    let env = Env::new()
        .with("object", object.clone())
        .with("oldObject", object)
        .with("namespaceObject", NAMESPACE.clone())
        .with("request", REQUEST.clone())
        .with(optional(has.params, "params", "\0params"), params)
        .with(authorizer("authorizer", "\0authorizer"), Type::named("authorizer"))
        .with(authorizer("authorizer.requestResource", "\0resource"), Type::named("resourceCheck"))
        .with(optional(has.variables, "variables", "\0variables"), no_variables());
    if has.mutations { env.with_mutations() } else { env }
}

fn no_variables() -> Type {
    Type::object(ObjectType { name: "kubernetes.variables".into(), ..ObjectType::default() })
}

/// The environment with one more policy variable of a type.
pub fn with_variable(env: Env, name: &str, ty: Type) -> Env {
    let mut object = match &env.vars[slot::VARIABLES].1.kind {
        TypeKind::Object(object) => (**object).clone(),
        _ => ObjectType { name: "kubernetes.variables".into(), ..ObjectType::default() },
    };
    object.fields.insert(name.to_owned(), crate::types::Field { json: name.to_owned(), ty });
    env.with("variables", Type::object(object))
}

/// What an expression must evaluate to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Want {
    Bool,
    Text,
    TextOrNull,
    Any,
    /// `Object{...}`
    Object,
    /// A list of `JSONPatch{...}`
    Patches,
}

/// Compiles an expression that must have a type; the error is worded as upstream words it.
///
/// # Errors
/// `compilation failed: ...` or `must evaluate to ...`.
pub fn compile(env: &Env, source: &str, want: Want) -> Result<Program, String> {
    let program = env.compile(source).map_err(|issues| format!("compilation failed: {issues}"))?;
    let found = program.output();
    let is_object = |ty: &Type, name: &str| matches!(&ty.kind, TypeKind::Object(object) if object.name == name);
    let (fits, wanted) = match want {
        Want::Any => (true, ""),
        Want::Bool => (matches!(found.kind, TypeKind::Bool), "bool"),
        Want::Text => (matches!(found.kind, TypeKind::Str), "string"),
        Want::TextOrNull => (matches!(found.kind, TypeKind::Str | TypeKind::Null), ""),
        Want::Object => (is_object(found, "Object"), "Object"),
        Want::Patches => (
            matches!(&found.kind, TypeKind::List(item) if is_object(item, "JSONPatch") || item.is_dyn()),
            "list(JSONPatch)",
        ),
    };
    match (fits, want) {
        (true, _) => Ok(program),
        (false, Want::TextOrNull) => Err(format!("must evaluate to one of [string null_type] but got {found}")),
        (false, _) => Err(format!("must evaluate to {wanted} but got {found}")),
    }
}
