//! What to do about an object, given the state of its owners; pure.

use client::Propagation;
use meta::{Object, OwnerReference};

use super::{FOREGROUND, ORPHAN};

/// The state of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there.
    Solid,
    /// It is gone, or another object has its name.
    Absent,
    /// It waits for its dependents to go first.
    Waiting,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// Remove these owners from its references.
    Forget(Vec<String>),
    /// Delete it.
    Delete(Propagation),
}

/// Upstream's rule: an object with a solid owner stays and forgets the others; one without goes.
pub(super) fn decide(live: &Object, owners: &[(OwnerReference, Owner)], has_dependents: bool) -> Verdict {
    if owners.is_empty() {
        return Verdict::Keep;
    }
    if owners.iter().any(|(_, state)| *state == Owner::Solid) {
        let others: Vec<String> =
            owners.iter().filter(|(_, state)| *state != Owner::Solid).map(|(r, _)| r.uid.clone()).collect();
        return if others.is_empty() { Verdict::Keep } else { Verdict::Forget(others) };
    }
    if owners.iter().any(|(_, state)| *state == Owner::Waiting) && has_dependents {
        // The chain is deleted from its end.
        return Verdict::Delete(Propagation::Foreground);
    }
    let finalizers = live.finalizers();
    Verdict::Delete(if finalizers.contains(&ORPHAN) {
        Propagation::Orphan
    } else if finalizers.contains(&FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        use Owner::{Absent, Solid, Waiting};
        let background = Verdict::Delete(Propagation::Background);
        let foreground = Verdict::Delete(Propagation::Foreground);
        for (states, dependents, want) in [
            (vec![], false, Verdict::Keep),
            (vec![Solid], false, Verdict::Keep),
            (vec![Solid, Absent], false, Verdict::Forget(vec!["1".into()])),
            (vec![Waiting, Solid], false, Verdict::Forget(vec!["0".into()])),
            (vec![Absent], true, background.clone()),
            (vec![Waiting], false, background),
            (vec![Waiting, Absent], true, foreground),
        ] {
            let owners: Vec<(OwnerReference, Owner)> = states
                .iter()
                .enumerate()
                .map(|(n, state)| (OwnerReference { uid: n.to_string(), ..OwnerReference::default() }, *state))
                .collect();
            assert_eq!(decide(&Object::default(), &owners, dependents), want, "{states:?}");
        }
    }
}
