//! Label and field selectors: what is shown is read as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use meta::selector::{FieldSelector, LabelSelector};

fuzz_target!(|text: &str| {
    if let Ok(selector) = LabelSelector::parse(text) {
        let shown = selector.to_string();
        assert_eq!(LabelSelector::parse(&shown).as_ref(), Ok(&selector), "{shown:?}");
        let _ = selector.matches_with(|_| Some("1"));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let _ = selector.to_string();
        let _ = selector.matches_with(|_| None);
    }
});
