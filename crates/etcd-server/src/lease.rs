//! The Lease service.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, stream::BoxStream};
use grpc::{
    etcdserverpb::{
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
        LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
        LeaseTimeToLiveResponse, lease_server::Lease,
    },
    tonic::{Request, Response, Status, Streaming},
};
use store::{Error, Store};

use crate::{convert::Identity, errors::status};

/// See the module.
pub(crate) struct LeaseService {
    pub store: Arc<dyn Store>,
    pub identity: Identity,
}

#[async_trait]
impl Lease for LeaseService {
    async fn lease_grant(&self, request: Request<LeaseGrantRequest>) -> Result<Response<LeaseGrantResponse>, Status> {
        let LeaseGrantRequest { ttl, id } = request.into_inner();
        let lease = self.store.lease_grant(ttl, id).await.map_err(status)?;
        let header = self.identity.header(lease.revision);
        Ok(Response::new(LeaseGrantResponse { header, id: lease.id, ttl: lease.ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<LeaseRevokeRequest>,
    ) -> Result<Response<LeaseRevokeResponse>, Status> {
        let revision = self.store.lease_revoke(request.into_inner().id).await.map_err(status)?;
        Ok(Response::new(LeaseRevokeResponse { header: self.identity.header(revision) }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    /// One answer per request; an unknown lease is answered with 0 seconds.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let (store, identity) = (self.store.clone(), self.identity);
        let answers = request.into_inner().then(move |request| {
            let store = store.clone();
            async move {
                let id = request?.id;
                let (ttl, revision) = match store.lease_keep_alive(id).await {
                    Ok(lease) => (lease.ttl, lease.revision),
                    Err(Error::LeaseNotFound(_)) => (0, store.current_revision().await.map_err(status)?),
                    Err(error) => return Err(status(error)),
                };
                Ok(LeaseKeepAliveResponse { header: identity.header(revision), id, ttl })
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<LeaseTimeToLiveRequest>,
    ) -> Result<Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let lease = self.store.lease_time_to_live(id, keys).await.map_err(status)?;
        Ok(Response::new(LeaseTimeToLiveResponse {
            header: self.identity.header(lease.revision),
            id,
            ttl: lease.remaining_ttl,
            granted_ttl: lease.granted_ttl,
            keys: lease.keys,
        }))
    }

    async fn lease_leases(&self, _: Request<LeaseLeasesRequest>) -> Result<Response<LeaseLeasesResponse>, Status> {
        let leases = self.store.lease_list().await.map_err(status)?;
        let revision = self.store.current_revision().await.map_err(status)?;
        let leases = leases.into_iter().map(|id| LeaseStatus { id }).collect();
        Ok(Response::new(LeaseLeasesResponse { header: self.identity.header(revision), leases }))
    }
}
