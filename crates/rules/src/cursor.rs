//! A cursor over an object's tree: a value together with the path that leads to it.
//!
//! Validation reads like the rule it states: `c.get("name").required()`,
//! `c.get("type").one_of(&["A", "B"])`. Cursors live on the stack and link to their parent, so that a
//! path is spelled out only when there is an error to report; a valid object costs no path strings.

use std::cell::RefCell;

use meta::field::{Error, Path};
use serde_json::Value;

use crate::Tree;

/// Where findings go; one per validation.
#[derive(Debug, Default)]
pub struct Sink(RefCell<Vec<Error>>);

impl Sink {
    /// Adds a finding.
    pub fn push(&self, error: Error) {
        self.0.borrow_mut().push(error);
    }

    /// How many findings there are.
    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The findings, in the order they were made.
    pub fn into_errors(self) -> Vec<Error> {
        self.0.into_inner()
    }
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    Field(&'p str),
    Index(usize),
    Key(&'p str),
}

/// A place in a tree; the value may be absent. JSON `null` counts as absent.
///
/// `'p` is the life of the chain of cursors (the path), `'v` that of the tree.
#[derive(Debug, Clone, Copy)]
pub struct C<'p, 'v> {
    value: Option<&'v Value>,
    /// The whole object, at the root of one that is no [`Value`].
    body: Option<&'v Tree>,
    parent: Option<&'p C<'p, 'v>>,
    step: Step<'p>,
    sink: &'p Sink,
}

impl<'p, 'v> C<'p, 'v> {
    /// The root of a tree; the empty path.
    pub fn root(value: &'v Value, sink: &'p Sink) -> Self {
        Self::at_root(Some(value), sink)
    }

    /// The root of an object's body.
    pub fn body(body: &'v Tree, sink: &'p Sink) -> Self {
        Self { value: None, body: Some(body), parent: None, step: Step::Root, sink }
    }

    /// A root whose value may be absent.
    pub fn at_root(value: Option<&'v Value>, sink: &'p Sink) -> Self {
        Self { value: value.filter(|v| !v.is_null()), body: None, parent: None, step: Step::Root, sink }
    }

    /// A child field; a dotted name descends several levels (`"spec.containers"`).
    pub fn get<'a>(&'a self, name: &'a str) -> C<'a, 'v> {
        let mut steps = name.split('.');
        let start = match self.body {
            Some(body) => steps.next().and_then(|first| body.get(first)),
            None => self.value,
        };
        let value = start.and_then(|v| steps.try_fold(v, |v, step| v.get(step)));
        C {
            value: value.filter(|v| !v.is_null()),
            body: None,
            parent: Some(self),
            step: Step::Field(name),
            sink: self.sink,
        }
    }

    /// An entry of a map, printed as `path[key]`.
    pub fn key<'a>(&'a self, key: &'a str) -> C<'a, 'v> {
        let value = self.value.and_then(|v| v.get(key)).filter(|v| !v.is_null());
        C { value, body: None, parent: Some(self), step: Step::Key(key), sink: self.sink }
    }

    /// An element of a list.
    pub fn index<'a>(&'a self, index: usize) -> C<'a, 'v> {
        let value = self.value.and_then(|v| v.get(index));
        C { value, body: None, parent: Some(self), step: Step::Index(index), sink: self.sink }
    }

    /// The elements of a list; none when absent.
    pub fn items<'a>(&'a self) -> impl Iterator<Item = C<'a, 'v>> {
        self.array().iter().enumerate().map(move |(i, value)| C {
            value: Some(value),
            body: None,
            parent: Some(self),
            step: Step::Index(i),
            sink: self.sink,
        })
    }

    /// The entries of a map; none when absent.
    pub fn entries<'a>(&'a self) -> impl Iterator<Item = (&'v str, C<'a, 'v>)>
    where
        'v: 'a,
    {
        self.body.or_else(|| self.value.and_then(Value::as_object)).into_iter().flatten().map(move |(key, value)| {
            (
                key.as_str(),
                C { value: Some(value), body: None, parent: Some(self), step: Step::Key(key), sink: self.sink },
            )
        })
    }

    /// The same place with another value in it, for checks on a changed copy.
    pub fn with_value<'x>(&self, value: &'x Value) -> C<'p, 'x>
    where
        'v: 'x,
    {
        C { value: Some(value), body: None, parent: self.parent, step: self.step, sink: self.sink }
    }

    /// The raw value.
    pub fn value(&self) -> Option<&'v Value> {
        self.value
    }

    /// The raw value, `null` when absent.
    pub fn value_or_null(&self) -> Value {
        self.value.cloned().unwrap_or(Value::Null)
    }

    /// Whether a value is there.
    pub fn exists(&self) -> bool {
        self.value.is_some()
    }

    /// The string, empty when absent.
    pub fn str(&self) -> &'v str {
        self.value.and_then(Value::as_str).unwrap_or("")
    }

    /// The integer.
    pub fn i64(&self) -> Option<i64> {
        self.value.and_then(Value::as_i64)
    }

    /// The integer, 0 when absent.
    pub fn int(&self) -> i64 {
        self.i64().unwrap_or(0)
    }

    /// The boolean.
    pub fn bool(&self) -> Option<bool> {
        self.value.and_then(Value::as_bool)
    }

    /// Whether the boolean is there and true.
    pub fn is_true(&self) -> bool {
        self.bool() == Some(true)
    }

    /// The list, empty when absent.
    pub fn array(&self) -> &'v [Value] {
        self.value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of list elements, map entries or string bytes; 0 when absent.
    pub fn len(&self) -> usize {
        match self.value {
            Some(Value::Array(list)) => list.len(),
            Some(Value::Object(map)) => map.len(),
            Some(Value::String(text)) => text.len(),
            _ => 0,
        }
    }

    /// Whether Go's zero value stands here: absent, `""`, `0`, `false`, an empty list or map.
    pub fn is_zero(&self) -> bool {
        match self.value {
            None | Some(Value::Null) => true,
            Some(Value::Bool(b)) => !b,
            Some(Value::Number(n)) => n.as_i64() == Some(0),
            _ => self.is_empty(),
        }
    }

    /// Whether both places hold the same; absent equals an empty list, map or string.
    pub fn same(&self, other: &C<'_, '_>) -> bool {
        same_value(self.value, other.value)
    }

    /// The path spelled out.
    pub fn path(&self) -> Path {
        let base = self.parent.map(C::path).unwrap_or_default();
        match self.step {
            Step::Root => base,
            Step::Field(name) => base.child(name),
            Step::Index(index) => base.index(index),
            Step::Key(key) => base.key(key),
        }
    }

    /// Where findings go.
    pub fn sink(&self) -> &'p Sink {
        self.sink
    }

    // === findings ===

    /// Reports `Invalid value` with the value that stands here.
    pub fn invalid(&self, detail: impl Into<String>) {
        self.sink.push(Error::invalid(&self.path(), self.value_or_null(), detail));
    }

    /// Reports `Invalid value` with another value than the one here.
    pub fn invalid_value(&self, value: impl Into<Value>, detail: impl Into<String>) {
        self.sink.push(Error::invalid(&self.path(), value, detail));
    }

    /// Reports each message as `Invalid value`.
    pub fn invalid_all(&self, details: Vec<String>) {
        for detail in details {
            self.invalid(detail);
        }
    }

    /// Reports `Required value`.
    pub fn missing(&self, detail: &str) {
        self.sink.push(Error::required(&self.path(), detail));
    }

    /// Reports `Forbidden`.
    pub fn forbidden(&self, detail: impl Into<String>) {
        self.sink.push(Error::forbidden(&self.path(), detail));
    }

    /// Reports `Duplicate value` with the value that stands here.
    pub fn duplicate(&self) {
        self.sink.push(Error::duplicate(&self.path(), self.value_or_null()));
    }

    /// Reports `Unsupported value`.
    pub fn not_supported(&self, valid: &[&str]) {
        self.sink.push(Error::not_supported(&self.path(), self.str(), valid));
    }

    /// Reports `Not found` with the value that stands here.
    pub fn not_found(&self) {
        self.sink.push(Error::not_found(&self.path(), self.value_or_null()));
    }

    // === checks: each reports and says whether all was well ===

    /// A value that must not be empty; upstream's `Required value` with no further word.
    pub fn required(&self) -> bool {
        self.required_because("")
    }

    /// A value that must not be empty.
    pub fn required_because(&self, detail: &str) -> bool {
        let there = match self.value {
            Some(Value::Number(_) | Value::Bool(_)) => true,
            _ => !self.is_zero(),
        };
        if !there {
            self.missing(detail);
        }
        there
    }

    /// One of the known strings, absent allowed.
    pub fn optional_one_of(&self, valid: &[&str]) -> bool {
        self.is_zero() || self.one_of(valid)
    }

    /// One of the known strings; absent is reported as unsupported `""`.
    pub fn one_of(&self, valid: &[&str]) -> bool {
        let known = valid.contains(&self.str());
        if !known {
            self.not_supported(valid);
        }
        known
    }

    /// One of the known strings; absent is reported as required.
    pub fn required_one_of(&self, valid: &[&str]) -> bool {
        self.required() && self.one_of(valid)
    }

    /// Not below zero.
    pub fn non_negative(&self) -> bool {
        let fine = self.int() >= 0;
        if !fine {
            self.invalid("must be greater than or equal to 0");
        }
        fine
    }

    /// Above zero; absent counts as zero.
    pub fn positive(&self) -> bool {
        let fine = self.int() > 0;
        if !fine {
            self.invalid_value(self.int(), "must be greater than 0");
        }
        fine
    }

    /// Within bounds, both included.
    pub fn in_range(&self, low: i64, high: i64) -> bool {
        let fine = (low..=high).contains(&self.int());
        if !fine {
            self.invalid_value(self.int(), meta::names::inclusive_range_error(low, high));
        }
        fine
    }

    /// At most so many bytes.
    pub fn max_len(&self, max: usize) -> bool {
        let fine = self.str().len() <= max;
        if !fine {
            self.sink.push(Error::too_long(&self.path(), max));
        }
        fine
    }

    /// At most so many items.
    pub fn max_items(&self, max: usize) -> bool {
        let fine = self.len() <= max;
        if !fine {
            self.sink.push(Error::too_many(&self.path(), self.len(), max));
        }
        fine
    }

    /// The string passes a check of `meta::names`.
    pub fn check(&self, rule: impl Fn(&str) -> Vec<String>) -> bool {
        let findings = rule(self.str());
        let fine = findings.is_empty();
        self.invalid_all(findings);
        fine
    }

    /// Equal to the old value, upstream's `field is immutable`.
    pub fn immutable(&self, old: &C<'_, '_>) -> bool {
        let fine = self.same(old);
        if !fine {
            self.invalid("field is immutable");
        }
        fine
    }
}

/// Equality as upstream's semantic equality has it: absent, `null`, `""`, `[]`, `{}`, `0` and `false`
/// inside of lists and maps compare equal to one another's absence, and quantities by their text
/// (they are canonical in the tree).
pub fn same_value(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            a.iter().all(|(k, v)| same_value(Some(v), b.get(k)))
                && b.iter().all(|(k, v)| a.contains_key(k) || same_value(None, Some(v)))
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_value(Some(a), Some(b)))
        }
        (Some(a), Some(b)) => a == b,
        (Some(v), None) | (None, Some(v)) => match v {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            // An empty struct in place of a pointer to one (securityContext: {}) is no difference that
            // any rule of ours cares about.
            Value::Object(map) => map.values().all(|v| same_value(None, Some(v))),
            Value::Bool(b) => !b,
            Value::Number(n) => n.as_i64() == Some(0),
        },
    }
}
