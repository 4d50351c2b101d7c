//! The face: gRPC services and the few plain HTTP paths on one port.

use std::sync::Arc;

use async_trait::async_trait;
use grpc::{
    etcdserverpb::{
        cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
        maintenance_server::MaintenanceServer, watch_server::WatchServer,
    },
    tonic::{Status, body::Body as GrpcBody, codegen::Service as _, service::Routes},
};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use store::Store;
use wire::{Body, ConnInfo};

use crate::{
    API_VERSION, CLUSTER_VERSION, admin::AdminService, convert::Identity, kv::KvService, lease::LeaseService,
    watch::WatchService,
};

/// Above the store's own limit, so that a request that is too large hears of it from the store, in etcd's words.
const FRAME_SLACK_BYTES: usize = 8 << 20;

/// How the face presents itself.
#[derive(Debug, Clone, Default)]
pub struct FaceOptions {
    /// The member's name.
    pub name: String,
    /// Where clients are told to go.
    pub client_urls: Vec<String>,
    /// What the member list says of peers, of which there are none.
    pub peer_urls: Vec<String>,
    /// Largest request in bytes; 0 is etcd's default.
    pub max_request_bytes: usize,
    /// The store's quota, for the status.
    pub quota_bytes: u64,
    /// Refuse connections without a verified client certificate.
    pub require_client_certificate: bool,
}

/// Serves a store as etcd; give it to [`wire::serve`].
pub struct Face {
    store: Arc<dyn Store>,
    routes: Routes,
    require_client_certificate: bool,
}

impl Face {
    /// Puts the services on a store.
    pub fn new(store: Arc<dyn Store>, options: FaceOptions) -> Self {
        let identity = Identity { cluster: id(b"corten"), member: id(options.name.as_bytes()) };
        let limit = if options.max_request_bytes == 0 { 3 << 19 } else { options.max_request_bytes };
        let limit = limit + FRAME_SLACK_BYTES;
        let admin = Arc::new(AdminService {
            store: store.clone(),
            identity,
            name: options.name,
            client_urls: options.client_urls,
            peer_urls: options.peer_urls,
            quota_bytes: options.quota_bytes,
        });
        let kv = KvServer::new(KvService { store: store.clone(), identity });
        let watch = WatchServer::new(WatchService { store: store.clone(), identity });
        let lease = LeaseServer::new(LeaseService { store: store.clone(), identity });
        let routes = Routes::new(kv.max_decoding_message_size(limit).max_encoding_message_size(usize::MAX))
            .add_service(watch.max_decoding_message_size(limit).max_encoding_message_size(usize::MAX))
            .add_service(lease)
            .add_service(ClusterServer::from_arc(admin.clone()))
            .add_service(MaintenanceServer::from_arc(admin))
            .prepare();
        Self { store, routes, require_client_certificate: options.require_client_certificate }
    }

    async fn plain(&self, method: &Method, path: &str) -> Response<Body> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
        }
        match path {
            "/version" => {
                json(StatusCode::OK, &serde_json::json!({ "etcdserver": API_VERSION, "etcdcluster": CLUSTER_VERSION }))
            }
            "/health" => match self.store.current_revision().await {
                Ok(_) => json(StatusCode::OK, &serde_json::json!({ "health": "true", "reason": "" })),
                Err(error) => json(
                    StatusCode::SERVICE_UNAVAILABLE,
                    &serde_json::json!({ "health": "false", "reason": error.to_string() }),
                ),
            },
            "/livez" | "/readyz" => match self.store.current_revision().await {
                Ok(_) => text(StatusCode::OK, "ok"),
                Err(error) => text(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
            },
            "/metrics" => text(StatusCode::OK, &telemetry::metrics::render()),
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }
}

#[async_trait]
impl wire::Service for Face {
    async fn call(&self, request: Request<Body>, connection: Arc<ConnInfo>) -> Response<Body> {
        let content = request.headers().get(header::CONTENT_TYPE).map(|value| value.as_bytes());
        let is_grpc = content.is_some_and(|value| value.starts_with(b"application/grpc"));
        if self.require_client_certificate && connection.peer_certificates.is_empty() {
            let refusal = "a client certificate is required";
            return if is_grpc {
                refused(Status::unauthenticated(refusal))
            } else {
                text(StatusCode::UNAUTHORIZED, refusal)
            };
        }
        if !is_grpc {
            let (head, _) = request.into_parts();
            return self.plain(&head.method, head.uri.path()).await;
        }
        if request.uri().path().starts_with("/etcdserverpb.Auth/") {
            let word = "this store has no users; guard it with client certificates (--client-cert-auth)";
            return refused(Status::unimplemented(word));
        }
        match self.routes.clone().call(request.map(GrpcBody::new)).await {
            Ok(answer) => answer.map(|body| body.map_err(|error| error.into()).boxed_unsync()),
            Err(never) => match never {},
        }
    }
}

fn refused(status: Status) -> Response<Body> {
    status.into_http::<GrpcBody>().map(|body| body.map_err(|error| error.into()).boxed_unsync())
}

fn answer(code: StatusCode, content: &'static str, body: String) -> Response<Body> {
    let mut answer = Response::new(wire::full(body));
    *answer.status_mut() = code;
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content));
    answer
}

fn text(code: StatusCode, body: &str) -> Response<Body> {
    answer(code, "text/plain; charset=utf-8", body.to_owned())
}

fn json(code: StatusCode, body: &serde_json::Value) -> Response<Body> {
    answer(code, "application/json", body.to_string())
}

/// A stable number for a name.
fn id(name: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
