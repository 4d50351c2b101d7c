//! The Prometheus text format, as far as kubelets write it.

/// A sample.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: Vec<(&'a str, String)>,
    pub(crate) value: f64,
    /// Milliseconds since 1970, when given.
    pub(crate) time: Option<i64>,
}

impl Line<'_> {
    pub(crate) fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// The samples of a text; lines that are none are left out.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(line)
}

fn line(text: &str) -> Option<Line<'_>> {
    let end = text.find(['{', ' '])?;
    let (name, rest) = text.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut fields = rest.split_ascii_whitespace();
    let value = fields.next()?.parse().ok()?;
    let time = fields.next().and_then(|time| time.parse().ok());
    Some(Line { name, labels, value, time })
}

/// Labels up to the closing brace, and what comes after it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, String)>, &str)> {
    let mut found = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (mut value, mut escaped, mut end) = (String::new(), false, None);
        for (at, c) in after.char_indices() {
            match (escaped, c) {
                (true, 'n') => value.push('\n'),
                (true, c) => value.push(c),
                (false, '\\') => {
                    escaped = true;
                    continue;
                }
                (false, '"') => {
                    end = Some(at + 1);
                    break;
                }
                (false, c) => value.push(c),
            }
            escaped = false;
        }
        rest = &after[end?..];
        found.push((name.trim(), value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_and_without_labels() {
        let text = "# HELP x\nnode_cpu 1.5 1700\na{b=\"c\\\"d,}\", e=\"\\n\"} 2e3\nbroken{x=\"y 1\nnothing\n";
        let found: Vec<Line<'_>> = lines(text).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name, found[0].value, found[0].time), ("node_cpu", 1.5, Some(1700)));
        assert_eq!((found[1].label("b"), found[1].label("e"), found[1].value), ("c\"d,}", "\n", 2000.0));
    }
}
