//! Label selectors and field selectors.

use std::fmt;

use serde_json::Value;

use crate::Object;
use crate::names;

/// A malformed selector; the text is upstream's as far as clients show it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub String);

/// How a requirement tests its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operator {
    /// The value is one of the values (also `=` and `==`).
    In,
    /// The key is absent or its value is none of the values (also `!=`).
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value as an integer is greater.
    GreaterThan,
    /// The value as an integer is less.
    LessThan,
}

/// One condition on one label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The test.
    pub operator: Operator,
    /// The values, sorted.
    pub values: Vec<String>,
}

/// A conjunction of requirements; the empty one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LabelSelector {
    /// All must hold.
    pub requirements: Vec<Requirement>,
    /// Matches nothing at all, as a nil `metav1.LabelSelector` does.
    pub nothing: bool,
}

impl Requirement {
    /// Builds a requirement and checks it as upstream's `NewRequirement`.
    ///
    /// # Errors
    /// A bad key, a bad value, or a number of values that the operator does not take.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, SelectorError> {
        if let Some(message) = names::qualified_name(key).into_iter().next() {
            return Err(SelectorError(format!("key: Invalid value: {key:?}: {message}")));
        }
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(SelectorError(
                    "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty".into(),
                ));
            }
            Operator::GreaterThan | Operator::LessThan if values.len() != 1 || values[0].parse::<i64>().is_err() => {
                return Err(SelectorError(format!(
                    "values: Invalid value: {values:?}: for 'Gt', 'Lt' operators, the value must be an integer"
                )));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(SelectorError(
                    "values: Invalid value: values set must be empty for exists and does not exist".into(),
                ));
            }
            _ => {}
        }
        for (index, value) in values.iter().enumerate() {
            if let Some(message) = names::label_value(value).into_iter().next() {
                return Err(SelectorError(format!("values[{index}][{key}]: Invalid value: {value:?}: {message}")));
            }
        }
        values.sort();
        Ok(Self { key: key.to_owned(), operator, values })
    }

    /// Whether a label of this value (or its absence) satisfies the requirement.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let has = |v: &str| self.values.iter().any(|want| want == v);
        let compare = |v: &str| Some((v.parse::<i64>().ok()?, self.values.first()?.parse::<i64>().ok()?));
        match self.operator {
            Operator::In => value.is_some_and(has),
            Operator::NotIn => !value.is_some_and(has),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => value.and_then(compare).is_some_and(|(have, want)| have > want),
            Operator::LessThan => value.and_then(compare).is_some_and(|(have, want)| have < want),
        }
    }
}

impl LabelSelector {
    /// Matches everything.
    pub fn everything() -> Self {
        Self::default()
    }

    /// Matches nothing.
    pub fn nothing() -> Self {
        Self { nothing: true, ..Self::default() }
    }

    /// Whether it has no condition.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Equality on every pair, as a ReplicationController's or Service's selector means it.
    pub fn from_pairs<K: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let requirements = pairs
            .into_iter()
            .map(|(k, v)| Requirement { key: k.into(), operator: Operator::In, values: vec![v.into()] })
            .collect();
        Self { requirements, nothing: false }
    }

    /// Parses the string form (`a=b,c!=d,e in (f,g),h,!i,j>1`).
    ///
    /// # Errors
    /// A malformed text.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Parser::new(text).parse()
    }

    /// Takes the object form (`matchLabels`, `matchExpressions`); an absent one matches nothing.
    ///
    /// # Errors
    /// A bad key, operator or value.
    pub fn from_value(value: Option<&Value>) -> Result<Self, SelectorError> {
        let Some(Value::Object(map)) = value else { return Ok(Self::nothing()) };
        let mut requirements = Vec::new();
        if let Some(Value::Object(labels)) = map.get("matchLabels") {
            for (key, value) in labels {
                let value = value.as_str().unwrap_or_default().to_owned();
                requirements.push(Requirement::new(key, Operator::In, vec![value])?);
            }
        }
        if let Some(Value::Array(expressions)) = map.get("matchExpressions") {
            for expression in expressions {
                requirements.push(requirement_of(expression)?);
            }
        }
        Ok(Self { requirements, nothing: false })
    }

    /// Whether the labels, given by a look-up, match.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }

    /// Whether the object's labels match.
    pub fn matches(&self, object: &Object) -> bool {
        self.matches_with(|key| object.label(key))
    }

    /// Whether these labels match.
    pub fn matches_map(&self, labels: &std::collections::BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }
}

fn requirement_of(expression: &Value) -> Result<Requirement, SelectorError> {
    let text = |field: &str| expression.get(field).and_then(Value::as_str).unwrap_or_default();
    let operator = match text("operator") {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        other => return Err(SelectorError(format!("{other:?} is not a valid label selector operator"))),
    };
    let values = expression.get("values").and_then(Value::as_array);
    let values = values.map(|l| l.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect());
    Requirement::new(text("key"), operator, values.unwrap_or_default())
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            let one = r.values.first().map_or("", String::as_str);
            match r.operator {
                Operator::In if r.values.len() == 1 => write!(f, "{}={one}", r.key)?,
                Operator::NotIn if r.values.len() == 1 => write!(f, "{}!={one}", r.key)?,
                Operator::In => write!(f, "{} in ({})", r.key, r.values.join(","))?,
                Operator::NotIn => write!(f, "{} notin ({})", r.key, r.values.join(","))?,
                Operator::Exists => f.write_str(&r.key)?,
                Operator::DoesNotExist => write!(f, "!{}", r.key)?,
                Operator::GreaterThan => write!(f, "{}>{one}", r.key)?,
                Operator::LessThan => write!(f, "{}<{one}", r.key)?,
            }
        }
        Ok(())
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.trim() }
    }

    fn fail<T>(&self, expected: &str) -> Result<T, SelectorError> {
        let found = self.rest.split_whitespace().next().unwrap_or("");
        Err(SelectorError(format!("unable to parse requirement: found '{found}', expected: {expected}")))
    }

    fn take(&mut self, token: &str) -> bool {
        let Some(rest) = self.rest.strip_prefix(token) else { return false };
        self.rest = rest.trim_start();
        true
    }

    fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| c.is_whitespace() || "=!,()<>".contains(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn parse(mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        while !self.rest.is_empty() {
            requirements.push(self.requirement()?);
            if self.rest.is_empty() {
                break;
            }
            if !self.take(",") {
                return self.fail("',' or 'end of string'");
            }
            if self.rest.is_empty() {
                return self.fail("identifier after ','");
            }
        }
        requirements.sort_by(|a: &Requirement, b| a.key.cmp(&b.key));
        Ok(LabelSelector { requirements, nothing: false })
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.take("!") {
            let key = self.word();
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        let key = self.word();
        if key.is_empty() {
            return self.fail("!, identifier, or 'end of string'");
        }
        if self.rest.is_empty() || self.rest.starts_with(',') {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        for (token, operator) in [
            ("==", Operator::In),
            ("=", Operator::In),
            ("!=", Operator::NotIn),
            (">", Operator::GreaterThan),
            ("<", Operator::LessThan),
        ] {
            if self.take(token) {
                let value = self.word().to_owned();
                return Requirement::new(key, operator, vec![value]);
            }
        }
        let operator = match self.word() {
            "in" => Operator::In,
            "notin" => Operator::NotIn,
            other => {
                return Err(SelectorError(format!(
                    "unable to parse requirement: found '{other}', expected: in, notin, =, ==, !=, gt, lt"
                )));
            }
        };
        let values = self.values()?;
        Requirement::new(key, operator, values)
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        if !self.take("(") {
            return self.fail("'('");
        }
        let mut values = Vec::new();
        loop {
            values.push(self.word().to_owned());
            if self.take(")") {
                return Ok(values);
            }
            if !self.take(",") {
                return self.fail("',' or ')'");
            }
        }
    }
}

/// One test of a field selector.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldRequirement {
    /// The field, such as `spec.nodeName`.
    pub field: String,
    /// Whether it must be equal (else different).
    pub equal: bool,
    /// The value.
    pub value: String,
}

/// A conjunction of field tests; the empty one matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct FieldSelector {
    /// All must hold.
    pub requirements: Vec<FieldRequirement>,
}

impl FieldSelector {
    /// One equality.
    pub fn equal(field: &str, value: &str) -> Self {
        let requirement = FieldRequirement { field: field.into(), equal: true, value: value.into() };
        Self { requirements: vec![requirement] }
    }

    /// Parses `a=b,c==d,e!=f` with `\` escaping `\`, `,` and `=`.
    ///
    /// # Errors
    /// A term without an operator.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut requirements = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let (at, operator) = ["!=", "==", "="]
                .iter()
                .filter_map(|op| find_unescaped(term, op).map(|at| (at, *op)))
                .min_by_key(|(at, op)| (*at, std::cmp::Reverse(op.len())))
                .ok_or_else(|| SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'")))?;
            requirements.push(FieldRequirement {
                field: term[..at].to_owned(),
                equal: operator != "!=",
                value: unescape(&term[at + operator.len()..])?,
            });
        }
        Ok(Self { requirements })
    }

    /// Whether it has no condition.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// The value that a field must have, when one is demanded.
    pub fn required_value(&self, field: &str) -> Option<&str> {
        self.requirements.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }

    /// Whether the fields, given by a look-up, match. An absent field counts as empty.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<std::borrow::Cow<'a, str>>) -> bool {
        self.requirements.iter().all(|r| (get(&r.field).unwrap_or_default() == r.value.as_str()) == r.equal)
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn find_unescaped(term: &str, operator: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in term.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if term[at..].starts_with(operator) {
            return Some(at);
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => out.push(next),
                _ => {
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence in value: {text}"
                    )));
                }
            },
            ',' | '=' => {
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {c:?}")));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, r) in self.requirements.iter().enumerate() {
            let value = r.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{}{}{}{value}", if i > 0 { "," } else { "" }, r.field, if r.equal { "=" } else { "!=" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn label_selectors() {
        let object = Object::from_value(json!({"metadata": {"labels": {"a": "1", "b": "x"}}})).unwrap();
        for (text, want) in [
            ("", true),
            ("a=1", true),
            ("a==1,b=x", true),
            ("a!=1", false),
            ("c!=1", true),
            ("a in (1, 2)", true),
            ("b notin (x,y)", false),
            ("a", true),
            ("!a", false),
            ("!c", true),
            ("a>0", true),
            ("a<1", false),
            ("c in ()", false),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&object), want, "{text}");
        }
        for text in ["a=b=c", "a in 1", ",a", "a,", "a b", "=1", "a in (1", "-x=1"] {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
        assert!(!LabelSelector::from_value(None).unwrap().matches(&object));
        let value = json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]});
        assert!(LabelSelector::from_value(Some(&value)).unwrap().matches(&object));
    }

    #[test]
    fn field_selectors() {
        let get = |f: &str| (f == "spec.nodeName").then(|| "n,1".into());
        for (text, want) in
            [("", true), ("spec.nodeName=n\\,1", true), ("spec.nodeName!=x,foo=", true), ("foo==1", false)]
        {
            assert_eq!(FieldSelector::parse(text).unwrap().matches_with(get), want, "{text}");
        }
        assert!(FieldSelector::parse("nothing").is_err());
    }
}
