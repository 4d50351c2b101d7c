//! Protobuf: the tree and the streamed text are the same, and what is written is read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema::codec;

const KINDS: [(&str, &str); 6] = [
    ("v1", "Pod"),
    ("v1", "Service"),
    ("apps/v1", "Deployment"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"),
    ("resource.k8s.io/v1", "ResourceClaim"),
];

fuzz_target!(|data: &[u8]| {
    let _ = codec::decode_protobuf(data);
    let _ = codec::split_protobuf_list(data);
    let _ = codec::open_protobuf_watch_event(data);
    let Some((first, raw)) = data.split_first() else { return };
    let (api_version, kind) = KINDS[usize::from(*first) % KINDS.len()];
    let bytes = codec::write_envelope(api_version, kind, raw);
    let mut text = Vec::new();
    let streamed = codec::protobuf_to_json(&bytes, 7, &mut text);
    let Ok(object) = codec::decode_protobuf(&bytes) else { return };
    assert!(streamed.is_ok(), "the tree was read, the text was not: {streamed:?}");
    serde_json::from_slice::<serde_json::Value>(&text).expect("the streamed text is JSON");
    let _ = codec::set_resource_version(&bytes, 7);
    if let Ok(again) = codec::encode_protobuf(&object) {
        assert!(codec::decode_protobuf(&again).is_ok());
    }
});
