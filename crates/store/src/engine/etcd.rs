//! The etcd engine: a real etcd v3 cluster through its gRPC API.
//!
//! Requests go to one endpoint as long as it answers, then to the next. Reads are repeated on another endpoint; a write
//! is repeated only if no connection came about, because otherwise it may have been done. A watch has a stream
//! of its own, so that one slow consumer holds up no other, and goes on where it was when the stream breaks.

mod convert;
mod dial;
mod errors;
mod follow;

use std::{
    fmt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use grpc::{
    etcdserverpb::{
        CompactionRequest, DefragmentRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
        LeaseRevokeRequest, LeaseTimeToLiveRequest, ResponseHeader, StatusRequest, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
    },
    tonic::{Status as GrpcStatus, transport::Channel},
};

use self::errors::from_status;
use crate::{
    Error, KeyRange, Lease, LeaseId, LeaseStatus, RangeRequest, RangeResponse, Result, Revision, Status, Store, Txn,
    TxnResponse, WatchRequest, Watcher, engine::snapshot,
};

/// Times a read goes to all endpoints.
const ROUNDS: usize = 2;

/// Certificates for a connection; all PEM.
#[derive(Clone, Default)]
pub struct EtcdTls {
    /// The authorities that the servers' certificates come from; empty means none is trusted.
    pub ca: Vec<u8>,
    /// Our certificate chain and key, if the servers ask for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name expected in the servers' certificates instead of the host in the endpoint.
    pub server_name: Option<String>,
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// How to reach a cluster.
#[derive(Debug, Clone)]
pub struct EtcdOptions {
    /// `http://host:port` or `https://host:port`; without a scheme, `http` or `https` as `tls` is given.
    pub endpoints: Vec<String>,
    /// Needed for `https` endpoints.
    pub tls: Option<EtcdTls>,
    /// Longest time for a connection.
    pub connect_timeout: Duration,
    /// Longest time for an answer.
    pub request_timeout: Duration,
    /// Largest answer in bytes; lists are long.
    pub max_answer_bytes: usize,
}

impl Default for EtcdOptions {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            tls: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            max_answer_bytes: i32::MAX as usize,
        }
    }
}

/// The connections, shared by the store and its watches.
pub(crate) struct Client {
    channels: Vec<Channel>,
    current: AtomicUsize,
    request_timeout: Duration,
    max_answer_bytes: usize,
}

/// What a call does, for its repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
}

impl Client {
    fn channel(&self) -> (usize, Channel) {
        let at = self.current.load(Ordering::Relaxed) % self.channels.len();
        (at, self.channels[at].clone())
    }

    /// Goes to the next endpoint, unless another call did so already.
    fn leave(&self, at: usize) {
        let next = (at + 1) % self.channels.len();
        // Losing the race means that the endpoint was left already.
        let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes a call, and makes it again at other endpoints as far as that is safe.
    async fn call<T, F>(&self, kind: Kind, make: impl Fn(Channel) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, GrpcStatus>>,
    {
        let mut backoff = rt::Backoff::new(Duration::from_millis(25), Duration::from_secs(1)).with_jitter(0.2);
        let mut left = self.channels.len() * ROUNDS;
        loop {
            left -= 1;
            let (at, channel) = self.channel();
            let status = match rt::time::timeout(self.request_timeout, make(channel)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => status,
                Err(_) => {
                    self.leave(at);
                    return Err(Error::Timeout);
                }
            };
            let never_sent = errors::never_sent(&status);
            let error = from_status(status);
            if !error.is_transient() {
                return Err(error);
            }
            self.leave(at);
            if left == 0 || !(never_sent || kind == Kind::Read) {
                return Err(error);
            }
            tracing::debug!(endpoint = at, %error, "etcd endpoint failed, trying the next");
            rt::time::sleep(backoff.next_delay()).await;
        }
    }

    fn kv(&self, channel: Channel) -> KvClient<Channel> {
        KvClient::new(channel).max_decoding_message_size(self.max_answer_bytes).max_encoding_message_size(usize::MAX)
    }

    fn watch(&self) -> (usize, WatchClient<Channel>) {
        let (at, channel) = self.channel();
        (at, WatchClient::new(channel).max_decoding_message_size(self.max_answer_bytes))
    }
}

/// The etcd engine; see the module.
pub struct Etcd {
    client: Arc<Client>,
}

impl Etcd {
    /// Makes the connections; they come about with the first request.
    ///
    /// # Errors
    /// [`Error::Invalid`] for an endpoint or certificate that cannot be read.
    pub fn connect(options: EtcdOptions) -> Result<Arc<Self>> {
        let channels: Vec<_> = dial::channels(&options)?;
        if channels.is_empty() {
            return Err(Error::Invalid("no etcd endpoint is given"));
        }
        let client = Client {
            channels,
            current: AtomicUsize::new(0),
            request_timeout: options.request_timeout,
            max_answer_bytes: options.max_answer_bytes,
        };
        Ok(Arc::new(Self { client: Arc::new(client) }))
    }

    async fn lease_call<T, F>(&self, kind: Kind, make: impl Fn(LeaseClient<Channel>) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, GrpcStatus>>,
    {
        self.client.call(kind, |channel| make(LeaseClient::new(channel))).await
    }
}

fn revision(header: Option<ResponseHeader>) -> Revision {
    header.map_or(0, |header| header.revision)
}

#[async_trait]
impl Store for Etcd {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        crate::engine::embedded::check::given(&request.range)?;
        let request = convert::range_request(&request);
        let call = |channel| {
            let (mut client, request) = (self.client.kv(channel), request.clone());
            async move { client.range(request).await }
        };
        let answer = self.client.call(Kind::Read, call).await?;
        Ok(convert::range_response(answer.into_inner()))
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        let kind = if crate::engine::embedded::check::may_write(&txn) { Kind::Write } else { Kind::Read };
        let request = convert::txn_request(&txn);
        let call = |channel| {
            let (mut client, request) = (self.client.kv(channel), request.clone());
            async move { client.txn(request).await }
        };
        let answer = self.client.call(kind, call).await?;
        convert::txn_response(answer.into_inner())
    }

    async fn watch(&self, request: WatchRequest) -> Result<Watcher> {
        follow::start(self.client.clone(), request).await
    }

    async fn compact(&self, revision: Revision) -> Result<()> {
        let request = CompactionRequest { revision, physical: false };
        let call = |channel| {
            let mut client = self.client.kv(channel);
            async move { client.compact(request).await }
        };
        self.client.call(Kind::Write, call).await?;
        Ok(())
    }

    async fn current_revision(&self) -> Result<Revision> {
        // Any linearizable read tells; this one finds nothing.
        Ok(self.range(RangeRequest::new(KeyRange::key("\0")).count_only()).await?.revision)
    }

    async fn lease_grant(&self, ttl: i64, id: LeaseId) -> Result<Lease> {
        let request = LeaseGrantRequest { ttl, id };
        let answer =
            self.lease_call(Kind::Write, move |mut client| async move { client.lease_grant(request).await }).await?;
        let answer = answer.into_inner();
        if !answer.error.is_empty() {
            return Err(Error::Unavailable { message: answer.error });
        }
        Ok(Lease { id: answer.id, ttl: answer.ttl, revision: revision(answer.header) })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<Revision> {
        let request = LeaseRevokeRequest { id };
        let answer =
            self.lease_call(Kind::Write, move |mut client| async move { client.lease_revoke(request).await }).await;
        let answer = answer.map_err(|error| errors::name_lease(error, id))?;
        Ok(revision(answer.into_inner().header))
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Lease> {
        let call = move |mut client: LeaseClient<Channel>| async move {
            let request = futures::stream::iter([LeaseKeepAliveRequest { id }]);
            client.lease_keep_alive(request).await?.into_inner().message().await
        };
        match self.lease_call(Kind::Read, call).await? {
            Some(answer) if answer.ttl > 0 => Ok(Lease { id, ttl: answer.ttl, revision: revision(answer.header) }),
            Some(_) => Err(Error::LeaseNotFound(id)),
            None => Err(Error::Unavailable { message: "the keep-alive stream ended".to_owned() }),
        }
    }

    async fn lease_time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseStatus> {
        let request = LeaseTimeToLiveRequest { id, keys };
        let answer = self
            .lease_call(Kind::Read, move |mut client| async move { client.lease_time_to_live(request).await })
            .await;
        match answer.map(|answer| answer.into_inner()) {
            Ok(answer) => Ok(LeaseStatus {
                id,
                granted_ttl: answer.granted_ttl,
                remaining_ttl: answer.ttl,
                keys: answer.keys,
                revision: revision(answer.header),
            }),
            Err(Error::LeaseNotFound(_)) => Ok(LeaseStatus { id, remaining_ttl: -1, ..LeaseStatus::default() }),
            Err(error) => Err(error),
        }
    }

    async fn lease_list(&self) -> Result<Vec<LeaseId>> {
        let request = LeaseLeasesRequest {};
        let answer =
            self.lease_call(Kind::Read, move |mut client| async move { client.lease_leases(request).await }).await?;
        Ok(answer.into_inner().leases.into_iter().map(|lease| lease.id).collect())
    }

    async fn status(&self) -> Result<Status> {
        let call = |channel| async move { MaintenanceClient::new(channel).status(StatusRequest {}).await };
        let answer = self.client.call(Kind::Read, call).await?.into_inner();
        Ok(Status {
            engine: format!("etcd/{}", answer.version),
            revision: revision(answer.header),
            compacted_revision: 0,
            db_size: answer.db_size.try_into().unwrap_or(0),
            db_size_in_use: answer.db_size_in_use.try_into().unwrap_or(0),
        })
    }

    async fn snapshot(&self, file: &Path) -> Result<Revision> {
        snapshot::save(self, file).await
    }

    async fn defragment(&self) -> Result<()> {
        let call = |channel| async move { MaintenanceClient::new(channel).defragment(DefragmentRequest {}).await };
        self.client.call(Kind::Write, call).await?;
        Ok(())
    }

    /// The connections end with the last handle and the last watch; the cluster goes on.
    async fn close(&self) {}
}
