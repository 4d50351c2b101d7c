//! A key service of ours on a unix socket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use grpc::kms::{DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, StatusRequest, StatusResponse};
use grpc::tonic;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};

use super::*;

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, tonic::Status>> + Send>>;

/// "Seals" by turning bytes round; its key id is a number.
#[derive(Clone, Default)]
struct Fake {
    key: Arc<AtomicU32>,
    decrypts: Arc<AtomicU32>,
}

macro_rules! method {
    ($name:ident, $asked:ty, $answer:ty, $do:expr) => {
        struct $name(Fake);
        impl UnaryService<$asked> for $name {
            type Response = $answer;
            type Future = Answer<tonic::Response<$answer>>;
            fn call(&mut self, request: tonic::Request<$asked>) -> Self::Future {
                let work: fn(&Fake, $asked) -> $answer = $do;
                let answer = work(&self.0, request.into_inner());
                Box::pin(async move { Ok(tonic::Response::new(answer)) })
            }
        }
    };
}

impl Fake {
    fn key_id(&self) -> String {
        format!("key{}", self.key.load(Ordering::SeqCst))
    }
}

method!(Status, StatusRequest, StatusResponse, |fake, _| StatusResponse {
    version: "v2".into(),
    healthz: "ok".into(),
    key_id: fake.key_id(),
});
method!(Encrypt, EncryptRequest, EncryptResponse, |fake, asked| EncryptResponse {
    ciphertext: asked.plaintext.into_iter().rev().collect(),
    key_id: fake.key_id(),
    annotations: [("local.example.com".to_owned(), b"x".to_vec())].into(),
});
method!(Decrypt, DecryptRequest, DecryptResponse, |fake, asked| {
    fake.decrypts.fetch_add(1, Ordering::SeqCst);
    assert_eq!(asked.annotations["local.example.com"], b"x");
    DecryptResponse { plaintext: asked.ciphertext.into_iter().rev().collect() }
});

impl NamedService for Fake {
    const NAME: &'static str = "v2.KeyManagementService";
}

impl Service<http::Request<tonic::body::Body>> for Fake {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let fake = self.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            Ok(match path.rsplit('/').next() {
                Some("Status") => Grpc::new(tonic_prost::ProstCodec::default()).unary(Status(fake), request).await,
                Some("Encrypt") => Grpc::new(tonic_prost::ProstCodec::default()).unary(Encrypt(fake), request).await,
                _ => Grpc::new(tonic_prost::ProstCodec::default()).unary(Decrypt(fake), request).await,
            })
        })
    }
}

#[tokio::test]
async fn a_key_service_seals_through_its_seed() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("kms.sock");
    let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
    let fake = Fake::default();
    let server = tonic::transport::Server::builder()
        .add_service(fake.clone())
        .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener));
    let server = tokio::spawn(server);

    let provider = format!("{{kms: {{apiVersion: v2, name: local, endpoint: 'unix://{}'}}}}", socket.display());
    let text = file("secrets", &provider);
    let encryption = load(&text).await;
    encryption.check().await.expect("the service is well");
    let transformer = of(&encryption, "secrets", "").expect("a rule");
    let sealed = transformer.seal(KEY, "plain".into()).await.expect("sealed");
    assert!(sealed.starts_with(b"k8s:enc:kms:v2:local:"));
    let opened = transformer.open(KEY, sealed.clone()).await.expect("opened");
    assert_eq!((&opened.value[..], opened.stale), (&b"plain"[..], false));
    assert_eq!(fake.decrypts.load(Ordering::SeqCst), 0, "an own seed is known");
    assert!(transformer.open(b"/registry/secrets/other/one", sealed.clone()).await.is_err());

    // As after a restart, with another key in the service.
    fake.key.store(1, Ordering::SeqCst);
    let again = load(&text).await;
    let transformer = of(&again, "secrets", "").expect("a rule");
    for _ in 0..2 {
        let opened = transformer.open(KEY, sealed.clone()).await.expect("opened");
        assert_eq!((&opened.value[..], opened.stale), (&b"plain"[..], true));
    }
    assert_eq!(fake.decrypts.load(Ordering::SeqCst), 1, "seeds are remembered");
    server.abort();
}

#[tokio::test]
async fn a_silent_service_is_an_ailment_and_not_the_end() {
    let provider = "{kms: {apiVersion: v2, name: gone, endpoint: 'unix:///nonexistent/kms.sock', timeout: 200ms}}";
    let encryption = load(&file("secrets", provider)).await;
    assert!(encryption.check().await.expect_err("it is gone").starts_with("kms-provider-0: failed to perform status"));
    let transformer = of(&encryption, "secrets", "").expect("a rule");
    assert!(transformer.seal(KEY, "plain".into()).await.is_err());
}
