//! Our types to etcd's and back.

use bytes::Bytes;
use grpc::{
    etcdserverpb::{
        self as pb, compare::CompareResult, compare::CompareTarget as PbTarget, compare::TargetUnion, request_op,
        response_op,
    },
    mvccpb,
};

use crate::{
    Compare, CompareOp, CompareTarget, Error, Event, EventKind, KeyRange, KeyValue, Op, OpResponse, RangeEnd,
    RangeRequest, RangeResponse, Result, Txn, TxnResponse,
};

/// A range as etcd writes it: a key and an end, where an empty end means one key and a zero byte means no end.
pub(super) fn range(range: &KeyRange) -> (Bytes, Bytes) {
    let zero = Bytes::from_static(&[0]);
    let start = if range.start.is_empty() { zero.clone() } else { range.start.clone() };
    let end = match &range.end {
        RangeEnd::Single => Bytes::new(),
        // etcd would take it for another form of range; this one is empty too.
        RangeEnd::Before(end) if *end <= start => start.clone(),
        RangeEnd::Before(end) => end.clone(),
        RangeEnd::Unbounded => zero,
    };
    (start, end)
}

pub(super) fn range_request(request: &RangeRequest) -> pb::RangeRequest {
    let (key, range_end) = range(&request.range);
    pb::RangeRequest {
        key,
        range_end,
        limit: request.limit.try_into().unwrap_or(i64::MAX),
        revision: request.revision,
        keys_only: request.keys_only,
        count_only: request.count_only,
        ..pb::RangeRequest::default()
    }
}

pub(super) fn range_response(response: pb::RangeResponse) -> RangeResponse {
    RangeResponse {
        kvs: response.kvs.into_iter().map(key_value).collect(),
        revision: response.header.map_or(0, |header| header.revision),
        more: response.more,
        count: response.count,
    }
}

pub(super) fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: kv.key,
        value: kv.value,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub(super) fn event(event: mvccpb::Event) -> Event {
    Event {
        kind: if event.r#type() == mvccpb::event::EventType::Delete { EventKind::Delete } else { EventKind::Put },
        kv: event.kv.map(key_value).unwrap_or_default(),
        prev_kv: event.prev_kv.map(key_value),
    }
}

pub(super) fn txn_request(txn: &Txn) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(op).collect(),
        failure: txn.failure.iter().map(op).collect(),
    }
}

fn compare(compare: &Compare) -> pb::Compare {
    let result = match compare.op {
        CompareOp::Equal => CompareResult::Equal,
        CompareOp::Greater => CompareResult::Greater,
        CompareOp::Less => CompareResult::Less,
        CompareOp::NotEqual => CompareResult::NotEqual,
    };
    let (target, union) = match &compare.target {
        CompareTarget::Version(version) => (PbTarget::Version, TargetUnion::Version(*version)),
        CompareTarget::Create(revision) => (PbTarget::Create, TargetUnion::CreateRevision(*revision)),
        CompareTarget::Mod(revision) => (PbTarget::Mod, TargetUnion::ModRevision(*revision)),
        CompareTarget::Value(value) => (PbTarget::Value, TargetUnion::Value(value.clone())),
        CompareTarget::Lease(lease) => (PbTarget::Lease, TargetUnion::Lease(*lease)),
    };
    let (key, range_end) = range(&compare.range);
    pb::Compare { result: result.into(), target: target.into(), key, range_end, target_union: Some(union) }
}

fn op(op: &Op) -> pb::RequestOp {
    let request = match op {
        Op::Put(put) => request_op::Request::RequestPut(pb::PutRequest {
            key: put.key.clone(),
            value: if put.ignore_value { Bytes::new() } else { put.value.clone() },
            lease: if put.ignore_lease { 0 } else { put.lease },
            prev_kv: put.prev_kv,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        }),
        Op::DeleteRange { range: keys, prev_kv } => {
            let (key, range_end) = range(keys);
            request_op::Request::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv: *prev_kv })
        }
        Op::Range(request) => request_op::Request::RequestRange(range_request(request)),
        Op::Txn(txn) => request_op::Request::RequestTxn(txn_request(txn)),
    };
    pb::RequestOp { request: Some(request) }
}

pub(super) fn txn_response(response: pb::TxnResponse) -> Result<TxnResponse> {
    Ok(TxnResponse {
        revision: response.header.map_or(0, |header| header.revision),
        succeeded: response.succeeded,
        responses: response.responses.into_iter().map(op_response).collect::<Result<_>>()?,
    })
}

fn op_response(response: pb::ResponseOp) -> Result<OpResponse> {
    match response.response {
        Some(response_op::Response::ResponsePut(put)) => Ok(OpResponse::Put { prev_kv: put.prev_kv.map(key_value) }),
        Some(response_op::Response::ResponseDeleteRange(delete)) => Ok(OpResponse::DeleteRange {
            deleted: delete.deleted,
            prev_kvs: delete.prev_kvs.into_iter().map(key_value).collect(),
        }),
        Some(response_op::Response::ResponseRange(range)) => Ok(OpResponse::Range(range_response(range))),
        Some(response_op::Response::ResponseTxn(txn)) => Ok(OpResponse::Txn(txn_response(txn)?)),
        None => Err(Error::Invalid("etcd answered an operation with nothing")),
    }
}
