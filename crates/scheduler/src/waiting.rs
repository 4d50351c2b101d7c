//! Pods that a Permit plugin holds between the decision and the binding.

use std::time::Duration;

use parking_lot::Mutex;
use rt::HashMap;
use rt::sync::oneshot;

/// Waiting pods by uid.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<String, oneshot::Sender<Result<(), String>>>>);

impl Waiting {
    /// Waits until the pod is allowed or rejected.
    ///
    /// # Errors
    /// Why it was rejected.
    pub(crate) async fn wait(&self, uid: &str, longest: Duration) -> Result<(), String> {
        let (send, receive) = oneshot::channel();
        self.0.lock().insert(uid.to_owned(), send);
        let ended = rt::time::timeout(longest, receive).await;
        self.0.lock().remove(uid);
        match ended {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Err("the pod is waited for again".to_owned()),
            Err(_) => Err("timeout while waiting on permit".to_owned()),
        }
    }

    /// Ends the wait; `false` when nobody waits.
    pub(crate) fn end(&self, uid: &str, verdict: Result<(), String>) -> bool {
        self.0.lock().remove(uid).is_some_and(|send| send.send(verdict).is_ok())
    }
}
