//! Pods that a Permit plugin holds between the decision and the binding.

use std::time::Duration;

use parking_lot::Mutex;
use rt::HashMap;
use rt::sync::oneshot;

type Verdict = Result<(), String>;

/// Waiting pods by uid.
#[derive(Default)]
pub(crate) struct Waiting(Mutex<HashMap<String, oneshot::Sender<Verdict>>>);

/// A pod's wait that has begun.
pub(crate) struct Wait {
    verdict: oneshot::Receiver<Verdict>,
    longest: Duration,
}

impl Waiting {
    /// Begins a wait. From now on it can be ended, even before somebody waits.
    pub(crate) fn begin(&self, uid: &str, longest: Duration) -> Wait {
        let (send, verdict) = oneshot::channel();
        self.0.lock().insert(uid.to_owned(), send);
        Wait { verdict, longest }
    }

    /// Waits until the pod is allowed or rejected.
    ///
    /// # Errors
    /// Why it was rejected.
    pub(crate) async fn wait(&self, uid: &str, wait: Wait) -> Verdict {
        let ended = rt::time::timeout(wait.longest, wait.verdict).await;
        match ended {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(_)) => Err("the pod is waited for again".to_owned()),
            Err(_) => {
                self.0.lock().remove(uid);
                Err(format!("rejected due to timeout after waiting {}s", wait.longest.as_secs()))
            }
        }
    }

    /// Ends the wait; `false` when nobody waits.
    pub(crate) fn end(&self, uid: &str, verdict: Verdict) -> bool {
        self.0.lock().remove(uid).is_some_and(|send| send.send(verdict).is_ok())
    }
}
