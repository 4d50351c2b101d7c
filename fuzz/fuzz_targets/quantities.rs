//! Quantities: the canonical form is its own canonical form; durations and times do not fail.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(quantity) = text.parse::<meta::quantity::Quantity>() {
        let shown = quantity.to_string();
        let again: meta::quantity::Quantity = shown.parse().expect("what is shown is a quantity");
        assert_eq!(again.to_string(), shown);
        let _ = (quantity.value(), quantity.milli_value(), quantity.plus(again), quantity.minus(again));
    }
    let _ = meta::time::parse_go_duration(text);
    let _ = meta::time::parse(text);
});
