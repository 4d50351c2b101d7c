//! The Maintenance and Cluster services: a cluster of one.

use std::sync::Arc;

use async_trait::async_trait;
use futures::stream::BoxStream;
use grpc::{
    etcdserverpb::{
        AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeRequest, DowngradeResponse,
        HashKvRequest, HashKvResponse, HashRequest, HashResponse, Member, MemberAddRequest, MemberAddResponse,
        MemberListRequest, MemberListResponse, MemberPromoteRequest, MemberPromoteResponse, MemberRemoveRequest,
        MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse, MoveLeaderRequest, MoveLeaderResponse,
        SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, cluster_server::Cluster,
        maintenance_server::Maintenance,
    },
    tonic::{Request, Response, Status},
};
use store::Store;

use crate::{API_VERSION, convert::Identity, errors::status};

/// See the module.
pub(crate) struct AdminService {
    pub store: Arc<dyn Store>,
    pub identity: Identity,
    pub name: String,
    pub client_urls: Vec<String>,
    pub peer_urls: Vec<String>,
    pub quota_bytes: u64,
}

const ONE_MEMBER: &str = "this store has one member for good; for several, run etcd and name it with --etcd-servers";

impl AdminService {
    async fn header(&self) -> Result<Option<grpc::etcdserverpb::ResponseHeader>, Status> {
        Ok(self.identity.header(self.store.current_revision().await.map_err(status)?))
    }
}

fn clip(bytes: u64) -> i64 {
    bytes.try_into().unwrap_or(i64::MAX)
}

#[async_trait]
impl Maintenance for AdminService {
    /// There are never alarms: a full store refuses writes by itself and takes them again when there is room.
    async fn alarm(&self, _: Request<AlarmRequest>) -> Result<Response<AlarmResponse>, Status> {
        Ok(Response::new(AlarmResponse { header: self.header().await?, alarms: Vec::new() }))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let found = self.store.status().await.map_err(status)?;
        // There is no raft; clients only compare the numbers between members.
        let index = found.revision.unsigned_abs();
        Ok(Response::new(StatusResponse {
            header: self.identity.header(found.revision),
            version: API_VERSION.to_owned(),
            db_size: clip(found.db_size),
            leader: self.identity.member,
            raft_index: index,
            raft_term: 2,
            raft_applied_index: index,
            db_size_in_use: clip(found.db_size_in_use),
            db_size_quota: clip(self.quota_bytes),
            ..StatusResponse::default()
        }))
    }

    async fn defragment(&self, _: Request<DefragmentRequest>) -> Result<Response<DefragmentResponse>, Status> {
        self.store.defragment().await.map_err(status)?;
        Ok(Response::new(DefragmentResponse { header: self.header().await? }))
    }

    async fn hash(&self, _: Request<HashRequest>) -> Result<Response<HashResponse>, Status> {
        Err(Status::unimplemented("hash compares members, and this store has one"))
    }

    async fn hash_kv(&self, _: Request<HashKvRequest>) -> Result<Response<HashKvResponse>, Status> {
        Err(Status::unimplemented("hash compares members, and this store has one"))
    }

    type SnapshotStream = BoxStream<'static, Result<SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented("this store is no bbolt file; it has snapshots in a format of its own"))
    }

    async fn move_leader(&self, _: Request<MoveLeaderRequest>) -> Result<Response<MoveLeaderResponse>, Status> {
        Err(Status::unimplemented(ONE_MEMBER))
    }

    async fn downgrade(&self, _: Request<DowngradeRequest>) -> Result<Response<DowngradeResponse>, Status> {
        Err(Status::unimplemented("this store is not etcd and has no older etcd version to go to"))
    }
}

#[async_trait]
impl Cluster for AdminService {
    async fn member_add(&self, _: Request<MemberAddRequest>) -> Result<Response<MemberAddResponse>, Status> {
        Err(Status::unimplemented(ONE_MEMBER))
    }

    async fn member_remove(&self, _: Request<MemberRemoveRequest>) -> Result<Response<MemberRemoveResponse>, Status> {
        Err(Status::unimplemented(ONE_MEMBER))
    }

    async fn member_update(&self, _: Request<MemberUpdateRequest>) -> Result<Response<MemberUpdateResponse>, Status> {
        Err(Status::unimplemented(ONE_MEMBER))
    }

    async fn member_list(&self, _: Request<MemberListRequest>) -> Result<Response<MemberListResponse>, Status> {
        let member = Member {
            id: self.identity.member,
            name: self.name.clone(),
            peer_ur_ls: self.peer_urls.clone(),
            client_ur_ls: self.client_urls.clone(),
            is_learner: false,
        };
        Ok(Response::new(MemberListResponse { header: self.header().await?, members: vec![member] }))
    }

    async fn member_promote(
        &self,
        _: Request<MemberPromoteRequest>,
    ) -> Result<Response<MemberPromoteResponse>, Status> {
        Err(Status::unimplemented(ONE_MEMBER))
    }
}
