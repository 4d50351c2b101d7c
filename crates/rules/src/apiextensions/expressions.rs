//! `x-kubernetes-validations` of a definition's schema: they compile, and cannot cost too much.

use celx::crd::{RULE_LIMIT, Rule, SCHEMA_LIMIT, field_path};
use celx::schema::{Declared, MAX_REQUEST, declare};
use meta::field::{Error, Path};
use serde_json::Value;

use crate::C;

/// What the rules of one schema may cost together.
#[derive(Default)]
struct Total {
    cost: u64,
    /// The most expensive expressions.
    most: Vec<(Path, u64)>,
}

/// Where in a schema a walk is.
#[derive(Clone)]
struct Place {
    /// How often the values may occur in an object; `None` without a bound.
    count: Option<u64>,
    /// The list whose items cannot be matched with old ones, when the place is within one.
    uncorrelated: Option<Path>,
    /// Whether values are resources.
    root: bool,
}

/// Checks all rules of a schema.
pub(super) fn validate(schema: &C) {
    let mut total = Total::default();
    walk(schema, &Place { count: Some(1), uncorrelated: None, root: true }, &mut total);
    if total.cost > SCHEMA_LIMIT {
        for (path, _) in &total.most {
            let word = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            schema.sink().push(Error::forbidden(path, word));
        }
        let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        schema.forbidden(too_expensive(name, total.cost, SCHEMA_LIMIT));
    }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let excess = cost as f64 / limit as f64;
    let factor = match excess {
        _ if excess > 100.0 => "more than 100x".to_owned(),
        _ if excess < 1.5 => format!("{excess:.6}x"),
        _ => format!("{excess:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

fn bound(parent: Option<u64>, schema: &C, field: &str) -> Option<u64> {
    let most = schema.get(field).i64().and_then(|most| u64::try_from(most).ok())?;
    Some(parent?.saturating_mul(most))
}

fn walk(schema: &C, place: &Place, total: &mut Total) {
    let embedded = |child: &C| child.get("x-kubernetes-embedded-resource").is_true();
    let properties = schema.get("properties");
    for (_, child) in properties.entries() {
        walk(&child, &Place { root: embedded(&child), ..place.clone() }, total);
    }
    let more = schema.get("additionalProperties");
    if more.value().is_some_and(Value::is_object) {
        let count = bound(place.count, schema, "maxProperties");
        walk(&more, &Place { count, root: embedded(&more), ..place.clone() }, total);
    }
    let items = schema.get("items");
    if items.exists() {
        let count = bound(place.count, schema, "maxItems");
        let keyed = schema.get("x-kubernetes-list-type").str() == "map";
        let uncorrelated = place.uncorrelated.clone().or_else(|| (!keyed).then(|| schema.path()));
        walk(&items, &Place { count, uncorrelated, root: embedded(&items) }, total);
    }
    let rules = schema.get("x-kubernetes-validations");
    if rules.is_empty() {
        return;
    }
    let Some(declared) = schema.value().and_then(|schema| declare(schema, place.root)) else {
        let word = "internal error: failed to retrieve type information for x-kubernetes-validations";
        schema.sink().push(Error::internal(&rules.path(), word));
        return;
    };
    for rule in rules.items() {
        check(&rule, schema, &declared, place, total);
    }
}

fn check(rule: &C, schema: &C, declared: &Declared, place: &Place, total: &mut Total) {
    let compiled = Rule::compile(&rule.value_or_null(), &declared.ty);
    let count = place.count.unwrap_or(MAX_REQUEST / (declared.min_size + 1));
    let costs = [
        ("rule", "estimated rule cost", compiled.cost().saturating_mul(count)),
        ("messageExpression", "estimated messageExpression cost", compiled.message_cost()),
    ];
    for (field, name, cost) in costs {
        if cost > RULE_LIMIT {
            rule.get(field).forbidden(too_expensive(name, cost, RULE_LIMIT));
        }
        total.cost = total.cost.saturating_add(cost);
        total.most.push((rule.get(field).path(), cost));
    }
    total.most.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
    total.most.truncate(4);
    if let Err(detail) = &compiled.program {
        rule.get("rule").invalid_value(rule.value_or_null(), detail.as_str());
    }
    if let Some(Err(detail)) = &compiled.message_expression {
        rule.get("messageExpression").invalid_value(rule.value_or_null(), detail.as_str());
    }
    match (&place.uncorrelated, compiled.uses_old_self) {
        (Some(list), true) => rule
            .get("rule")
            .invalid(format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}")),
        (None, true) => {}
        (_, false) if compiled.program.is_ok() && rule.get("optionalOldSelf").exists() => {
            rule.get("optionalOldSelf").invalid("may not be set if oldSelf is not used in rule");
        }
        (_, false) => {}
    }
    let path = rule.get("fieldPath");
    if !path.is_zero() && field_path(path.str().trim(), &schema.value_or_null()).is_none() {
        path.invalid("must be a valid path");
    }
}
