//! ConfigMap.

use crate::{C, Rules};

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_update: update, ..Rules::NONE };

/// The most bytes that a config map or a secret may hold.
pub const MAX_BYTES: usize = 1024 * 1024;

fn validate(map: &C) {
    let (data, binary) = (map.get("data"), map.get("binaryData"));
    let mut total = 0;
    for (key, value) in data.entries() {
        value_key(&value, key);
        if binary.key(key).exists() {
            value.invalid_value(key, "duplicate of key present in binaryData");
        }
        total += value.str().len();
    }
    for (key, value) in binary.entries() {
        value_key(&value, key);
        total += decoded_len(value.str());
    }
    if total > MAX_BYTES {
        map.sink().push(meta::field::Error::too_long(&meta::field::Path::new(""), MAX_BYTES));
    }
}

/// A key of data, in a config map or a secret.
pub fn value_key(value: &C, key: &str) {
    for finding in meta::names::config_map_key(key) {
        value.invalid_value(key, finding);
    }
}

/// How many bytes a base64 text stands for.
pub fn decoded_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

fn update(new: &C, old: &C) {
    immutable_data(new, old, &["data", "binaryData"]);
}

/// What is marked immutable stays so, and so does its data.
pub fn immutable_data(new: &C, old: &C, fields: &[&str]) {
    const WORD: &str = "field is immutable when `immutable` is set";
    if !old.get("immutable").is_true() {
        return;
    }
    if !new.get("immutable").is_true() {
        new.get("immutable").forbidden(WORD);
    }
    for field in fields {
        if !new.get(field).same(&old.get(field)) {
            new.get(field).forbidden(WORD);
        }
    }
}
