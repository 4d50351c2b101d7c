//! The order of merged lists: the patch's among its own items, the server's for the rest.

use serde_json::Value;

use super::lists::{element_is_map, merge};
use super::{DELETE, DIRECTIVE, ELEMENT_ORDER, Error, Meta, Tree, directive_key, type_name, without_directives};

/// Carries out every `$setElementOrder/field` of a patch, together with the list it orders.
pub(super) fn merge_ordered(original: &mut Tree, patch: &mut Tree, meta: &Meta) -> Result<(), Error> {
    let directives: Vec<String> = patch.keys().filter(|k| k.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = patch.remove(&directive).unwrap_or_default();
        let Value::Array(order) = order else {
            return Err(Error::BadType("[]interface {}", type_name(&order)));
        };
        let rest = directive.strip_prefix(ELEMENT_ORDER).unwrap_or_default();
        let key = directive_key(rest, &directive)?.to_owned();
        let old = list_of(original.get(&key))?;
        let new = list_of(patch.get(&key))?;
        let field = meta.field(&key)?;
        check(new.as_deref().unwrap_or_default(), &order, field.merge_key)?;
        let server = old.clone().unwrap_or_default();
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => match without_directives(Value::Array(new)) {
                Value::Array(items) => items,
                _ => Vec::new(),
            },
            (Some(old), Some(new)) => merge(old, new, &field, false)?,
        };
        element_is_map(&merged, &[])?;
        original.insert(key.clone(), Value::Array(normalise(merged, &order, &server, field.merge_key)));
        patch.remove(&key);
    }
    Ok(())
}

fn list_of(value: Option<&Value>) -> Result<Option<Vec<Value>>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(items)) => Ok(Some(items.clone())),
        Some(other) => Err(Error::BadType("[]interface {}", type_name(other))),
    }
}

/// The items of the patch must come in the order that the directive states.
fn check(patch: &[Value], order: &[Value], key: &str) -> Result<(), Error> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let marked = |item: &Value| item.get(DIRECTIVE).is_some();
    let mut left = patch.iter().filter(|item| !marked(item)).peekable();
    for wanted in order {
        match left.peek() {
            Some(item) if same(item, wanted, key) => {
                left.next();
            }
            Some(_) => {}
            None => break,
        }
    }
    let deleted = |item: &&Value| item.get(DIRECTIVE).and_then(Value::as_str) == Some(DELETE);
    if left.peek().is_some_and(|item| !deleted(item)) {
        let text = |items: &[Value]| Value::Array(items.to_vec()).to_string();
        return Err(Error::Order(text(patch), text(order)));
    }
    Ok(())
}

/// Whether two items are the same by key, or by value when there is none.
fn same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() { a == b } else { a.get(key).is_some() && a.get(key) == b.get(key) }
}

fn position(list: &[Value], item: &Value, key: &str) -> Option<usize> {
    list.iter().position(|other| same(other, item, key))
}

/// Sorts the merged items: those of the patch as `order` has them, the others as the server had them, interleaved where
/// the server's order tells how.
pub(super) fn normalise(merged: Vec<Value>, order: &[Value], server: &[Value], key: &str) -> Vec<Value> {
    let (mut patch, mut others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|item| position(order, item, key).is_some());
    patch.sort_by_key(|item| position(order, item, key));
    others.sort_by_key(|item| position(server, item, key).unwrap_or(usize::MAX));
    let mut out = Vec::with_capacity(patch.len() + others.len());
    let (mut left, mut right) = (others.into_iter().peekable(), patch.into_iter().peekable());
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return out,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(a), Some(b)) => match (position(server, a, key), position(server, b, key)) {
                (Some(a), Some(b)) => a < b,
                _ => false,
            },
        };
        out.extend(if take_left { left.next() } else { right.next() });
    }
}
