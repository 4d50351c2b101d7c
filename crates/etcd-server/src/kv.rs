//! The KV service.

use std::sync::Arc;

use async_trait::async_trait;
use grpc::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
        RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_server::Kv,
    },
    tonic::{Request, Response, Status},
};
use store::{Op, OpResponse, Store, Txn};

use crate::{
    convert::{self, Identity, key_value},
    errors::status,
    select,
};

/// See the module.
pub(crate) struct KvService {
    pub store: Arc<dyn Store>,
    pub identity: Identity,
}

impl KvService {
    async fn one(&self, op: Op) -> Result<(OpResponse, i64), Status> {
        let done = self.store.txn(Txn { success: vec![op], ..Txn::default() }).await.map_err(status)?;
        let revision = done.revision;
        let response = done.responses.into_iter().next();
        response.map(|response| (response, revision)).ok_or_else(|| Status::internal("the store gave no answer"))
    }
}

fn mismatch() -> Status {
    Status::internal("the store answered another question")
}

#[async_trait]
impl Kv for KvService {
    async fn range(&self, request: Request<RangeRequest>) -> Result<Response<RangeResponse>, Status> {
        let request = request.into_inner();
        let found = self.store.range(select::request(&request)?).await.map_err(status)?;
        Ok(Response::new(select::response(self.identity, &request, found)))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let put = convert::put(request.into_inner())?;
        let (OpResponse::Put { prev_kv }, revision) = self.one(Op::Put(put)).await? else { return Err(mismatch()) };
        let header = self.identity.header(revision);
        Ok(Response::new(PutResponse { header, prev_kv: prev_kv.map(key_value) }))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let delete = convert::delete(request.into_inner())?;
        let (OpResponse::DeleteRange { deleted, prev_kvs }, revision) = self.one(delete).await? else {
            return Err(mismatch());
        };
        let prev_kvs = prev_kvs.into_iter().map(key_value).collect();
        Ok(Response::new(DeleteRangeResponse { header: self.identity.header(revision), deleted, prev_kvs }))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let request = request.into_inner();
        let done = self.store.txn(convert::txn(&request)?).await.map_err(status)?;
        Ok(Response::new(convert::txn_response(self.identity, &request, done)))
    }

    async fn compact(&self, request: Request<CompactionRequest>) -> Result<Response<CompactionResponse>, Status> {
        self.store.compact(request.into_inner().revision).await.map_err(status)?;
        let revision = self.store.current_revision().await.map_err(status)?;
        Ok(Response::new(CompactionResponse { header: self.identity.header(revision) }))
    }
}
