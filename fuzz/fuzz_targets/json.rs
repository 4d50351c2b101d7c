//! JSON of built-in and unknown kinds: what is read once and written is read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::codec;

fuzz_target!(|data: &[u8]| {
    let kinds = [("", "v1", "Pod"), ("apps", "v1", "Deployment"), ("apiextensions.k8s.io", "v1", "CustomResourceDefinition")];
    for (group, version, kind) in kinds {
        let gvk = meta::GroupVersionKind::new(group, version, kind);
        let Ok(decoded) = codec::decode_json(data, Some(&gvk)) else { continue };
        let text = codec::to_json(&decoded.object);
        let again = codec::decode_json(&text, None).expect("what was written can be read");
        assert_eq!(again.object, decoded.object);
        if let Ok(bytes) = codec::encode_protobuf(&decoded.object) {
            let object = codec::decode_protobuf(&bytes).expect("what was written can be read");
            let text = codec::to_json(&object);
            assert!(codec::decode_json(&text, None).is_ok());
        }
    }
    let _ = codec::decode_untyped_json(data);
});
