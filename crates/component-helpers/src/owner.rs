//! References to owners.

use api::Kind;
use api::metav1::OwnerReference;

/// Names an owner that neither controls the object nor is held up by it when it is deleted in the foreground; callers set what
/// is otherwise.
pub fn reference<T: Kind>(owner: &T) -> OwnerReference {
    OwnerReference {
        api_version: T::API_VERSION.to_owned(),
        kind: T::KIND.to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: None,
        block_owner_deletion: None,
    }
}
