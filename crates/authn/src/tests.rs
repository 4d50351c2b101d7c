//! Tokens, certificates and the union against a fixed set of objects.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Authenticator, BoundObject, Credentials, Lookup, ObjectEvent, ServiceAccountTokenIssuer, TokenClaims};
use futures::stream::{BoxStream, StreamExt};
use meta::{GroupVersionResource, Object, Status};
use serde_json::json;

use super::*;

struct Fixed(Vec<(&'static str, Object)>);

#[async_trait]
impl Lookup for Fixed {
    async fn get(&self, r: &GroupVersionResource, ns: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        let fits = |(kind, o): &&(&str, Object)| *kind == r.resource && o.namespace() == ns && o.name() == name;
        Ok(self.0.iter().find(fits).map(|(_, o)| Arc::new(o.clone())))
    }
    async fn get_live(&self, r: &GroupVersionResource, ns: &str, name: &str) -> Result<Option<Arc<Object>>, Status> {
        self.get(r, ns, name).await
    }
    async fn list(&self, _r: &GroupVersionResource, _ns: &str) -> Result<Vec<Arc<Object>>, Status> {
        Ok(Vec::new())
    }
    fn watch(&self, _r: &GroupVersionResource) -> BoxStream<'static, ObjectEvent> {
        futures::stream::empty().boxed()
    }
}

fn object(value: serde_json::Value) -> Object {
    Object::from_value(value).unwrap()
}

fn tokens(objects: Vec<(&'static str, Object)>) -> service_account::Tokens {
    let config = service_account::Config {
        issuers: vec!["https://kubernetes.default.svc".into()],
        signing_key: Some(pki::Key::generate().unwrap()),
        public_keys: Vec::new(),
        api_audiences: Vec::new(),
        jwks_uri: String::new(),
        external_address: "10.0.0.1:6443".into(),
        lookup: true,
    };
    service_account::Tokens::new(config, Arc::new(Fixed(objects)))
}

fn claims(bound_uid: &str) -> TokenClaims {
    TokenClaims {
        namespace: "ns".into(),
        name: "robot".into(),
        uid: "u1".into(),
        audiences: Vec::new(),
        expiration_seconds: 3600,
        bound: Some(BoundObject { kind: "Pod".into(), name: "p".into(), uid: bound_uid.into() }),
        node: Some(("n1".into(), "u9".into())),
        warn_after_seconds: None,
    }
}

#[tokio::test]
async fn service_account_tokens() {
    let account = object(json!({"metadata": {"namespace": "ns", "name": "robot", "uid": "u1"}}));
    let pod = object(json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u2"}}));
    let tokens = Arc::new(tokens(vec![("serviceaccounts", account), ("pods", pod)]));
    let api = tokens.default_audiences();
    let (good, expiry) = tokens.issue(&claims("u2")).await.unwrap();
    assert!(expiry > rt::time::unix_seconds());
    let found = tokens.authenticate_token(&good, &api).await.unwrap().unwrap();
    assert_eq!(found.user.name, "system:serviceaccount:ns:robot");
    assert_eq!(found.user.groups, ["system:serviceaccounts", "system:serviceaccounts:ns", "system:authenticated"]);
    assert_eq!(found.user.extra["authentication.kubernetes.io/node-name"], ["n1"]);
    assert!(found.user.extra[CREDENTIAL_ID][0].starts_with("JTI="));

    let error = tokens.authenticate_token(&good, &["vault".into()]).await.unwrap_err();
    assert!(error.message.contains("invalid for the target audiences"), "{error}");
    let (stale, _) = tokens.issue(&claims("other")).await.unwrap();
    let error = tokens.authenticate_token(&stale, &api).await.unwrap_err();
    assert_eq!(error.message, "pod UID (u2) does not match service account pod ref claim (other)");
    let expired = TokenClaims { expiration_seconds: -120, ..claims("u2") };
    let (expired, _) = tokens.issue(&expired).await.unwrap();
    assert_eq!(
        tokens.authenticate_token(&expired, &api).await.unwrap_err().message,
        "service account token has expired"
    );
    let mut forged = good.clone();
    forged.replace_range(forged.len() - 6.., "AAAAAA");
    assert_eq!(tokens.authenticate_token(&forged, &api).await.unwrap_err().message, "invalid signature");
    assert!(tokens.authenticate_token("a.b.c", &api).await.unwrap().is_none());

    let union = Config { tokens: vec![tokens.clone()], api_audiences: api, ..Config::default() }.build();
    let header = format!("Bearer {good}");
    let shown = Credentials { authorization: Some(&header), ..Credentials::default() };
    assert!(union.authenticate(&shown).await.unwrap().is_some());
    let wrong = Credentials { authorization: Some("Bearer nonsense"), ..Credentials::default() };
    assert!(union.authenticate(&wrong).await.is_err(), "a wrong token is never anonymous");
}

#[tokio::test]
async fn discovery_documents() {
    let tokens = tokens(Vec::new());
    let configuration = tokens.openid_configuration();
    assert_eq!(
        configuration,
        "{\"issuer\":\"https://kubernetes.default.svc\",\"jwks_uri\":\"https://10.0.0.1:6443/openid/v1/jwks\",\
         \"response_types_supported\":[\"id_token\"],\"subject_types_supported\":[\"public\"],\
         \"id_token_signing_alg_values_supported\":[\"ES256\"]}"
    );
    let keys: serde_json::Value = serde_json::from_str(&tokens.jwks()).unwrap();
    assert_eq!(keys["keys"][0]["crv"], "P-256");
    assert_eq!(keys["keys"][0]["x"].as_str().unwrap().len(), 43);
}

#[tokio::test]
async fn certificates_and_front_proxy() {
    let (ca, proxy_ca) = (pki::Pair::new_ca("ca").unwrap(), pki::Pair::new_ca("proxy").unwrap());
    let leaf = |ca: &pki::Pair, name: &str| {
        let subject = pki::Subject::new(name, &["dev"]);
        vec![ca.issue(&subject, &[], pki::Usage::CLIENT, pki::cert::YEAR).unwrap().cert]
    };
    let front_proxy =
        FrontProxy::new(&proxy_ca.cert_pem(), vec!["front-proxy-client".into()], HeaderNames::usual()).unwrap();
    let union = Config {
        front_proxy: Some(front_proxy),
        client_certificates: Some(ClientCertificates::new(&ca.cert_pem()).unwrap()),
        anonymous: Anonymous::health_only(),
        ..Config::default()
    }
    .build();
    let jane = leaf(&ca, "jane");
    let shown = Credentials { peer_certificates: &jane, ..Credentials::default() };
    let found = union.authenticate(&shown).await.unwrap().unwrap();
    assert_eq!(
        (found.user.name.as_str(), found.user.groups),
        ("jane", vec!["dev".into(), "system:authenticated".into()])
    );

    let mut headers = http::HeaderMap::new();
    headers.insert("x-remote-user", "bob".parse().unwrap());
    headers.append("x-remote-group", "ops".parse().unwrap());
    headers.append("x-remote-extra-a%2fb", "1".parse().unwrap());
    let proxy = leaf(&proxy_ca, "front-proxy-client");
    let shown = Credentials { peer_certificates: &proxy, headers: Some(&headers), ..Credentials::default() };
    let found = union.authenticate(&shown).await.unwrap().unwrap();
    assert_eq!((found.user.name.as_str(), found.user.extra["a/b"][0].as_str()), ("bob", "1"));
    let shown = Credentials { peer_certificates: &jane, headers: Some(&headers), ..Credentials::default() };
    assert_eq!(union.authenticate(&shown).await.unwrap().unwrap().user.name, "jane", "headers of others do not count");

    let health = Credentials { path: "/readyz", ..Credentials::default() };
    assert_eq!(union.authenticate(&health).await.unwrap().unwrap().user.name, "system:anonymous");
    assert!(union.authenticate(&Credentials { path: "/api", ..Credentials::default() }).await.unwrap().is_none());
}

#[tokio::test]
async fn token_file() {
    let file = TokenFile::parse("secret,jane,7,\"dev,ops\"\n", vec!["api".into()]).unwrap();
    let found = file.authenticate_token("secret", &["api".into()]).await.unwrap().unwrap();
    assert_eq!((found.user.uid.as_str(), found.user.groups.len()), ("7", 2));
    assert!(file.authenticate_token("secret", &["other".into()]).await.unwrap().is_none());
    assert!(TokenFile::parse("a,b\n", Vec::new()).is_err());
}
