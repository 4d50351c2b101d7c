//! Environment files (`fileKeyRef`): `NAME='value'` lines, values literal and possibly over several lines.

/// The value of a key; empty where the file does not have it.
///
/// # Errors
/// A line that is no assignment in this form.
pub fn value(text: &str, key: &str) -> Result<String, String> {
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fail = |what: &str| format!("invalid environment variable format at line {}: {what}", number + 1);
        let (name, rest) = line.split_once('=').ok_or_else(|| fail("missing '='"))?;
        if name.trim().is_empty() {
            return Err(fail("empty variable name"));
        }
        if name.ends_with([' ', '\t']) {
            return Err(fail("whitespace before '=' is not allowed"));
        }
        if rest.starts_with([' ', '\t']) {
            // As a shell reads it: an empty value, and a word that follows.
            if name == key {
                return Ok(String::new());
            }
            continue;
        }
        let mut rest = rest.strip_prefix('\'').ok_or_else(|| fail("value must be enclosed in single quotes"))?;
        let mut value = String::new();
        let after = loop {
            if let Some((last, after)) = rest.split_once('\'') {
                value.push_str(last);
                break after.trim_start_matches([' ', '\t']);
            }
            value.push_str(rest);
            value.push('\n');
            rest = lines.next().ok_or_else(|| fail("unclosed single quote"))?.1;
        };
        if !after.is_empty() && !after.starts_with('#') {
            return Err(fail("unexpected content after closing quote"));
        }
        if name == key {
            return Ok(value);
        }
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    #[test]
    fn lines() {
        let text = "# c\n\n A='1' # x\nB='two\nlines'\nC= 'no'\n";
        for (key, expected) in [("A", "1"), ("B", "two\nlines"), ("C", ""), ("D", "")] {
            assert_eq!(super::value(text, key).as_deref(), Ok(expected), "{key}");
        }
        for bad in ["A", "A=1", "A ='1'", "A='1", "A='1' x", "='1'"] {
            assert!(super::value(bad, "Z").is_err(), "{bad}");
        }
    }
}
