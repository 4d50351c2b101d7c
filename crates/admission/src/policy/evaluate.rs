//! One evaluation: the variables, and the budget.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;

use celx::admission::{NAMESPACE, REQUEST, slot};
use celx::authz::{Node, Question};
use celx::types::DYN;
use celx::{Activation, CALL_LIMIT, Error, Map, Meter, Program, Shape, TOTAL_LIMIT, Value, from_json};
use meta::Object;
use serde_json::Value as Json;

use super::answers::Known;
use crate::plugin::Request;
use crate::webhook::matching::Invocation;
use crate::webhook::review::request_of;

/// What is evaluated: the objects in the version that the policy or webhook wants.
pub(crate) struct Subject<'a> {
    pub(crate) invocation: &'a Invocation,
    pub(crate) object: Option<&'a Object>,
    pub(crate) old: Option<&'a Object>,
    pub(crate) namespace: Option<&'a Object>,
}

/// A program, or why there is none, with its source.
#[derive(Debug, Clone)]
pub(super) struct Expression {
    pub(super) source: String,
    pub(super) program: Result<Program, String>,
}

/// A named variable of a policy.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) expression: Expression,
}

/// The variables' values for one policy, binding and parameter.
pub(super) struct Scope<'a> {
    request: &'a Request<'a>,
    subject: &'a Subject<'a>,
    params: Option<&'a Object>,
    variables: &'a [Variable],
    answers: &'a Known,
    /// `request`, made when an expression first asks for it.
    review: &'a OnceCell<Json>,
    known: RefCell<HashMap<&'a str, Result<Value<'a>, Error>>>,
    /// What variables cost, beside the expressions that asked for them.
    extra: Cell<u64>,
}

/// Why no further expression is evaluated.
#[derive(Debug)]
pub(super) enum Stop {
    /// Upstream's word for a spent budget.
    Budget,
    /// The authorizer must be asked first.
    Pending(Box<Question>),
}

/// Why there is no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// For whoever asked.
    pub(crate) message: String,
    /// What upstream's metrics call it.
    pub(crate) label: &'static str,
}

impl Failure {
    /// A spent budget.
    pub(super) fn out_of_budget() -> Self {
        Self { message: OUT_OF_BUDGET.to_owned(), label: "out_of_budget" }
    }
}

impl From<String> for Failure {
    fn from(message: String) -> Self {
        Self { message, label: "invalid_error" }
    }
}

pub(super) const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

impl<'a> Scope<'a> {
    pub(super) fn new(
        request: &'a Request<'a>,
        subject: &'a Subject<'a>,
        params: Option<&'a Object>,
        variables: &'a [Variable],
        answers: &'a Known,
        review: &'a OnceCell<Json>,
    ) -> Self {
        let (known, extra) = (RefCell::default(), Cell::new(0));
        Self { request, subject, params, variables, answers, review, known, extra }
    }

    /// Evaluates an expression against a budget. The inner error is the expression's own.
    pub(super) fn evaluate(
        &self,
        expression: &'a Expression,
        budget: &mut u64,
    ) -> Result<Result<Value<'a>, Failure>, Stop> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(error) => {
                return Ok(Err(Failure { message: format!("compilation error: {error}"), label: "compile_error" }));
            }
        };
        let mut meter = Meter::new(CALL_LIMIT);
        let result = program.eval(self, &mut meter);
        if let Err(Error::Pending(question)) = result {
            return Err(Stop::Pending(question));
        }
        let spent = meter.used.saturating_add(self.extra.take());
        *budget = budget.checked_sub(spent).ok_or(Stop::Budget)?;
        Ok(result.map_err(|error| format!("expression '{}' resulted in error: {error}", expression.source).into()))
    }

    fn review(&self) -> &'a Json {
        self.review.get_or_init(|| {
            let object = self.subject.object.or(self.subject.old);
            request_of(self.request, self.subject.invocation, object)
        })
    }

    fn request_resource(&self) -> Question {
        let request = self.request;
        Question {
            group: request.resource.group.clone(),
            resource: request.resource.resource.clone(),
            subresource: request.subresource.to_owned(),
            namespace: request.namespace.to_owned(),
            name: request.name.to_owned(),
            ..Question::default()
        }
    }
}

fn whole(object: Option<&Object>) -> Value<'_> {
    object.map_or(Value::Null, |object| Value::Map(Map::Json(&object.body, Shape::Map(&DYN))))
}

impl<'a> Activation<'a> for Scope<'a> {
    fn global(&self, place: usize) -> Result<Value<'a>, Error> {
        Ok(match place {
            slot::OBJECT => whole(self.subject.object),
            slot::OLD_OBJECT => whole(self.subject.old),
            slot::PARAMS => whole(self.params),
            slot::VARIABLES => Value::Variables,
            slot::REQUEST => from_json(self.review(), &REQUEST)?,
            slot::NAMESPACE_OBJECT => match (self.subject.namespace, &NAMESPACE.kind) {
                (Some(namespace), celx::types::TypeKind::Object(shape)) => {
                    Value::Map(Map::Json(&namespace.body, Shape::Object(shape)))
                }
                _ => Value::Null,
            },
            slot::AUTHORIZER => Node::authorizer(self.answers),
            slot::REQUEST_RESOURCE => Node::request_resource(self.request_resource(), self.answers),
            _ => return Err(Error::eval("no such attribute")),
        })
    }

    fn variable(&self, name: &str, _meter: &mut Meter) -> Result<Value<'a>, Error> {
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        let found = self.variables.iter().find(|variable| variable.name == name);
        let variable = found.ok_or_else(|| Error::eval(format!("no such key: {name}")))?;
        let result = match &variable.expression.program {
            Ok(program) => {
                let mut meter = Meter::new(CALL_LIMIT);
                let result = program.eval(self, &mut meter);
                self.extra.set(self.extra.get().saturating_add(meter.used));
                // A chain of variables must not be worked off when the budget is long spent.
                if self.extra.get() > TOTAL_LIMIT {
                    return Err(Error::CostExceeded);
                }
                match result {
                    Err(Error::Pending(question)) => return Err(Error::Pending(question)),
                    Err(error) => Err(Error::eval(format!("composited variable {name:?} fails to evaluate: {error}"))),
                    Ok(value) => Ok(value),
                }
            }
            Err(error) => Err(Error::eval(format!("composited variable {name:?} fails to compile: {error}"))),
        };
        self.known.borrow_mut().insert(&variable.name, result.clone());
        result
    }
}
