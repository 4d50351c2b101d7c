//! The OpenAPI of the servers behind APIServices: fetched when one answers, and again every minute.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use auth_api::UserInfo;
use http::StatusCode;
use serde_json::Value;
use sha2::Digest;
use tracing::debug;

use super::{Answer, Question, Remote};
use crate::server::State;

/// How soon a server is asked again.
const REFRESH: Duration = Duration::from_secs(60);
/// The same after failures: from the first to the last.
const RETRY: (Duration, Duration) = (REFRESH, Duration::from_secs(3600));
/// How long a server may take to answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The most bytes of `/openapi/v2`.
const LARGEST: usize = 32 << 20;
/// The most bytes of `/openapi/v3`, which only lists.
const LARGEST_INDEX: usize = 4 << 20;

/// What a server says of its OpenAPI; cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Documents {
    /// Its own paths below `/openapi/v3/` with their URLs.
    pub index: Arc<BTreeMap<String, String>>,
    /// `/openapi/v2`, cut down to its group version.
    pub v2: Option<Arc<Value>>,
    /// Entity tags of both.
    index_tag: String,
    v2_tag: String,
}

/// Keeps a server's documents until it is stopped.
pub(super) fn start(state: &Arc<State>, key: &(String, String), remote: &Arc<Remote>) {
    let (state, key, remote) = (state.clone(), key.clone(), remote.clone());
    rt::spawn("aggregated-openapi", async move {
        let follow = async {
            let mut backoff = rt::Backoff::new(RETRY.0, RETRY.1);
            let mut pause = Duration::ZERO;
            loop {
                // A server that is not there yet is asked as soon as it is.
                let early = remote.refresh.notified();
                if pause.is_zero() {
                    early.await;
                    backoff.reset();
                } else {
                    rt::select! {
                        () = early => backoff.reset(),
                        () = rt::time::sleep(pause) => {}
                    }
                }
                pause = match refresh(&state, &remote, &key).await {
                    Ok(()) => {
                        backoff.reset();
                        REFRESH
                    }
                    Err(why) => {
                        debug!(group = key.0, version = key.1, %why, "an aggregated server's OpenAPI is not to be had");
                        backoff.next_delay()
                    }
                };
            }
        };
        remote.stop.run(follow).await;
    });
}

/// Fetches both; one that fails keeps what was known of it, and does not hinder the other.
async fn refresh(state: &State, remote: &Remote, key: &(String, String)) -> Result<(), String> {
    let before = remote.documents.read().clone();
    let mut after = before.clone();
    let (v3, v2) = futures::join!(
        fetch(state, remote, "/openapi/v3", &before.index_tag, LARGEST_INDEX),
        fetch(state, remote, "/openapi/v2", &before.v2_tag, LARGEST),
    );
    let v3 = v3.and_then(|fresh| match fresh {
        Fresh::Same => Ok(()),
        Fresh::Absent => {
            (after.index, after.index_tag) = Default::default();
            Ok(())
        }
        Fresh::Document(document, tag) => {
            let index = index(&document).ok_or("/openapi/v3 lists no paths")?;
            (after.index, after.index_tag) = (Arc::new(index), tag);
            Ok(())
        }
    });
    let v2 = v2.map(|fresh| match fresh {
        Fresh::Same => {}
        Fresh::Absent => (after.v2, after.v2_tag) = Default::default(),
        Fresh::Document(mut document, tag) => {
            crate::openapi::merge::keep_paths(&mut document, |path| {
                path.strip_prefix("/apis/").and_then(|p| p.strip_prefix(key.0.as_str())).is_some_and(|p| {
                    p.strip_prefix('/').and_then(|p| p.strip_prefix(key.1.as_str())).is_some_and(|p| p.starts_with('/'))
                })
            });
            (after.v2, after.v2_tag) = (Some(Arc::new(document)), tag);
        }
    });
    if after.index_tag != before.index_tag || after.v2_tag != before.v2_tag {
        *remote.documents.write() = after;
        state.aggregator.documents.fetch_add(1, Ordering::AcqRel);
    }
    // One that a server cannot make is no reason to ask it less often for the other.
    v3.or_else(|why| v2.map_err(|other| format!("{why}; {other}")))
}

/// What is new of a document.
enum Fresh {
    Same,
    /// The server has none.
    Absent,
    /// It and its entity tag.
    Document(Value, String),
}

/// Tags of our own making, for servers that send none, begin so.
const OWN_TAG: &str = "own:";

async fn fetch(state: &State, remote: &Remote, path: &str, known: &str, limit: usize) -> Result<Fresh, String> {
    let asked = if known.starts_with(OWN_TAG) { "" } else { known };
    let user = UserInfo::new("system:aggregator", &[]);
    let Answer { status, tag, body } =
        remote.ask(state, Question { path, user, known: asked, limit, timeout: TIMEOUT }).await?;
    match status {
        StatusCode::NOT_MODIFIED if !asked.is_empty() => Ok(Fresh::Same),
        StatusCode::NOT_FOUND => Ok(Fresh::Absent),
        StatusCode::OK => {
            let hash = || sha2::Sha256::digest(&body).iter().map(|b| format!("{b:02X}")).collect::<String>();
            let tag = if tag.is_empty() { format!("{OWN_TAG}{}", hash()) } else { tag };
            if tag == known {
                return Ok(Fresh::Same);
            }
            let document: Value = serde_json::from_slice(&body).map_err(|e| format!("{path}: {e}"))?;
            if document.is_object() { Ok(Fresh::Document(document, tag)) } else { Err(format!("{path} is no object")) }
        }
        status => Err(format!("bad status of {path}: {status}")),
    }
}

/// Paths and URLs of an index. One whose URL leads elsewhere is left out: this server could not pass it on.
fn index(document: &Value) -> Option<BTreeMap<String, String>> {
    let paths = document.get("paths")?.as_object()?;
    let fits = paths.iter().filter_map(|(path, entry)| {
        let url = entry.get("serverRelativeURL")?.as_str()?;
        let own = url.strip_prefix("/openapi/v3/")?;
        (own.split('?').next() == Some(path)).then(|| (path.clone(), url.to_owned()))
    });
    Some(fits.collect())
}
