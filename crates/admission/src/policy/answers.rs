//! Answers of the authorizer for expressions.

use std::collections::HashMap;

use auth_api::{Attributes, Decision, UserInfo, groups};
use celx::authz::{Answer, Answers, Question};
use meta::selector::{FieldSelector, LabelSelector};

use crate::plugin::Request;

/// Most different questions of one request; costs allow far fewer.
const MOST: usize = 256;

/// What was answered during one request.
#[derive(Default)]
pub(super) struct Known(HashMap<Question, Answer>);

impl Answers for Known {
    fn answer(&self, question: &Question) -> Option<Answer> {
        self.0.get(question).cloned()
    }
}

impl Known {
    /// Evaluates until no question is open.
    pub(super) async fn resolve<T>(
        &mut self,
        request: &Request<'_>,
        evaluate: impl Fn(&Known) -> Result<T, Box<Question>>,
    ) -> Result<T, String> {
        loop {
            let question = match evaluate(self) {
                Ok(result) => return Ok(result),
                Err(question) => *question,
            };
            if self.0.len() >= MOST {
                return Err("too many authorization checks".into());
            }
            let answer = ask(request, &question).await;
            self.0.insert(question, answer);
        }
    }
}

fn user_of(request: &Request<'_>, question: &Question) -> UserInfo {
    let Some((namespace, name)) = &question.service_account else { return request.user.clone() };
    let of_namespace = format!("{}{namespace}", groups::SERVICE_ACCOUNTS_PREFIX);
    let member = [groups::SERVICE_ACCOUNTS, of_namespace.as_str(), groups::AUTHENTICATED];
    UserInfo::new(format!("system:serviceaccount:{namespace}:{name}"), &member)
}

async fn ask(request: &Request<'_>, question: &Question) -> Answer {
    let Some(authorizer) = &request.deps.authorizer else {
        return Answer { allowed: false, reason: String::new(), error: Some("no authorizer is configured".into()) };
    };
    let mut attributes = Attributes {
        user: user_of(request, question),
        verb: question.verb.clone(),
        resource_request: question.path.is_none(),
        path: question.path.clone().unwrap_or_default(),
        ..Attributes::default()
    };
    if question.path.is_none() {
        attributes.api_group = question.group.clone();
        attributes.api_version = "*".into();
        attributes.resource = question.resource.clone();
        attributes.subresource = question.subresource.clone();
        attributes.namespace = question.namespace.clone();
        attributes.name = question.name.clone();
        // A selector that cannot be read narrows nothing, as upstream.
        attributes.field_selector = parsed(&question.field_selector, |text| FieldSelector::parse(text).ok());
        attributes.label_selector = parsed(&question.label_selector, |text| LabelSelector::parse(text).ok());
    }
    match authorizer.authorize(&attributes).await {
        Ok((decision, reason)) => Answer { allowed: decision == Decision::Allow, reason, error: None },
        Err(error) => Answer { allowed: false, reason: String::new(), error: Some(error.to_string()) },
    }
}

fn parsed<T>(text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    if text.is_empty() { None } else { parse(text) }
}
