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
                    "values[0]: Invalid value: {:?}: for 'Gt', 'Lt' operators, the value must be an integer",
                    values.first().map_or("", String::as_str)
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

/// Tokens of the string form; `in` and `notin` are words where values are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    End,
    Symbol(&'a str),
    Word(&'a str),
}

impl<'a> Token<'a> {
    fn text(self) -> &'a str {
        match self {
            Self::End => "",
            Self::Symbol(text) | Self::Word(text) => text,
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

fn is_symbol(c: char) -> bool {
    "=!(),<>".contains(c)
}

fn not_found<T>(found: Token<'_>, expected: &str) -> Result<T, SelectorError> {
    Err(SelectorError(format!("found '{}', expected: {expected}", found.text())))
}

impl<'a> Parser<'a> {
    /// A zero byte ends the text, as it does upstream.
    fn new(text: &'a str) -> Self {
        Self { rest: text.split('\0').next().unwrap_or("") }
    }

    fn peek(&self) -> Token<'a> {
        let rest = self.rest.trim_start();
        match rest.chars().next() {
            None => Token::End,
            Some(c) if is_symbol(c) => {
                let length = if rest.starts_with("==") || rest.starts_with("!=") { 2 } else { 1 };
                Token::Symbol(&rest[..length])
            }
            Some(_) => {
                let end = rest.find(|c: char| c.is_whitespace() || is_symbol(c)).unwrap_or(rest.len());
                Token::Word(&rest[..end])
            }
        }
    }

    fn next(&mut self) -> Token<'a> {
        let token = self.peek();
        self.rest = &self.rest.trim_start()[token.text().len()..];
        token
    }

    fn parse(mut self) -> Result<LabelSelector, SelectorError> {
        let mut requirements = Vec::new();
        loop {
            match self.peek() {
                Token::End => break,
                Token::Word(_) | Token::Symbol("!") => {}
                other => return not_found(other, "!, identifier, or 'end of string'"),
            }
            let requirement =
                self.requirement().map_err(|e| SelectorError(format!("unable to parse requirement: {e}")))?;
            requirements.push(requirement);
            match self.next() {
                Token::End => break,
                Token::Symbol(",") => match self.peek() {
                    Token::Word(_) | Token::Symbol("!") => {}
                    other => return not_found(other, "identifier after ','"),
                },
                other => return not_found(other, "',' or 'end of string'"),
            }
        }
        requirements.sort_by(|a: &Requirement, b| a.key.cmp(&b.key));
        Ok(LabelSelector { requirements, nothing: false })
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        let absent = self.peek() == Token::Symbol("!");
        if absent {
            self.next();
        }
        let key = match self.next() {
            Token::Word(key) => key,
            other => return not_found(other, "identifier"),
        };
        if let Some(message) = names::qualified_name(key).into_iter().next() {
            return Err(SelectorError(format!("<nil>: Invalid value: {key:?}: {message}")));
        }
        if absent {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        let operator = match self.peek() {
            Token::End | Token::Symbol(",") => return Requirement::new(key, Operator::Exists, Vec::new()),
            _ => self.next(),
        };
        let (operator, values) = match operator {
            Token::Word("in") => (Operator::In, self.values()?),
            Token::Word("notin") => (Operator::NotIn, self.values()?),
            Token::Symbol("=" | "==") => (Operator::In, vec![self.value()?]),
            Token::Symbol("!=") => (Operator::NotIn, vec![self.value()?]),
            Token::Symbol(">") => (Operator::GreaterThan, vec![self.value()?]),
            Token::Symbol("<") => (Operator::LessThan, vec![self.value()?]),
            other => return not_found(other, "in, notin, =, ==, !=, gt, lt"),
        };
        Requirement::new(key, operator, values)
    }

    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            Token::End | Token::Symbol(",") => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word.to_owned())
            }
            other => not_found(other, "identifier"),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        match self.next() {
            Token::Symbol("(") => {}
            other => return Err(SelectorError(format!("found '{}' expected: '('", other.text()))),
        }
        let mut values: Vec<String> = Vec::new();
        match self.peek() {
            Token::Symbol(")") => {
                self.next();
                return Ok(vec![String::new()]);
            }
            Token::Word(_) | Token::Symbol(",") => {}
            other => return not_found(other, "',', ')' or identifier"),
        }
        loop {
            // Nothing between two commas, or beside a parenthesis, is the empty value.
            match self.peek() {
                Token::Word(word) => {
                    self.next();
                    values.push(word.to_owned());
                }
                Token::Symbol("," | ")") => values.push(String::new()),
                other => return not_found(other, "',', or identifier"),
            }
            match self.next() {
                Token::Symbol(",") => {}
                Token::Symbol(")") => {
                    values.sort();
                    values.dedup();
                    return Ok(values);
                }
                other => return not_found(other, "',' or ')'"),
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
            let (field, value) = (term[..at].to_owned(), unescape(&term[at + operator.len()..])?);
            // As upstream: nothing that equals nothing is no condition.
            if !(field.is_empty() && value.is_empty()) {
                requirements.push(FieldRequirement { field, equal: operator != "!=", value });
            }
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
                other => {
                    let next = other.map_or_else(String::new, String::from);
                    return Err(SelectorError(format!("invalid field selector: invalid escape sequence: \\{next}")));
                }
            },
            ',' | '=' => {
                let code = u32::from(c);
                return Err(SelectorError(format!("invalid field selector: unescaped character in value: {code}")));
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
        for (text, error) in [
            ("a==b==c", "found '==', expected: ',' or 'end of string'"),
            ("a in 1", "unable to parse requirement: found '1' expected: '('"),
            (",a", "found ',', expected: !, identifier, or 'end of string'"),
            ("a,", "found '', expected: identifier after ','"),
            ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
            ("a in (1", "unable to parse requirement: found '', expected: ',' or ')'"),
            ("!", "unable to parse requirement: found '', expected: identifier"),
        ] {
            assert_eq!(LabelSelector::parse(text).unwrap_err().0, error, "{text}");
        }
        assert!(LabelSelector::parse("-x=1").is_err());
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
