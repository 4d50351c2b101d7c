//! What etcd's range can do beyond the store's: filters by revision, and orders.

use grpc::{
    etcd_errors,
    etcdserverpb::{
        self as pb,
        range_request::{SortOrder, SortTarget},
    },
    tonic::Status,
};
use store::{KeyValue, RangeRequest, RangeResponse};

use crate::convert::{Identity, key_value, range};

/// The store's request: without limit, and with values, where the rest is done afterwards.
pub(crate) fn request(request: &pb::RangeRequest) -> Result<RangeRequest, Status> {
    if request.key.is_empty() {
        return Err(Status::invalid_argument(etcd_errors::EMPTY_KEY));
    }
    let known = SortOrder::try_from(request.sort_order).is_ok() && SortTarget::try_from(request.sort_target).is_ok();
    if !known {
        return Err(Status::invalid_argument(etcd_errors::INVALID_SORT));
    }
    let plain = !filters(request) && !sorts(request);
    let limit = if plain { request.limit.max(0).try_into().unwrap_or(usize::MAX) } else { 0 };
    let by_value = sorts(request) && request.sort_target() == SortTarget::Value;
    Ok(RangeRequest {
        range: range(request.key.clone(), request.range_end.clone()),
        revision: request.revision.max(0),
        limit,
        keys_only: request.keys_only && !by_value,
        count_only: request.count_only,
    })
}

/// The answer, filtered, sorted and cut as asked. `count` is that of the range, before filters, as in etcd.
pub(crate) fn response(identity: Identity, request: &pb::RangeRequest, found: RangeResponse) -> pb::RangeResponse {
    let RangeResponse { mut kvs, revision, mut more, count } = found;
    if filters(request) {
        kvs.retain(|kv| passes(request, kv));
    }
    if sorts(request) {
        sort(request, &mut kvs);
    }
    if filters(request) || sorts(request) {
        let limit = if request.limit > 0 { request.limit.try_into().unwrap_or(usize::MAX) } else { usize::MAX };
        more = kvs.len() > limit;
        kvs.truncate(limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    let kvs = kvs.into_iter().map(key_value).collect();
    pb::RangeResponse { header: identity.header(revision), kvs, more, count }
}

fn filters(request: &pb::RangeRequest) -> bool {
    [request.min_mod_revision, request.max_mod_revision, request.min_create_revision, request.max_create_revision]
        .iter()
        .any(|bound| *bound != 0)
}

fn passes(request: &pb::RangeRequest, kv: &KeyValue) -> bool {
    let within = |value: i64, min: i64, max: i64| (min == 0 || value >= min) && (max == 0 || value <= max);
    within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision)
        && within(kv.create_revision, request.min_create_revision, request.max_create_revision)
}

/// Ascending by key is the store's own order. Without an order, a target other than the key means ascending.
fn sorts(request: &pb::RangeRequest) -> bool {
    match (request.sort_order(), request.sort_target()) {
        (SortOrder::Descend, _) => true,
        (SortOrder::None | SortOrder::Ascend, target) => target != SortTarget::Key,
    }
}

fn sort(request: &pb::RangeRequest, kvs: &mut [KeyValue]) {
    match request.sort_target() {
        SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if request.sort_order() == SortOrder::Descend {
        kvs.reverse();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(request: pb::RangeRequest) -> (String, bool, i64) {
        let kv = |key: &'static str, value: &'static str, create, modified, version| KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: create,
            mod_revision: modified,
            version,
            lease: 0,
        };
        let kvs = vec![kv("a", "z", 5, 9, 3), kv("b", "y", 4, 8, 1), kv("c", "x", 6, 7, 2)];
        let found = RangeResponse { kvs, revision: 9, more: false, count: 3 };
        let answer = response(Identity { cluster: 1, member: 2 }, &request, found);
        let keys = answer.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect::<String>();
        (keys, answer.more, answer.count)
    }

    #[test]
    fn orders_filters_and_limits() {
        let sorted = |order: SortOrder, target: SortTarget, limit| pb::RangeRequest {
            sort_order: order.into(),
            sort_target: target.into(),
            limit,
            ..pb::RangeRequest::default()
        };
        let cases = [
            (sorted(SortOrder::Descend, SortTarget::Key, 2), ("cb", true, 3)),
            (sorted(SortOrder::Ascend, SortTarget::Version, 0), ("bca", false, 3)),
            (sorted(SortOrder::None, SortTarget::Create, 0), ("bac", false, 3)),
            (sorted(SortOrder::Descend, SortTarget::Mod, 1), ("a", true, 3)),
            (sorted(SortOrder::Ascend, SortTarget::Value, 3), ("cba", false, 3)),
            (pb::RangeRequest { min_mod_revision: 8, ..Default::default() }, ("ab", false, 3)),
            (pb::RangeRequest { max_create_revision: 4, limit: 1, ..Default::default() }, ("b", false, 3)),
        ];
        for (request, (keys, more, count)) in cases {
            assert_eq!(run(request.clone()), (keys.to_owned(), more, count), "{request:?}");
        }
    }
}
