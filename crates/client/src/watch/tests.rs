use api::prelude::{Kind, Pod};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};

use super::*;
use crate::call::Answer;
use crate::list::List;

fn stored(value: Value) -> Vec<u8> {
    schema::codec::encode_protobuf(&meta::Object::from_value(value).expect("object")).expect("encode")
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "resourceVersion": "7", "managedFields": [
        {"manager": "m", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]}})
}

/// A body that comes in pieces of `size` bytes.
fn pieces(bytes: &[u8], size: usize) -> Body {
    let frames: Vec<_> = bytes.chunks(size).map(|c| Ok(Frame::data(Bytes::copy_from_slice(c)))).collect();
    StreamBody::new(futures::stream::iter(frames)).boxed_unsync()
}

fn said<T: Kind>(event: Result<Option<WatchEvent<T>>, Error>) -> String {
    match event {
        Ok(Some(WatchEvent::Added(object))) => format!("added {} {}", object.name(), object.resource_version()),
        Ok(Some(WatchEvent::Modified(object))) => format!("modified {}", object.name()),
        Ok(Some(WatchEvent::Deleted(object))) => format!("deleted {}", object.name()),
        Ok(Some(WatchEvent::Bookmark { resource_version, .. })) => format!("bookmark {resource_version}"),
        Ok(None) => "end".to_owned(),
        Err(error) => error.chain(),
    }
}

#[tokio::test]
async fn both_encodings_say_the_same() {
    let gone = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old"});
    let mark = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "9"}});
    let events = [("ADDED", pod("a")), ("DELETED", pod("b")), ("BOOKMARK", mark), ("ERROR", gone)];
    let (mut protobuf, mut text) = (Vec::new(), Vec::new());
    for (kind, object) in events {
        text.extend(schema::codec::json_watch_event(kind, object.to_string().as_bytes()));
        protobuf.extend(schema::codec::protobuf_watch_event(kind, &stored(object)));
    }
    for (bytes, binary, size) in [(&text, false, 5), (&protobuf, true, 3), (&protobuf, true, 1 << 20)] {
        let mut stream = WatchStream::<Pod>::new(pieces(bytes, size), binary, Decoder::of_kind());
        let mut all = Vec::new();
        for _ in 0..5 {
            all.push(said(stream.next().await));
        }
        assert_eq!(all, ["added a 7", "deleted b", "bookmark 9", "too old", "end"], "binary: {binary}");
    }
    let mut cut = WatchStream::<Pod>::new(pieces(&protobuf[..9], 9), true, Decoder::of_kind());
    assert_eq!(said(cut.next().await), "reach the API server: read the watch: the stream ended within an event");
}

#[test]
fn lists_decode_from_protobuf() {
    let meta = schema::codec::ListMeta { resource_version: 12, ..Default::default() };
    let item = stored(pod("a"));
    let bytes = schema::codec::protobuf_list("v1", "PodList", &meta, &[(&item, 5)]).expect("list");
    let list = List::<Pod>::typed(&Answer { bytes: bytes.into(), protobuf: true }).expect("decode");
    assert_eq!((list.resource_version.as_str(), list.items.len()), ("12", 1));
    let pod = &list.items[0];
    assert_eq!((pod.name(), pod.resource_version(), pod.metadata.managed_fields.as_ref()), ("a", "5", None));
}
