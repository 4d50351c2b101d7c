//! The store's errors as etcd tells them.

use grpc::{etcd_errors as known, tonic::Status};
use store::Error;

/// Code and message as etcd has them; what is our own keeps our words.
pub(crate) fn status(error: Error) -> Status {
    match error {
        Error::Compacted { .. } => Status::out_of_range(known::COMPACTED),
        Error::FutureRevision { .. } => Status::out_of_range(known::FUTURE_REVISION),
        Error::Closed => Status::unavailable(known::STOPPED),
        Error::TooManyOps { .. } => Status::invalid_argument(known::TOO_MANY_OPS),
        Error::DuplicateKey => Status::invalid_argument(known::DUPLICATE_KEY),
        Error::EmptyKey => Status::invalid_argument(known::EMPTY_KEY),
        Error::KeyNotFound => Status::invalid_argument(known::KEY_NOT_FOUND),
        Error::TooLarge { .. } => Status::invalid_argument(known::TOO_LARGE),
        Error::NoSpace => Status::resource_exhausted(known::NO_SPACE),
        Error::LeaseNotFound(_) => Status::not_found(known::LEASE_NOT_FOUND),
        Error::LeaseExists(_) => Status::failed_precondition(known::LEASE_EXISTS),
        Error::LeaseTtl(_) => Status::out_of_range(known::LEASE_TTL_TOO_LARGE),
        Error::Timeout => Status::unavailable(known::TIMEOUT),
        Error::Unavailable { message } => Status::unavailable(message),
        Error::Denied { message } => Status::permission_denied(message),
        Error::Corrupt { .. } => {
            tracing::error!(%error, "the store is damaged");
            Status::data_loss(known::CORRUPT)
        }
        Error::Invalid(what) => Status::invalid_argument(what),
        Error::Unsupported(what) => Status::unimplemented(what),
        error => {
            tracing::error!(error = %chain(&error), "the store failed");
            Status::internal(error.to_string())
        }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
