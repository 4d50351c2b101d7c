//! Whom a change concerns: the watch set-up that all owners of pods, and of ReplicaSets, share.

use std::sync::Arc;

use api::Kind;
use informer::{Delta, Informer, Queue};
use meta::selector::LabelSelector;

/// The index of objects by the uid of their controller.
pub(crate) const BY_CONTROLLER: &str = "controller";

/// Index values of an object: its controller's uid, or `orphan/<namespace>`.
pub(crate) fn by_controller<T: Kind>(object: &T) -> Vec<String> {
    match object.controller_ref() {
        Some(reference) => vec![reference.uid.clone()],
        None => vec![format!("orphan/{}", object.namespace())],
    }
}

/// What an owner has or may claim: objects that it controls, and the orphans of its namespace.
pub(crate) fn candidates<O: Kind, T: Kind>(owner: &O, owned: &Informer<T>) -> Vec<Arc<T>> {
    let mut found = owned.cache().by_index(BY_CONTROLLER, owner.uid());
    found.extend(owned.cache().by_index(BY_CONTROLLER, &format!("orphan/{}", owner.namespace())));
    found
}

/// The owner that controls an object, when the cache has it.
pub(crate) fn owner_of<O: Kind, T: Kind>(owners: &Informer<O>, object: &T) -> Option<Arc<O>> {
    let reference = object.controller_ref().filter(|reference| reference.kind == O::KIND)?;
    owners.cache().get(object.namespace(), &reference.name).filter(|owner| owner.uid() == reference.uid)
}

/// The owners that a change concerns: the former one of an object that was let go, the present one, or of an orphan each
/// that may want it.
pub(crate) fn concerned<O: Kind, T: Kind>(
    owners: &Informer<O>,
    delta: &Delta<T>,
    selector: impl Fn(&O) -> Option<LabelSelector>,
) -> Vec<Arc<O>> {
    let mut found = Vec::new();
    if let Delta::Updated { old, new } = delta
        && old.controller_ref() != new.controller_ref()
    {
        found.extend(owner_of(owners, &**old));
    }
    let object = delta.object();
    match owner_of(owners, &**object) {
        Some(owner) => found.push(owner),
        None if object.controller_ref().is_none() && !matches!(delta, Delta::Deleted(_)) => {
            let all = owners.cache().in_namespace(object.namespace());
            found.extend(all.into_iter().filter(|o| selector(o).is_some_and(|s| s.matches_map(object.labels()))));
        }
        None => {}
    }
    found
}

/// Has owners looked at when they change and when what they own, or may own, does.
pub(crate) fn follow<O: Kind, T: Kind>(
    owners: &Informer<O>,
    owned: &Informer<T>,
    queue: &Arc<Queue<String>>,
    selector: impl Fn(&O) -> Option<LabelSelector> + Send + Sync + 'static,
) {
    owned.add_index(BY_CONTROLLER, by_controller);
    // Handlers outlive a controller that is started again: they must not keep its queue.
    let changed = Arc::downgrade(queue);
    owners.add_handler(move |delta| {
        if let Some(queue) = changed.upgrade() {
            queue.add(delta.object().key());
        }
    });
    let (changed, owners) = (Arc::downgrade(queue), owners.clone());
    owned.add_handler(move |delta| {
        let Some(queue) = changed.upgrade() else { return };
        concerned(&owners, delta, &selector).iter().for_each(|owner| queue.add(owner.key()));
    });
}
