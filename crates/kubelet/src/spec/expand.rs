//! `$(NAME)` references in commands, arguments and values.

/// Replaces `$(NAME)` by what `lookup` gives; `$$` is a `$`, an unknown name stays as it is written.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    expand_or(text, |name| lookup(name).unwrap_or_else(|| format!("$({name})")))
}

/// As [`expand`], where unknown names are an error (subPathExpr).
///
/// # Errors
/// The first name that `lookup` does not know.
pub fn expand_strict(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let out = expand_or(text, |name| {
        lookup(name).unwrap_or_else(|| {
            missing.borrow_mut().get_or_insert_with(|| name.to_owned());
            String::new()
        })
    });
    match missing.into_inner() {
        None => Ok(out),
        Some(name) => Err(name),
    }
}

fn expand_or(text: &str, lookup: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some(end) = rest.strip_prefix('(').and_then(|inner| inner.find(')')) {
            out.push_str(&lookup(&rest[1..=end]));
            rest = &rest[end + 2..];
        } else {
            // No reference begins here; upstream drops nothing.
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, expected) in [
            ("x", "x"),
            ("$(A)", "1"),
            ("-$(A)-$(B)-", "-1-$(B)-"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$", "$"),
            ("$(A", "$(A"),
            ("$A $(A)$", "$A 1$"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
        assert_eq!(expand_strict("$(A)$(B)", lookup), Err("B".to_owned()));
    }
}
