//! etcd's messages to the store's types and back.

use bytes::Bytes;
use grpc::{
    etcd_errors,
    etcdserverpb::{self as pb, ResponseHeader, compare::CompareResult, compare::TargetUnion, request_op, response_op},
    mvccpb,
    tonic::Status,
};
use store::{
    Compare, CompareOp, CompareTarget, Event, EventKind, KeyRange, KeyValue, Op, OpResponse, PutOp, RangeEnd, Txn,
    TxnResponse,
};

use crate::select;

/// Depth of transactions in transactions that is read.
const MAX_DEPTH: usize = 16;

/// Who answers; part of every answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub cluster: u64,
    pub member: u64,
}

impl Identity {
    pub fn header(self, revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader { cluster_id: self.cluster, member_id: self.member, revision, raft_term: 2 })
    }
}

/// An empty end means one key, a zero byte means no end.
pub(crate) fn range(key: Bytes, end: Bytes) -> KeyRange {
    let end = match &end[..] {
        [] => RangeEnd::Single,
        [0] => RangeEnd::Unbounded,
        _ => RangeEnd::Before(end),
    };
    KeyRange { start: key, end }
}

pub(crate) fn key_value(kv: KeyValue) -> mvccpb::KeyValue {
    mvccpb::KeyValue {
        key: kv.key,
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        value: kv.value,
        lease: kv.lease,
    }
}

pub(crate) fn event(event: Event) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    mvccpb::Event { r#type: kind.into(), kv: Some(key_value(event.kv)), prev_kv: event.prev_kv.map(key_value) }
}

pub(crate) fn put(request: pb::PutRequest) -> Result<PutOp, Status> {
    if request.ignore_value && !request.value.is_empty() {
        return Err(Status::invalid_argument(etcd_errors::VALUE_PROVIDED));
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Status::invalid_argument(etcd_errors::LEASE_PROVIDED));
    }
    Ok(PutOp {
        key: request.key,
        value: request.value,
        lease: request.lease,
        prev_kv: request.prev_kv,
        ignore_value: request.ignore_value,
        ignore_lease: request.ignore_lease,
    })
}

pub(crate) fn delete(request: pb::DeleteRangeRequest) -> Result<Op, Status> {
    if request.key.is_empty() {
        return Err(Status::invalid_argument(etcd_errors::EMPTY_KEY));
    }
    Ok(Op::DeleteRange { range: range(request.key, request.range_end), prev_kv: request.prev_kv })
}

pub(crate) fn txn(request: &pb::TxnRequest) -> Result<Txn, Status> {
    txn_at(request, MAX_DEPTH)
}

fn txn_at(request: &pb::TxnRequest, depth: usize) -> Result<Txn, Status> {
    let depth = depth.checked_sub(1).ok_or_else(|| Status::invalid_argument("transactions are nested too deep"))?;
    let ops = |ops: &[pb::RequestOp]| ops.iter().map(|request| op(request, depth)).collect::<Result<Vec<_>, _>>();
    Ok(Txn {
        compares: request.compare.iter().map(compare).collect::<Result<_, _>>()?,
        success: ops(&request.success)?,
        failure: ops(&request.failure)?,
    })
}

fn op(request: &pb::RequestOp, depth: usize) -> Result<Op, Status> {
    match &request.request {
        Some(request_op::Request::RequestRange(range)) => Ok(Op::Range(select::request(range)?)),
        Some(request_op::Request::RequestPut(request)) => Ok(Op::Put(put(request.clone())?)),
        Some(request_op::Request::RequestDeleteRange(request)) => delete(request.clone()),
        Some(request_op::Request::RequestTxn(request)) => Ok(Op::Txn(txn_at(request, depth)?)),
        // etcd takes an operation without content for an empty key.
        None => Err(Status::invalid_argument(etcd_errors::EMPTY_KEY)),
    }
}

fn compare(compare: &pb::Compare) -> Result<Compare, Status> {
    use grpc::etcdserverpb::compare::CompareTarget as Target;
    if compare.key.is_empty() {
        return Err(Status::invalid_argument(etcd_errors::EMPTY_KEY));
    }
    let op = match compare.result() {
        CompareResult::Equal => CompareOp::Equal,
        CompareResult::Greater => CompareOp::Greater,
        CompareResult::Less => CompareOp::Less,
        CompareResult::NotEqual => CompareOp::NotEqual,
    };
    // The union may be absent: proto3 clients leave out a zero.
    let target = match (compare.target(), &compare.target_union) {
        (Target::Version, Some(TargetUnion::Version(version))) => CompareTarget::Version(*version),
        (Target::Version, _) => CompareTarget::Version(0),
        (Target::Create, Some(TargetUnion::CreateRevision(revision))) => CompareTarget::Create(*revision),
        (Target::Create, _) => CompareTarget::Create(0),
        (Target::Mod, Some(TargetUnion::ModRevision(revision))) => CompareTarget::Mod(*revision),
        (Target::Mod, _) => CompareTarget::Mod(0),
        (Target::Value, Some(TargetUnion::Value(value))) => CompareTarget::Value(value.clone()),
        (Target::Value, _) => CompareTarget::Value(Bytes::new()),
        (Target::Lease, Some(TargetUnion::Lease(lease))) => CompareTarget::Lease(*lease),
        (Target::Lease, _) => CompareTarget::Lease(0),
    };
    Ok(Compare { range: range(compare.key.clone(), compare.range_end.clone()), op, target })
}

/// The answer to a transaction; the request is needed for what is done to its reads afterwards.
pub(crate) fn txn_response(identity: Identity, request: &pb::TxnRequest, response: TxnResponse) -> pb::TxnResponse {
    let header = identity.header(response.revision);
    let ops = if response.succeeded { &request.success } else { &request.failure };
    let responses = ops.iter().zip(response.responses).map(|(op, response)| {
        let response = op_response(identity, op, response, response_revision(&header));
        pb::ResponseOp { response: Some(response) }
    });
    pb::TxnResponse { succeeded: response.succeeded, responses: responses.collect(), header }
}

fn response_revision(header: &Option<ResponseHeader>) -> i64 {
    header.as_ref().map_or(0, |header| header.revision)
}

fn op_response(
    identity: Identity,
    request: &pb::RequestOp,
    response: OpResponse,
    revision: i64,
) -> response_op::Response {
    let header = identity.header(revision);
    match (response, &request.request) {
        (OpResponse::Range(response), Some(request_op::Request::RequestRange(request))) => {
            response_op::Response::ResponseRange(select::response(identity, request, response))
        }
        (OpResponse::Txn(response), Some(request_op::Request::RequestTxn(request))) => {
            response_op::Response::ResponseTxn(txn_response(identity, request, response))
        }
        (OpResponse::Put { prev_kv }, _) => {
            response_op::Response::ResponsePut(pb::PutResponse { header, prev_kv: prev_kv.map(key_value) })
        }
        (OpResponse::DeleteRange { deleted, prev_kvs }, _) => {
            let prev_kvs = prev_kvs.into_iter().map(key_value).collect();
            response_op::Response::ResponseDeleteRange(pb::DeleteRangeResponse { header, deleted, prev_kvs })
        }
        // The store answers each operation in kind.
        (OpResponse::Range(_) | OpResponse::Txn(_), _) => {
            response_op::Response::ResponseRange(pb::RangeResponse { header, ..pb::RangeResponse::default() })
        }
    }
}
