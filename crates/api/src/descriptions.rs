//! The texts of upstream's API, for OpenAPI documents.

use std::collections::HashMap;
use std::io::Read;

/// Packed by the build script.
static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// Texts by definition and field. About 2 MB: load them to build a document, and drop them after it.
#[derive(Debug, Default)]
pub struct Descriptions {
    texts: HashMap<String, HashMap<String, String>>,
}

impl Descriptions {
    /// Unpacks the texts.
    pub fn load() -> Self {
        let mut text = String::new();
        // The build script wrote the bytes; should they be unreadable, documents go without texts.
        if flate2::read::ZlibDecoder::new(PACKED).read_to_string(&mut text).is_err() {
            return Self::default();
        }
        let mut texts: HashMap<String, HashMap<String, String>> = HashMap::new();
        for line in text.lines() {
            let mut parts = line.splitn(3, '\t');
            if let (Some(name), Some(field), Some(text)) = (parts.next(), parts.next(), parts.next()) {
                let fields = texts.entry(name.to_owned()).or_default();
                fields.insert(field.to_owned(), unescape(text));
            }
        }
        Self { texts }
    }

    /// The text of a definition (with an empty field) or of one of its fields; `schema::openapi` asks by this.
    pub fn get(&self, definition: &str, field: &str) -> Option<String> {
        self.texts.get(definition)?.get(field).cloned()
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            (c, false) => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_served_definitions() {
        let all = Descriptions::load();
        for (definition, field, start) in [
            ("io.k8s.api.core.v1.Pod", "", "Pod is a collection"),
            ("io.k8s.api.core.v1.Pod", "apiVersion", "APIVersion defines"),
            ("io.k8s.api.core.v1.PodSpec", "containers", "List of containers"),
            ("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "name", "Name must be unique"),
        ] {
            let text = all.get(definition, field).unwrap_or_default();
            assert!(text.starts_with(start), "{definition} {field}: {text:?}");
        }
        assert_eq!(all.get("nope", ""), None);
    }
}
