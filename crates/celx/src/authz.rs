//! The authorizer in expressions.
//!
//! An authorizer answers asynchronously and an evaluation does not wait. So a check that was not answered yet ends the
//! evaluation with [`Error::Pending`]; the caller asks, keeps the answer, and evaluates again.

use std::rc::Rc;

use crate::error::Error;
use crate::value::Value;

/// A question to the authorizer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Question {
    /// Namespace and name of a service account; otherwise the user of the request is meant.
    pub service_account: Option<(String, String)>,
    /// A path; otherwise the question is about a resource.
    pub path: Option<String>,
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    pub field_selector: String,
    pub label_selector: String,
    pub verb: String,
}

/// An answer of the authorizer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Answer {
    pub allowed: bool,
    pub reason: String,
    /// The authorizer failed.
    pub error: Option<String>,
}

/// Answers known so far.
pub trait Answers {
    /// The answer, if it is known.
    fn answer(&self, question: &Question) -> Option<Answer>;
}

/// How far a question has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Stage {
    Authorizer,
    Path,
    Group,
    Resource,
}

/// A question being built, or its answer. There are few at a time: a box would cost more than the room.
#[allow(clippy::large_enum_variant)]
#[derive(Clone)]
pub enum Node<'a> {
    /// A question being built.
    #[allow(missing_docs)]
    Asking { stage: Stage, question: Question, answers: &'a dyn Answers },
    /// Its answer.
    Decided(Answer),
}

impl std::fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name())
    }
}

impl<'a> Node<'a> {
    /// The variable `authorizer`.
    pub fn authorizer(answers: &'a dyn Answers) -> Value<'a> {
        Self::asking(Stage::Authorizer, Question::default(), answers)
    }

    /// The variable `authorizer.requestResource`.
    pub fn request_resource(question: Question, answers: &'a dyn Answers) -> Value<'a> {
        Self::asking(Stage::Resource, question, answers)
    }

    fn asking(stage: Stage, question: Question, answers: &'a dyn Answers) -> Value<'a> {
        Value::Authz(Rc::new(Node::Asking { stage, question, answers }))
    }

    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Node::Asking { stage: Stage::Authorizer, .. } => "kubernetes.authorization.Authorizer",
            Node::Asking { stage: Stage::Path, .. } => "kubernetes.authorization.PathCheck",
            Node::Asking { stage: Stage::Group, .. } => "kubernetes.authorization.GroupCheck",
            Node::Asking { stage: Stage::Resource, .. } => "kubernetes.authorization.ResourceCheck",
            Node::Decided(_) => "kubernetes.authorization.Decision",
        }
    }
}

/// `path`, `group`, `serviceAccount`, `resource` and what narrows a resource.
pub fn step<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Authz(node) = &args[0] else { return Err(Error::no_overload()) };
    let Node::Asking { stage, question, answers } = &**node else { return Err(Error::no_overload()) };
    let text = args[1].str()?.to_owned();
    let mut question = question.clone();
    let next = match (stage, name) {
        (Stage::Authorizer, "path") => {
            question.path = Some(text);
            Stage::Path
        }
        (Stage::Authorizer, "group") => {
            question.group = text;
            Stage::Group
        }
        (Stage::Authorizer, "serviceAccount") => {
            question.service_account = Some((text, args[2].str()?.to_owned()));
            Stage::Authorizer
        }
        (Stage::Group, "resource") => {
            question.resource = text;
            Stage::Resource
        }
        (Stage::Resource, _) => {
            match name {
                "subresource" => question.subresource = text,
                "namespace" => question.namespace = text,
                "name" => question.name = text,
                "fieldSelector" => question.field_selector = text,
                _ => question.label_selector = text,
            }
            Stage::Resource
        }
        _ => return Err(Error::no_overload()),
    };
    Ok(Node::asking(next, question, *answers))
}

/// `check(verb)`.
pub fn check<'a>(_: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Authz(node) = &args[0] else { return Err(Error::no_overload()) };
    let Node::Asking { stage: Stage::Path | Stage::Resource, question, answers } = &**node else {
        return Err(Error::no_overload());
    };
    let mut question = question.clone();
    question.verb = args[1].str()?.to_owned();
    match answers.answer(&question) {
        Some(answer) => Ok(Value::Authz(Rc::new(Node::Decided(answer)))),
        None => Err(Error::Pending(Box::new(question))),
    }
}

/// What a decision says.
pub fn answer<'a>(name: &str, args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Value::Authz(node) = &args[0] else { return Err(Error::no_overload()) };
    let Node::Decided(answer) = &**node else { return Err(Error::no_overload()) };
    Ok(match name {
        "allowed" => Value::Bool(answer.allowed),
        "errored" => Value::Bool(answer.error.is_some()),
        "reason" => Value::text(answer.reason.as_str()),
        _ => Value::text(answer.error.as_deref().unwrap_or("")),
    })
}
