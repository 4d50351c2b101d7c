//! No more than ten updaters: the oldest are merged by version.

use super::entries::{Identity, Managed};

const MAX_UPDATE_MANAGERS: usize = 10;
/// Upstream's name for the merged entries.
const ANCIENT: &str = "ancient-changes";

/// Merges the oldest update entries of each version until few enough are left.
pub(super) fn cap(managed: &mut Managed) {
    let mut updaters: Vec<String> =
        managed.managers.iter().filter(|(_, owned)| !owned.applied).map(|(id, _)| id.clone()).collect();
    let mut left = updaters.len();
    if left <= MAX_UPDATE_MANAGERS {
        return;
    }
    updaters.sort_by(|a, b| managed.times.get(a).cmp(&managed.times.get(b)).then_with(|| a.cmp(b)));
    let mut first_of_version: Vec<(String, String)> = Vec::new();
    for id in updaters {
        let Some(owned) = managed.managers.get(&id).cloned() else { continue };
        let version = owned.api_version.clone();
        let bucket = Identity {
            manager: ANCIENT.to_owned(),
            operation: super::OPERATION_UPDATE.to_owned(),
            api_version: version.clone(),
            subresource: String::new(),
        }
        .id();
        let Some(first) = first_of_version.iter().find(|(v, _)| *v == version).map(|(_, first)| first.clone()) else {
            first_of_version.push((version, id));
            continue;
        };
        if !managed.managers.contains_key(&bucket)
            && let Some(oldest) = managed.managers.remove(&first)
        {
            managed.managers.insert(bucket.clone(), oldest);
        }
        let time = managed.times.get(&id).cloned();
        managed.managers.remove(&id);
        if let Some(entry) = managed.managers.get_mut(&bucket) {
            entry.set = owned.set.union(&entry.set);
        }
        if let Some(time) = time {
            managed.times.insert(bucket, time);
        }
        left -= 1;
        if left <= MAX_UPDATE_MANAGERS {
            return;
        }
    }
}
