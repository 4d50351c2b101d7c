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
    file: Option<std::path::PathBuf>,
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
    /// In a process of its own, the key's number comes from a file.
    fn follow_file(&self) {
        let number = self.file.as_ref().and_then(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
        if let Some(number) = number {
            self.key.store(number, Ordering::SeqCst);
        }
    }

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
        fake.follow_file();
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

const SOCKET: &str = "CORTEN_TEST_KMS_SOCKET";
const LISTENING: &str = "key service listens";

/// Not a test of its own: the key service in a process of its own, which ends with the test that started it.
#[tokio::test]
async fn key_service() {
    let Ok(socket) = std::env::var(SOCKET) else { return };
    let file = Some(format!("{socket}.key").into());
    let listener = tokio::net::UnixListener::bind(&socket).expect("bound");
    println!("{LISTENING}");
    tonic::transport::Server::builder()
        .add_service(Fake { file, ..Fake::default() })
        .serve_with_incoming(tokio_stream::wrappers::UnixListenerStream::new(listener))
        .await
        .expect("served");
}

struct Process(std::process::Child);

impl Process {
    /// Starts the service, and waits until it listens.
    fn start(socket: &std::path::Path) -> Self {
        use std::io::BufRead;
        let mut child = std::process::Command::new(std::env::current_exe().expect("a path"))
            .args(["--exact", "tests::kms::key_service", "--nocapture"])
            .env(SOCKET, socket)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        let heard = output.lines().map_while(Result::ok).any(|line| line.contains(LISTENING));
        assert!(heard, "the service ended");
        Self(child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn keys_change_in_a_service_of_its_own_process() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("kms.sock");
    let process = Process::start(&socket);
    let settings = crate::config::KmsSettings {
        name: "local".into(),
        socket: socket.display().to_string(),
        timeout: std::time::Duration::from_secs(3),
    };
    let shutdown = rt::Shutdown::new();
    let kms = crate::kms::Kms::start(&settings, shutdown.clone()).await.expect("started");
    kms.check().await.expect("the service is well");
    let old = kms.seal(KEY, b"plain").expect("sealed");
    assert_eq!(kms.open(KEY, &old).await.expect("opened"), (b"plain".to_vec(), false));

    // The service has another key: the next look at its state finds it, and what is there becomes stale.
    std::fs::write(dir.path().join("kms.sock.key"), "7").expect("written");
    assert!(kms.probe().await);
    assert_eq!(kms.open(KEY, &old).await.expect("opened"), (b"plain".to_vec(), true));
    let new = kms.seal(KEY, b"plain").expect("sealed");
    assert_eq!(kms.open(KEY, &new).await.expect("opened"), (b"plain".to_vec(), false));

    // Without the service what is known is read and written on, and the check says what is wrong.
    drop(process);
    assert!(!kms.probe().await);
    assert!(kms.check().await.expect_err("it is gone").contains("failed to perform status"));
    assert_eq!(kms.open(KEY, &old).await.expect("opened"), (b"plain".to_vec(), true));
    kms.seal(KEY, b"more").expect("sealed for three more minutes");

    // It comes back, and is well again without anybody's help.
    std::fs::remove_file(&socket).expect("removed");
    let _process = Process::start(&socket);
    kms.check().await.expect("the service is well again");
    shutdown.cancel();
}
