//! Match conditions: expressions that must all be true for a webhook or policy to be concerned.

use std::cell::OnceCell;

use celx::Value;
use celx::admission::{Has, Want, compile, env};
use celx::types::Type;
use meta::Object;
use rt::time::Instant;
use serde_json::Value as Json;

use super::answers::Known;
use super::evaluate::{Expression, Failure, Scope, Stop, Subject};
use crate::metrics::{Conditioned, metrics};
use crate::plugin::Request;

/// Upstream's budget for all conditions of one webhook or policy.
const BUDGET: u64 = 2_500_000;

/// Conditions, compiled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Conditions(Vec<Expression>);

impl Conditions {
    /// Compiles the conditions of a configuration.
    pub(crate) fn compile(list: &[Json], has: Has) -> Self {
        if list.is_empty() {
            return Self::default();
        }
        let env = env(has, Type::DYN, Type::DYN);
        let each = |condition: &Json| {
            let source = condition.get("expression").and_then(Json::as_str).unwrap_or_default().to_owned();
            Expression { program: compile(&env, &source, Want::Bool), source }
        };
        Self(list.iter().map(each).collect())
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all are true; one that is false decides, whatever fails.
    ///
    /// # Errors
    /// None is false, and these could not be evaluated.
    pub(crate) async fn hold(
        &self,
        request: &Request<'_>,
        subject: &Subject<'_>,
        params: Option<&Object>,
        of: Conditioned<'_>,
    ) -> Result<bool, Failure> {
        if self.is_empty() {
            return Ok(true);
        }
        let (mut answers, started) = (Known::default(), Instant::now());
        let outcome = answers
            .resolve(request, |answers| self.evaluate(request, subject, params, answers))
            .await
            .map_err(Failure::from)
            .and_then(|outcome| outcome);
        metrics().conditions(of, &outcome, started.elapsed());
        outcome
    }

    fn evaluate(
        &self,
        request: &Request<'_>,
        subject: &Subject<'_>,
        params: Option<&Object>,
        answers: &Known,
    ) -> Result<Result<bool, Failure>, Box<celx::authz::Question>> {
        let review = OnceCell::new();
        let scope = Scope::new(request, subject, params, &[], answers, &review);
        let mut budget = BUDGET;
        let mut failures = Vec::new();
        for expression in &self.0 {
            match scope.evaluate(expression, &mut budget) {
                Ok(Ok(Value::Bool(true))) => {}
                Ok(Ok(_)) => return Ok(Ok(false)),
                Ok(Err(failure)) => failures.push(failure),
                Err(Stop::Budget) => return Ok(Err(Failure::out_of_budget())),
                Err(Stop::Pending(question)) => return Err(question),
            }
        }
        Ok(match failures.len() {
            0 => Ok(true),
            1 => Err(failures.remove(0)),
            _ => {
                let messages: Vec<String> = failures.into_iter().map(|failure| failure.message).collect();
                Err(format!("[{}]", messages.join(", ")).into())
            }
        })
    }
}
