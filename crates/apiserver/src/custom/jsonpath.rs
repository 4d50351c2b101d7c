//! The part of kubectl's JSONPath that printer columns use: `.a.b`, `['a']`, `[0]`, `[*]`, `[?(@.a=="b")]`.

use serde_json::Value;

/// One step of a path.
#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// Items whose field (a dotted path) equals a text, or does not.
    Where {
        path: Vec<String>,
        equal: bool,
        text: String,
    },
}

/// A parsed path.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct JsonPath(Vec<Step>);

impl JsonPath {
    /// Parses a path; `None` when it is malformed or uses more than is known here.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
        let mut steps = Vec::new();
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('.') {
                let mut name = String::new();
                let mut chars = after.char_indices();
                let mut end = after.len();
                while let Some((at, c)) = chars.next() {
                    match c {
                        // A dot inside a name is written `\.`.
                        '\\' => name.extend(chars.next().map(|(_, c)| c)),
                        '.' | '[' => {
                            end = at;
                            break;
                        }
                        c => name.push(c),
                    }
                }
                rest = &after[end..];
                match name.as_str() {
                    "" => {}
                    "*" => steps.push(Step::All),
                    _ => steps.push(Step::Field(name)),
                }
            } else if rest.starts_with('[') {
                let close = closing(rest)?;
                steps.push(bracket(&rest[1..close])?);
                rest = &rest[close + 1..];
            } else {
                return None;
            }
        }
        Some(Self(steps))
    }

    /// All values that the path leads to.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        self.0.iter().fold(vec![root], |values, step| values.into_iter().flat_map(|v| apply(step, v)).collect())
    }
}

fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

fn bracket(inner: &str) -> Option<Step> {
    let inner = inner.trim();
    if inner == "*" {
        return Some(Step::All);
    }
    if let Some(name) = inner.strip_prefix('\'').and_then(|s| s.strip_suffix('\'')) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Some(test) = inner.strip_prefix("?(").and_then(|s| s.strip_suffix(')')) {
        let (equal, (left, right)) = match test.split_once("==") {
            Some(sides) => (true, sides),
            None => (false, test.split_once("!=")?),
        };
        let path = left.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect();
        let text = right.trim().trim_matches(['"', '\'']).to_owned();
        return Some(Step::Where { path, equal, text });
    }
    inner.parse().ok().map(Step::Index)
}

fn apply<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => map.get(name).into_iter().collect(),
        (Step::Index(at), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(0);
            let at = if *at < 0 { length + at } else { *at };
            usize::try_from(at).ok().and_then(|at| items.get(at)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where { path, equal, text }, Value::Array(items)) => items
            .iter()
            .filter(|item| {
                let found = path.iter().try_fold(*item, |v, step| v.get(step));
                let shown = found.map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned));
                shown.is_some_and(|shown| (shown == *text) == *equal)
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::JsonPath;
    use serde_json::json;

    #[test]
    fn finds_what_columns_name() {
        let value = json!({"spec": {"a.b": 1, "list": [{"type": "Ready", "status": "True"}, {"type": "X"}]}});
        let cases = [
            (".spec['a.b']", json!([1])),
            (r".spec.a\.b", json!([1])),
            (".spec.list[0].type", json!(["Ready"])),
            (".spec.list[-1].type", json!(["X"])),
            (".spec.list[*].type", json!(["Ready", "X"])),
            (".spec.list[?(@.type==\"Ready\")].status", json!(["True"])),
            (".nothing.here", json!([])),
        ];
        for (path, wanted) in cases {
            let found = JsonPath::parse(path).map(|p| json!(p.find(&value)));
            assert_eq!(found, Some(wanted), "{path}");
        }
        assert_eq!(JsonPath::parse(".a[?(x)]"), None);
    }
}
