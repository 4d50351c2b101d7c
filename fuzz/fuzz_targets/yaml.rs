//! YAML of built-in and unknown kinds.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::codec;

fuzz_target!(|data: &[u8]| {
    let gvk = meta::GroupVersionKind::new("", "v1", "ConfigMap");
    if let Ok(decoded) = codec::decode_yaml(data, Some(&gvk)) {
        let text = codec::to_yaml(&decoded.object.body);
        assert!(codec::decode_yaml(text.as_bytes(), None).is_ok());
    }
    let _ = codec::decode_untyped_yaml(data);
});
