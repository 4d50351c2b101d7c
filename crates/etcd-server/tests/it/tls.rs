//! TLS on both sides.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use store::{Etcd, EtcdOptions, EtcdTls, Store};

use crate::Server;

struct Pair {
    certificate: String,
    key: String,
}

/// An authority, and a certificate for 127.0.0.1 from it.
fn certificates() -> (String, Pair) {
    let mut params = CertificateParams::new(Vec::new()).expect("names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("names");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
    (ca, Pair { certificate, key: key.serialize_pem() })
}

fn client(server: &Server, ca: &str, identity: Option<&Pair>) -> std::sync::Arc<Etcd> {
    let identity = identity.map(|pair| (pair.certificate.clone().into_bytes(), pair.key.clone().into_bytes()));
    let tls = EtcdTls { ca: ca.as_bytes().to_vec(), identity, server_name: None };
    let endpoints = vec![server.endpoint.clone()];
    Etcd::connect(EtcdOptions { endpoints, tls: Some(tls), ..EtcdOptions::default() }).expect("options")
}

fn write(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("write");
    path.to_string_lossy().into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn only_known_clients_are_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ca, pair) = certificates();
    let (strange_ca, stranger) = certificates();
    let flags = [
        "--cert-file".to_owned(),
        write(dir.path(), "crt", &pair.certificate),
        "--key-file".to_owned(),
        write(dir.path(), "key", &pair.key),
        "--trusted-ca-file".to_owned(),
        write(dir.path(), "ca", &ca),
        "--client-cert-auth".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let endpoint = format!("https://127.0.0.1:{}", testkit::etcd::free_port());
    let server = Server::start_at(&dir.path().join("db"), endpoint, &flags).await;
    let put = async |client: &Etcd| client.put("k".into(), "v".into(), 0).await;
    put(&client(&server, &ca, Some(&pair))).await.expect("a known client");
    let error = put(&client(&server, &ca, None)).await.expect_err("a client without certificate");
    assert!(error.is_transient(), "{error:?}");
    let error = put(&client(&server, &ca, Some(&stranger))).await.expect_err("a stranger");
    assert!(error.is_transient(), "{error:?}");
    let error = put(&client(&server, &strange_ca, Some(&pair))).await.expect_err("a server that is not known");
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(server.stop().await, 0);
}
