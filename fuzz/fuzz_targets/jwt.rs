//! Tokens: of OpenID issuers and the files that name these.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = authn::jwt::config::parse(text);
    let _ = authn::TokenFile::parse(text, Vec::new());
});
