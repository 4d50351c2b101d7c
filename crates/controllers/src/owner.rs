//! Who owns what: claiming, adopting and releasing objects by controller reference.

use std::sync::Arc;

use api::Kind;
use api::metav1::OwnerReference;
use client::{Client, Error, PatchKind};
use component_helpers::owner::reference;
use meta::selector::LabelSelector;
use serde_json::json;

/// The reference by which an owner controls an object.
pub(crate) fn controller_reference<T: Kind>(owner: &T) -> OwnerReference {
    OwnerReference { controller: Some(true), block_owner_deletion: Some(true), ..reference(owner) }
}

/// What an owner is to do about an object.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Claim {
    /// It is the owner's.
    Keep,
    /// It is nobody's and matches: take it.
    Adopt,
    /// It is the owner's and matches no more: let it go.
    Release,
    /// It is none of the owner's business.
    Ignore,
}

/// Upstream's rule of claiming. `active` says whether an orphan is worth adopting.
pub(crate) fn claim<O: Kind, T: Kind>(owner: &O, object: &T, selector: &LabelSelector, active: bool) -> Claim {
    let matches = selector.matches_map(object.labels());
    match object.controller_ref() {
        Some(reference) if reference.uid != owner.uid() => Claim::Ignore,
        Some(_) if matches => Claim::Keep,
        Some(_) if owner.is_deleting() => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner.is_deleting() || !matches || object.is_deleting() || !active => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// Claims objects: adopts and releases through the API and gives those that are (now) the owner's.
///
/// # Errors
/// An adoption failed for another reason than that the object is gone or changed.
pub(crate) async fn claim_all<O: Kind, T: Kind>(
    client: &Client,
    owner: &O,
    objects: Vec<Arc<T>>,
    selector: &LabelSelector,
    active: impl Fn(&T) -> bool,
) -> Result<Vec<Arc<T>>, Error> {
    claim_all_with(client, owner, objects, selector, active, None).await
}

/// As [`claim_all`]; a finalizer comes with an adoption and goes with a release.
///
/// # Errors
/// An adoption failed for another reason than that the object is gone or changed.
pub(crate) async fn claim_all_with<O: Kind, T: Kind>(
    client: &Client,
    owner: &O,
    objects: Vec<Arc<T>>,
    selector: &LabelSelector,
    active: impl Fn(&T) -> bool,
    finalizer: Option<&str>,
) -> Result<Vec<Arc<T>>, Error> {
    let mut claimed = Vec::with_capacity(objects.len());
    let mut checked = false;
    for object in objects {
        match claim(owner, &*object, selector, active(&object)) {
            Claim::Ignore => {}
            Claim::Keep => claimed.push(object),
            Claim::Release => release(client, owner, &*object, finalizer).await?,
            Claim::Adopt => {
                if !checked {
                    can_adopt(client, owner).await?;
                    checked = true;
                }
                if adopt(client, owner, &*object, finalizer).await? {
                    claimed.push(object);
                }
            }
        }
    }
    Ok(claimed)
}

/// The cache may be behind: an owner that is gone or going must not adopt.
async fn can_adopt<O: Kind>(client: &Client, owner: &O) -> Result<(), Error> {
    let fresh = client.get::<O>(owner.namespace(), owner.name()).await?;
    if fresh.uid() != owner.uid() || fresh.is_deleting() {
        return Err(Error::Request(format!("{} {} may not adopt: it is gone or being deleted", O::KIND, owner.key())));
    }
    Ok(())
}

fn lost(error: &Error) -> bool {
    error.is_not_found() || error.status().is_some_and(meta::Status::is_invalid)
}

async fn adopt<O: Kind, T: Kind>(
    client: &Client,
    owner: &O,
    object: &T,
    finalizer: Option<&str>,
) -> Result<bool, Error> {
    let mut patch = json!({"metadata": {
        "uid": object.uid(),
        "ownerReferences": [controller_reference(owner)],
    }});
    if let Some(finalizer) = finalizer {
        patch["metadata"]["finalizers"] = json!([finalizer]);
    }
    match client.patch::<T>(object.namespace(), object.name(), &PatchKind::Strategic, &patch).await {
        Ok(_) => Ok(true),
        Err(error) if lost(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

async fn release<O: Kind, T: Kind>(
    client: &Client,
    owner: &O,
    object: &T,
    finalizer: Option<&str>,
) -> Result<(), Error> {
    let mut patch = json!({"metadata": {
        "uid": object.uid(),
        "ownerReferences": [{"$patch": "delete", "uid": owner.uid()}],
    }});
    if let Some(finalizer) = finalizer {
        patch["metadata"]["$deleteFromPrimitiveList/finalizers"] = json!([finalizer]);
    }
    match client.patch::<T>(object.namespace(), object.name(), &PatchKind::Strategic, &patch).await {
        Ok(_) => Ok(()),
        Err(error) if lost(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The selector of an object's spec.
pub(crate) fn selector_of(selector: &api::metav1::LabelSelector) -> LabelSelector {
    let value = serde_json::to_value(selector).unwrap_or_default();
    // A stored selector was validated; one that is not readable must match nothing.
    LabelSelector::from_value(Some(&value)).unwrap_or_else(|_| LabelSelector::nothing())
}
