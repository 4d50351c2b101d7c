//! `/healthz`, `/livez`, `/readyz` with their checks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{Response, StatusCode};
use wire::Body;

use crate::chain::Call;
use crate::respond::bytes_response;
use crate::server::State;

/// How long the store may take to answer a check.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

async fn store_answers(state: &State) -> bool {
    let asked = state.registry.store().current_revision();
    matches!(rt::time::timeout(STORE_TIMEOUT, asked).await, Ok(Ok(_)))
}

/// Names and results of all checks below a path.
async fn checks(state: &Arc<State>, root: &str) -> Vec<(String, bool)> {
    let mut all = vec![("ping".to_owned(), true), ("log".to_owned(), true)];
    all.push(("etcd".to_owned(), store_answers(state).await));
    if root == "/readyz" {
        all.push(("etcd-readiness".to_owned(), store_answers(state).await));
        all.push(("informer-sync".to_owned(), true));
    }
    if let Some(encryption) = state.config.encryption.as_ref().filter(|e| e.has_services()) {
        all.push(("kms-providers".to_owned(), encryption.check().await.is_ok()));
    }
    let hooks = state.hooks.read();
    all.extend(hooks.iter().map(|(name, done)| (format!("poststarthook/{name}"), done.load(Ordering::Acquire))));
    drop(hooks);
    if root == "/readyz" {
        all.push(("shutdown".to_owned(), !state.config.stopping.is_cancelled()));
    }
    all
}

/// Answers one of the three paths, or one check of it.
pub(crate) async fn answer(call: &Call, root: &str, check: &str) -> Response<Body> {
    let all = checks(&call.state, root).await;
    all.iter().for_each(|(name, ok)| call.state.metrics.check(name, &root[1..], *ok));
    let name = &root[1..];
    let text = |code, text: String| {
        let mut response = bytes_response(code, "text/plain; charset=utf-8", text);
        response.headers_mut().insert("x-content-type-options", http::HeaderValue::from_static("nosniff"));
        response
    };
    if !check.is_empty() {
        return match all.iter().find(|(n, _)| n == check) {
            None => crate::route::page_not_found(),
            Some((_, true)) => text(StatusCode::OK, "ok".into()),
            Some((_, false)) => text(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: not ready\n".into()),
        };
    }
    let excluded = call.query.all("exclude");
    let mut report = String::new();
    let mut failed = false;
    for (check, ok) in &all {
        let line = if excluded.contains(check) {
            format!("[+]{check} excluded: ok\n")
        } else if *ok {
            format!("[+]{check} ok\n")
        } else {
            failed = true;
            format!("[-]{check} failed: reason withheld\n")
        };
        report.push_str(&line);
    }
    if failed {
        return text(StatusCode::INTERNAL_SERVER_ERROR, format!("{report}{name} check failed\n"));
    }
    if call.query.has("verbose") {
        return text(StatusCode::OK, format!("{report}{name} check passed\n"));
    }
    text(StatusCode::OK, "ok".into())
}
