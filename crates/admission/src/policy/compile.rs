//! Policies and bindings as they are evaluated.

use celx::Env;
use celx::admission::{Has, Want, compile, env, with_variable};
use celx::types::Type;
use meta::selector::LabelSelector;
use meta::{GroupVersionKind, Object};
use serde_json::Value as Json;

use super::conditions::Conditions;
use super::evaluate::{Expression, Variable};
use crate::webhook::config::Rule;
use crate::webhook::matching::{Criteria, selector};

/// A policy, compiled.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) ignores_failures: bool,
    pub(super) criteria: Criteria,
    pub(super) param_kind: Option<GroupVersionKind>,
    pub(super) conditions: Conditions,
    pub(super) variables: Vec<Variable>,
    pub(super) validations: Vec<Validation>,
    /// By their keys.
    pub(super) audit_annotations: Vec<(String, Expression)>,
    pub(super) mutations: Vec<Mutation>,
    pub(super) reinvoke: bool,
}

/// One validation.
#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    pub(super) reason: String,
}

/// One mutation.
#[derive(Debug)]
pub(super) struct Mutation {
    pub(super) apply: bool,
    pub(super) expression: Expression,
}

/// A binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    pub(super) policy: String,
    pub(super) criteria: Option<Criteria>,
    pub(super) params: Option<ParamRef>,
    pub(super) actions: Vec<String>,
}

/// Where a binding has its parameters.
#[derive(Debug)]
pub(super) struct ParamRef {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) selector: Option<Result<LabelSelector, String>>,
    pub(super) deny_when_absent: bool,
}

fn text<'v>(value: &'v Json, field: &str) -> &'v str {
    value.get(field).and_then(Json::as_str).unwrap_or_default()
}

fn list<'v>(value: &'v Json, field: &str) -> &'v [Json] {
    value.get(field).and_then(Json::as_array).map_or(&[], Vec::as_slice)
}

fn rules(holder: &Json, field: &str) -> Vec<Rule> {
    list(holder, field).iter().filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}

fn criteria(matched: &Json) -> Criteria {
    Criteria {
        rules: rules(matched, "resourceRules"),
        exclude: rules(matched, "excludeResourceRules"),
        equivalent: text(matched, "matchPolicy") != "Exact",
        namespace_selector: selector(matched.get("namespaceSelector")),
        object_selector: selector(matched.get("objectSelector")),
    }
}

fn expression(env: &Env, source: &str, want: Want) -> Expression {
    Expression { source: source.to_owned(), program: compile(env, source, want) }
}

impl Policy {
    /// Compiles a policy of either kind.
    pub(super) fn new(object: &Object) -> Self {
        let null = Json::Null;
        let spec = object.get(&["spec"]).unwrap_or(&null);
        let param_kind = spec.get("paramKind").filter(|kind| kind.is_object());
        let mutating = spec.get("mutations").is_some();
        let has = Has { params: param_kind.is_some(), authorizer: true, variables: true, mutations: mutating };
        let mut env = env(has, Type::DYN, Type::DYN);
        let mut variables = Vec::new();
        for variable in list(spec, "variables") {
            let name = text(variable, "name").to_owned();
            let compiled = expression(&env, text(variable, "expression"), Want::Any);
            let ty = compiled.program.as_ref().map_or(Type::DYN, |program| program.output().clone());
            env = with_variable(env, &name, ty);
            variables.push(Variable { name, expression: compiled });
        }
        let conditions = Has { variables: false, mutations: false, ..has };
        Self {
            name: object.name().to_owned(),
            ignores_failures: text(spec, "failurePolicy") == "Ignore",
            criteria: criteria(spec.get("matchConstraints").unwrap_or(&null)),
            param_kind: param_kind
                .and_then(|kind| GroupVersionKind::from_api_version(text(kind, "apiVersion"), text(kind, "kind")).ok()),
            conditions: Conditions::compile(list(spec, "matchConditions"), conditions),
            validations: list(spec, "validations").iter().map(|v| Validation::new(&env, v)).collect(),
            audit_annotations: list(spec, "auditAnnotations")
                .iter()
                .map(|a| (text(a, "key").to_owned(), expression(&env, text(a, "valueExpression"), Want::TextOrNull)))
                .collect(),
            mutations: list(spec, "mutations").iter().map(|m| Mutation::new(&env, m)).collect(),
            reinvoke: text(spec, "reinvocationPolicy") == "IfNeeded",
            variables,
        }
    }
}

impl Validation {
    fn new(env: &Env, value: &Json) -> Self {
        let message = text(value, "messageExpression");
        let reason = text(value, "reason");
        Self {
            expression: expression(env, text(value, "expression"), Want::Bool),
            message: text(value, "message").trim().to_owned(),
            message_expression: (!message.is_empty()).then(|| expression(env, message, Want::Text)),
            reason: if reason.is_empty() { "Invalid" } else { reason }.to_owned(),
        }
    }
}

impl Mutation {
    fn new(env: &Env, value: &Json) -> Self {
        let apply = text(value, "patchType") == "ApplyConfiguration";
        let (holder, want) = if apply { ("applyConfiguration", Want::Object) } else { ("jsonPatch", Want::Patches) };
        let source = value.get(holder).map_or("", |holder| text(holder, "expression"));
        Self { apply, expression: expression(env, source, want) }
    }
}

impl Binding {
    /// Reads a binding of either kind.
    pub(super) fn new(object: &Object) -> Self {
        let null = Json::Null;
        let spec = object.get(&["spec"]).unwrap_or(&null);
        let params = spec.get("paramRef").filter(|params| params.is_object()).map(|params| ParamRef {
            name: text(params, "name").to_owned(),
            namespace: text(params, "namespace").to_owned(),
            selector: params.get("selector").filter(|s| s.is_object()).map(|s| selector(Some(s))),
            deny_when_absent: text(params, "parameterNotFoundAction") == "Deny",
        });
        let actions = list(spec, "validationActions").iter().filter_map(Json::as_str).map(str::to_owned).collect();
        Self {
            name: object.name().to_owned(),
            policy: text(spec, "policyName").to_owned(),
            criteria: spec.get("matchResources").filter(|m| m.is_object()).map(criteria),
            params,
            actions,
        }
    }
}
