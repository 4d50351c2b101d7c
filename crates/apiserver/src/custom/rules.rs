//! `x-kubernetes-validations`: the rules of a schema, enforced on objects.
//!
//! Rules are compiled once per definition, into a tree that has only the parts of the schema with rules on or below them.
//! A transition rule runs where an old value can be matched with the new one. A rule that a value breaks which an update
//! did not change is let pass: objects must not become stuck when their definition gets stricter.

use std::collections::BTreeMap;

use celx::crd::{Rule, field_path};
use celx::schema::declare;
use celx::types::Type;
use celx::{CALL_LIMIT, Error as CelError, Meter, Program, TOTAL_LIMIT, Value as Cel, from_json};
use meta::field::{Error, Path};
use serde_json::{Map, Value};

/// Longest message that an expression may make, upstream's number.
const LONGEST_MESSAGE: usize = 5 * 1024;
const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// A part of a schema with rules on or below it.
#[derive(Debug)]
pub(super) struct Rules {
    ty: Type,
    kind: String,
    rules: Vec<(Rule, Option<Vec<(String, bool)>>)>,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    /// Of a list that is a map: by which fields its items are matched.
    keys: Option<Vec<String>>,
    /// Rules of the schema's `allOf`, on the same value.
    all_of: Vec<Rules>,
}

impl Rules {
    /// The rules of a schema; `None` when it has none.
    pub(super) fn compile(schema: &Value, root: bool) -> Option<Self> {
        Self::build(schema, schema, root)
    }

    /// The rules of `schema` on values that `node` describes: the schema itself, or one around it that has `schema` in its
    /// `allOf`, which says more about parts that `node` has.
    fn build(schema: &Value, node: &Value, root: bool) -> Option<Self> {
        let embedded =
            |child: &Value| child.get("x-kubernetes-embedded-resource").and_then(Value::as_bool).unwrap_or(false);
        let below = |field: &str| {
            let child = schema.get(field).filter(|child| child.is_object())?;
            let node = node.get(field).filter(|node| node.is_object())?;
            Self::build(child, node, embedded(node)).map(Box::new)
        };
        let nodes = node.get("properties").and_then(Value::as_object);
        let properties: BTreeMap<String, Self> = schema
            .get("properties")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(name, child)| {
                let node = nodes?.get(name)?;
                Some((name.clone(), Self::build(child, node, embedded(node))?))
            })
            .collect();
        let (additional, items) = (below("additionalProperties"), below("items"));
        let list = |field: &str| schema.get(field).and_then(Value::as_array).into_iter().flatten();
        let all_of: Vec<Self> = list("allOf").filter_map(|part| Self::build(part, node, root)).collect();
        let own: Vec<&Value> = list("x-kubernetes-validations").collect();
        if own.is_empty() && properties.is_empty() && additional.is_none() && items.is_none() && all_of.is_empty() {
            return None;
        }
        let ty = declare(node, root).map_or(Type::DYN, |declared| declared.ty);
        let rules = own.into_iter().map(|rule| Rule::compile(rule, &ty));
        let rules = rules.map(|rule| {
            let path = Some(&rule.field_path).filter(|path| !path.is_empty());
            let path = path.and_then(|path| field_path(path, node));
            (rule, path)
        });
        let text = |field: &str| node.get(field).and_then(Value::as_str).unwrap_or("");
        let keys = node.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
        Some(Self {
            rules: rules.collect(),
            ty,
            kind: text("type").to_owned(),
            properties,
            additional,
            items,
            keys: keys
                .filter(|_| text("x-kubernetes-list-type") == "map")
                .map(|keys| keys.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
            all_of,
        })
    }

    /// What the rules find wrong with an object.
    pub(super) fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Error> {
        self.walk(object, old).errors
    }

    /// What they find wrong with values that the update did not change: it is let pass, with warnings.
    pub(super) fn warnings(&self, object: &Value, old: &Value) -> Vec<String> {
        self.walk(object, Some(old)).let_pass.iter().map(ToString::to_string).collect()
    }

    fn walk(&self, object: &Value, old: Option<&Value>) -> Check {
        let mut check = Check { errors: Vec::new(), let_pass: Vec::new(), budget: TOTAL_LIMIT };
        let place = Place { unchanged: false, correlated: true, path: Path::default() };
        // The end of the budget ends the walk; its error is among the others.
        let _ = check.value(self, object, old, &place);
        check
    }
}

struct Check {
    errors: Vec<Error>,
    let_pass: Vec<Error>,
    budget: u64,
}

/// Where the walk is.
struct Place {
    /// Whether the nearest part (this one or one above) that has an old value equals it.
    unchanged: bool,
    /// Whether old values count for that; not below an `allOf`, as upstream.
    correlated: bool,
    path: Path,
}

impl Place {
    fn at(&self, path: Path) -> Self {
        Self { path, ..*self }
    }
}

/// The budget is spent.
struct Spent;

/// The item of an old list that has the same keys.
fn matching<'v>(old: &'v [Value], item: &Value, keys: &[String]) -> Option<&'v Value> {
    old.iter().find(|other| keys.iter().all(|key| other.get(key) == item.get(key)))
}

impl Check {
    /// Walks over a value. `above` has the value's path, and what is known from the parts above.
    fn value(&mut self, rules: &Rules, value: &Value, old: Option<&Value>, above: &Place) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        let unchanged = match old {
            Some(old) if above.correlated => old == value,
            _ => above.unchanged,
        };
        let place = Place { unchanged, correlated: above.correlated, path: above.path.clone() };
        for (rule, below) in &rules.rules {
            self.rule(rules, (rule, below.as_deref()), value, old, &place)?;
        }
        for part in &rules.all_of {
            self.value(part, value, old, &Place { correlated: false, path: place.path.clone(), ..*above })?;
        }
        match value {
            Value::Object(map) => self.map(rules, map, old.and_then(Value::as_object), &place),
            Value::Array(items) => {
                let Some(child) = &rules.items else { return Ok(()) };
                let old = old.and_then(Value::as_array);
                for (index, item) in items.iter().enumerate() {
                    let before = rules.keys.as_ref().zip(old).and_then(|(keys, old)| matching(old, item, keys));
                    self.value(child, item, before, &place.at(place.path.index(index)))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn map(
        &mut self,
        rules: &Rules,
        map: &Map<String, Value>,
        old: Option<&Map<String, Value>>,
        place: &Place,
    ) -> Result<(), Spent> {
        if rules.properties.is_empty() && rules.additional.is_none() {
            return Ok(());
        }
        for (key, value) in map {
            let before = old.and_then(|old| old.get(key));
            if let Some(child) = rules.properties.get(key) {
                self.value(child, value, before, &place.at(place.path.child(key)))?;
            } else if let Some(child) = &rules.additional {
                self.value(child, value, before, &place.at(place.path.key(key)))?;
            }
        }
        Ok(())
    }

    fn invalid(&mut self, path: &Path, kind: &str, detail: impl Into<String>) {
        self.errors.push(Error::invalid(path, kind, detail));
    }

    fn spend(&mut self, used: u64) -> Result<(), Spent> {
        self.budget = self.budget.checked_sub(used).ok_or(Spent)?;
        Ok(())
    }

    fn rule(
        &mut self,
        rules: &Rules,
        (rule, below): (&Rule, Option<&[(String, bool)]>),
        value: &Value,
        old: Option<&Value>,
        place: &Place,
    ) -> Result<(), Spent> {
        let (kind, path) = (rules.kind.as_str(), &place.path);
        let program = match &rule.program {
            Ok(program) => program,
            Err(error) => {
                self.invalid(path, kind, format!("rule compile error: {error}"));
                return Ok(());
            }
        };
        if rule.source.is_empty() || (rule.uses_old_self && old.is_none() && !rule.optional_old_self) {
            return Ok(());
        }
        let values = match variables(rule, &rules.ty, value, old) {
            Ok(values) => values,
            Err(error) => {
                self.invalid(path, kind, format!("{error} evaluating rule: {}", rule.shown()));
                return Ok(());
            }
        };
        match self.evaluate(program, &values) {
            Err(Spent) => {
                self.invalid(path, kind, OUT_OF_BUDGET);
                Err(Spent)
            }
            Ok(Ok(Cel::Bool(true))) => Ok(()),
            Ok(Ok(_)) => self.failed(rules, (rule, below), &values, value, place),
            Ok(Err(CelError::CostExceeded)) => {
                let why = "no further validation rules will be run due to call cost exceeds limit for rule";
                self.invalid(path, kind, format!("'{}': {why}: {}", CelError::CostExceeded, rule.shown()));
                Err(Spent)
            }
            Ok(Err(error)) => {
                let error = error.to_string();
                let detail = if error.starts_with("no such overload") {
                    let why = "call arguments did not match a supported operator, function or macro signature for rule";
                    format!("'{error}': {why}: {}", rule.shown())
                } else {
                    format!("{error} evaluating rule: {}", rule.shown())
                };
                self.invalid(path, kind, detail);
                Ok(())
            }
        }
    }

    fn evaluate<'a>(&mut self, program: &'a Program, values: &[Cel<'a>]) -> Result<Result<Cel<'a>, CelError>, Spent> {
        let mut meter = Meter::new(CALL_LIMIT);
        let result = program.eval(&values, &mut meter);
        if !matches!(result, Err(CelError::CostExceeded)) {
            self.spend(meter.used)?;
        }
        Ok(result)
    }

    /// A rule is false.
    fn failed<'a>(
        &mut self,
        rules: &Rules,
        (rule, below): (&'a Rule, Option<&[(String, bool)]>),
        values: &[Cel<'a>],
        value: &Value,
        place: &Place,
    ) -> Result<(), Spent> {
        let path = &place.path;
        let worded = match &rule.message_expression {
            Some(Ok(program)) => match self.evaluate(program, values) {
                Err(Spent) => {
                    let why = "messageExpression evaluation failed due to running out of cost budget, no further \
                               validation rules will be run";
                    self.invalid(path, &rules.kind, why);
                    return Err(Spent);
                }
                Ok(Ok(Cel::Str(text))) => Some(text.as_str().trim().to_owned()),
                Ok(_) => None,
            },
            _ => None,
        };
        let usable = |text: &String| !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
        let detail = worded.filter(usable).unwrap_or_else(|| rule.default_message());
        let path = below.into_iter().flatten().fold(path.clone(), |path, (name, named)| match named {
            true => path.child(name),
            false => path.key(name),
        });
        let shown: Value = match value {
            Value::Object(_) | Value::Array(_) => rules.kind.as_str().into(),
            scalar => scalar.clone(),
        };
        let error = match rule.reason.as_str() {
            "FieldValueForbidden" => Error::forbidden(&path, detail),
            "FieldValueRequired" => Error::required(&path, detail),
            "FieldValueDuplicate" => Error::duplicate(&path, shown),
            _ => Error::invalid(&path, shown, detail),
        };
        let pass = place.unchanged && !rule.uses_old_self;
        if pass {
            self.let_pass.push(error)
        } else {
            self.errors.push(error)
        }
        Ok(())
    }
}

fn variables<'a>(
    rule: &Rule,
    ty: &'a Type,
    value: &'a Value,
    old: Option<&'a Value>,
) -> Result<Vec<Cel<'a>>, CelError> {
    let current = from_json(value, ty)?;
    let before = old.map(|old| from_json(old, ty)).transpose()?;
    let before = match (rule.optional_old_self, before) {
        (true, before) => Cel::Optional(before.map(std::rc::Rc::new)),
        (false, Some(before)) => before,
        (false, None) => return Ok(vec![current]),
    };
    Ok(vec![current, before])
}

#[cfg(test)]
mod tests;
