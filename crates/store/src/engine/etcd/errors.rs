//! etcd's errors as ours.

use std::error::Error as _;

use grpc::{
    etcd_errors as known,
    tonic::{Code, ConnectError, Status},
};

use crate::{Error, LeaseId};

/// Translates an error by its message, then by its code.
pub(super) fn from_status(status: Status) -> Error {
    let message = status.message();
    match message {
        known::EMPTY_KEY => return Error::EmptyKey,
        known::KEY_NOT_FOUND => return Error::KeyNotFound,
        known::TOO_MANY_OPS => return Error::TooManyOps { limit: 0 },
        known::DUPLICATE_KEY => return Error::DuplicateKey,
        known::COMPACTED => return Error::Compacted { requested: 0, compacted: 0 },
        known::FUTURE_REVISION => return Error::FutureRevision { requested: 0, current: 0 },
        known::NO_SPACE => return Error::NoSpace,
        known::LEASE_NOT_FOUND => return Error::LeaseNotFound(0),
        known::LEASE_EXISTS => return Error::LeaseExists(0),
        known::LEASE_TTL_TOO_LARGE => return Error::LeaseTtl(0),
        known::TOO_LARGE => return Error::TooLarge { limit: 0 },
        _ => {}
    }
    match status.code() {
        // gRPC's own limit, which etcd sets above its limit for requests.
        Code::ResourceExhausted if message.contains("larger than max") => Error::TooLarge { limit: 0 },
        Code::OutOfRange if message.contains("length too large") => Error::TooLarge { limit: 0 },
        // A connection that went away in the middle comes as Unknown or Cancelled from the transport.
        Code::Unavailable | Code::Aborted | Code::Cancelled | Code::ResourceExhausted => {
            Error::Unavailable { message: describe(&status) }
        }
        Code::Unknown if status.source().is_some() => Error::Unavailable { message: describe(&status) },
        Code::DeadlineExceeded => Error::Timeout,
        Code::PermissionDenied | Code::Unauthenticated => Error::Denied { message: message.to_owned() },
        _ => Error::engine("serve the request", status),
    }
}

/// Whether the request never left, so that a write can be repeated.
pub(super) fn never_sent(status: &Status) -> bool {
    sources(status).any(|source| source.is::<ConnectError>())
}

/// etcd does not say which lease it did not find.
pub(super) fn name_lease(error: Error, id: LeaseId) -> Error {
    if let Error::LeaseNotFound(0) = error { Error::LeaseNotFound(id) } else { error }
}

fn sources(status: &Status) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(status.source(), |error: &&(dyn std::error::Error + 'static)| (**error).source())
}

/// The message with its causes, which for a failed connection hold what matters.
fn describe(status: &Status) -> String {
    let mut text = status.message().to_owned();
    for source in sources(status) {
        let source = source.to_string();
        if !text.contains(&source) {
            text = format!("{text}: {source}");
        }
    }
    text
}
