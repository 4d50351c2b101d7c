//! Rules of custom resources: `x-kubernetes-validations`.
//!
//! The one place that both the validation of definitions and that of objects use, so that what was accepted is what is
//! enforced.

use serde_json::Value as Json;

use crate::env::{Env, Program};
use crate::estimate::highest_cost;
use crate::types::{Type, TypeKind};

/// Place of `self`.
pub const SELF: usize = 0;
/// Place of `oldSelf`.
pub const OLD_SELF: usize = 1;
/// What one rule may cost at most by estimate, upstream's number.
pub const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of one schema may cost together by estimate, upstream's number.
pub const SCHEMA_LIMIT: u64 = 100_000_000;

/// A rule, compiled.
#[derive(Debug, Clone)]
pub struct Rule {
    /// As written.
    pub source: String,
    /// What it says when it fails; may be empty.
    pub message: String,
    /// The `reason` of failures, such as `FieldValueForbidden`; may be empty.
    pub reason: String,
    /// The field to name in failures, below the rule's own.
    pub field_path: String,
    /// Whether `oldSelf` is optional, and the rule evaluated without it, too.
    pub optional_old_self: bool,
    /// Whether it names `oldSelf`: a transition rule.
    pub uses_old_self: bool,
    /// The rule, or why it does not compile.
    pub program: Result<Program, String>,
    /// The expression for the message.
    pub message_expression: Option<Result<Program, String>>,
}

fn text(rule: &Json, field: &str) -> String {
    rule.get(field).and_then(Json::as_str).unwrap_or_default().trim().to_owned()
}

impl Rule {
    /// Compiles a rule on values of a type.
    pub fn compile(rule: &Json, ty: &Type) -> Self {
        let optional_old_self = rule.get("optionalOldSelf").and_then(Json::as_bool).unwrap_or(false);
        let old = if optional_old_self { Type::optional(ty.clone()) } else { ty.clone() };
        let env = Env::new().with("self", ty.clone()).with("oldSelf", old);
        let source = text(rule, "rule");
        let program = env.compile(&source).map_err(|issues| format!("compilation failed: {issues}"));
        let program = program.and_then(|program| match program.output().kind {
            TypeKind::Bool => Ok(program),
            _ => Err("cel expression must evaluate to a bool".to_owned()),
        });
        let message = text(rule, "messageExpression");
        let message_expression = (!message.is_empty() && program.is_ok()).then(|| {
            let program = env.compile(&message);
            let program = program.map_err(|issues| format!("messageExpression compilation failed: {issues}"))?;
            match program.output().kind {
                TypeKind::Str => Ok(program),
                _ => Err("messageExpression must evaluate to a string".to_owned()),
            }
        });
        Self {
            message: text(rule, "message"),
            reason: text(rule, "reason"),
            field_path: text(rule, "fieldPath"),
            uses_old_self: program.as_ref().is_ok_and(|program| program.uses(OLD_SELF)),
            optional_old_self,
            program,
            message_expression,
            source,
        }
    }

    /// The highest estimated cost of one evaluation of the rule.
    pub fn cost(&self) -> u64 {
        self.program.as_ref().map_or(0, highest_cost)
    }

    /// The highest estimated cost of its message.
    pub fn message_cost(&self) -> u64 {
        self.message_expression.iter().flatten().map(highest_cost).max().unwrap_or(0)
    }

    /// The rule in the words of its failures.
    pub fn shown(&self) -> &str {
        if self.message.is_empty() { &self.source } else { &self.message }
    }

    /// What a failure says without a message expression.
    pub fn default_message(&self) -> String {
        if self.message.is_empty() { format!("failed rule: {}", self.source) } else { self.message.clone() }
    }
}

/// Steps of a rule's `fieldPath`: `.a.b` or `['a b']`, each a name and whether it is a declared property. `None` when
/// the path does not lead to a field of the schema.
pub fn field_path(path: &str, schema: &Json) -> Option<Vec<(String, bool)>> {
    let mut steps = Vec::new();
    let (mut rest, mut schema) = (path, schema);
    while !rest.is_empty() {
        let name;
        if let Some(after) = rest.strip_prefix("['") {
            let mut end = None;
            let bytes = after.as_bytes();
            for at in 0..bytes.len() {
                if bytes[at] == b'\'' && (at == 0 || bytes[at - 1] != b'\\') {
                    end = Some(at);
                    break;
                }
            }
            let end = end?;
            name = unescape(&after[..end])?;
            rest = after[end + 1..].strip_prefix(']')?;
        } else {
            let after = rest.strip_prefix('.')?;
            let end = after.find(['.', '[']).unwrap_or(after.len());
            name = after[..end].to_owned();
            rest = &after[end..];
        }
        let property = schema.get("properties").filter(|properties| properties.is_object());
        let (next, named) = match property {
            Some(properties) => (properties.get(&name)?, true),
            None => (schema.get("additionalProperties").filter(|more| more.is_object())?, false),
        };
        steps.push((name, named));
        schema = next;
    }
    Some(steps)
}

fn unescape(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match chars.next()? {
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            c @ ('\'' | '\\') => c,
            _ => return None,
        });
    }
    Some(out)
}
