//! A transformer that marks values, in front of the memory engine.

use super::*;
use store::{Embedded, EmbeddedOptions, KeyRange};

/// Seals by a letter in front; `old` letters are read, and stale.
struct Letter(parking_lot::Mutex<&'static str>);

#[async_trait]
impl Transformer for Letter {
    async fn open(&self, _key: &[u8], value: Bytes) -> Result<Opened, SealError> {
        let now = *self.0.lock();
        match value.split_first() {
            Some((first, rest)) if b"ab".contains(first) => {
                Ok(Opened { value: Bytes::copy_from_slice(rest), stale: now.as_bytes() != [*first] })
            }
            _ => Err(SealError::new("no matching prefix found")),
        }
    }

    async fn seal(&self, _key: &[u8], value: Bytes) -> Result<Bytes, SealError> {
        Ok([self.0.lock().as_bytes(), &value].concat().into())
    }
}

struct Letters(Arc<Letter>);

impl Sealer for Letters {
    fn transformer(&self, resource: &GroupResource) -> Option<Arc<dyn Transformer>> {
        (resource.resource == "secrets").then(|| self.0.clone() as _)
    }
}

#[tokio::test]
async fn values_are_sealed_below_and_plain_above() {
    let inner: Arc<dyn Store> = Embedded::memory(EmbeddedOptions::default()).expect("the memory engine starts");
    let letter = Arc::new(Letter(parking_lot::Mutex::new("a")));
    let sealed = Sealed::new(inner.clone(), Arc::new(Letters(letter.clone())), GroupResource::new("", "secrets"));
    let mut watch = sealed.watch(WatchRequest::new(KeyRange::prefix("/s/")).from(1)).await.expect("watches");

    let key = Bytes::from_static(b"/s/one");
    let done = sealed.put_if(key.clone(), 0, "plain".into(), 0).await.expect("written");
    let Conditional::Applied { revision } = done else { panic!("{done:?}") };
    assert_eq!(inner.get(key.clone()).await.expect("read").0.expect("there").value, "aplain");
    assert_eq!(sealed.get(key.clone()).await.expect("read").0.expect("there").value, "plain");
    let listed = sealed.range(RangeRequest::new(KeyRange::prefix("/s/"))).await.expect("listed");
    assert_eq!(listed.kvs[0].value, "plain");
    let Some(Ok(WatchMessage::Events { events, .. })) = watch.next().await else { panic!("an event") };
    assert_eq!(events[0].kv.value, "plain");
    let conflict = sealed.put_if(key.clone(), revision + 9, "other".into(), 0).await.expect("answered");
    let Conditional::Conflict { current: Some(current), .. } = conflict else { panic!("{conflict:?}") };
    assert_eq!(current.value, "plain");

    assert!(!sealed.stale(key.clone()).await.expect("looked at"));
    *letter.0.lock() = "b";
    assert!(sealed.stale(key.clone()).await.expect("looked at"), "the key was changed");
    inner.put(key.clone(), "garbage".into(), 0).await.expect("written");
    assert!(sealed.get(key).await.is_err(), "what nobody sealed is not shown");
}
