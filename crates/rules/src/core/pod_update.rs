//! What may change in a pod after it was created.

use crate::C;

/// `pods/ephemeralcontainers`: containers may be added, never changed or removed.
pub fn ephemeral_containers(new: &C, old: &C) {
    let (new, old) = (new.get("spec.ephemeralContainers"), old.get("spec.ephemeralContainers"));
    for container in old.items() {
        let name = container.get("name");
        let same = new.items().find(|c| c.get("name").str() == name.str()).map(|c| c.same(&container));
        match same {
            None => new.forbidden(format!("existing ephemeral containers {:?} may not be removed\n", name.str())),
            Some(false) => new.forbidden(format!("existing ephemeral containers {:?} may not be changed\n", name.str())),
            Some(true) => {}
        }
    }
}

/// `pods/resize`: only CPU and memory of containers.
pub fn resize(_new: &C, _old: &C) {}
