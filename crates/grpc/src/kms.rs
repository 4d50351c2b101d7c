//! The key management service's v2 API (`v2.KeyManagementService`), client side, and the form of what is stored under it.
//!
//! Small enough to be written by hand: three calls with flat messages.

use std::collections::BTreeMap;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint, Error};
use tonic_prost::ProstCodec;

/// Asks for the state.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusRequest {}

/// The state of the service.
#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusResponse {
    /// `v2`, or `v2beta1`.
    #[prost(string, tag = "1")]
    pub version: String,
    /// `ok` when it is well.
    #[prost(string, tag = "2")]
    pub healthz: String,
    /// The key that it seals with now.
    #[prost(string, tag = "3")]
    pub key_id: String,
}

/// Asks to open.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DecryptRequest {
    /// What was sealed.
    #[prost(bytes = "vec", tag = "1")]
    pub ciphertext: Vec<u8>,
    /// Id of the request, for logs.
    #[prost(string, tag = "2")]
    pub uid: String,
    /// The key that sealed it.
    #[prost(string, tag = "3")]
    pub key_id: String,
    /// What the service said besides when it sealed it.
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub annotations: BTreeMap<String, Vec<u8>>,
}

/// What was opened.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DecryptResponse {
    /// The plain bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
}

/// Asks to seal.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptRequest {
    /// The plain bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub plaintext: Vec<u8>,
    /// Id of the request, for logs.
    #[prost(string, tag = "2")]
    pub uid: String,
}

/// What was sealed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptResponse {
    /// The sealed bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub ciphertext: Vec<u8>,
    /// The key that sealed them.
    #[prost(string, tag = "2")]
    pub key_id: String,
    /// To be stored with them, in the open.
    #[prost(btree_map = "string, bytes", tag = "3")]
    pub annotations: BTreeMap<String, Vec<u8>>,
}

/// A stored value after its prefix.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EncryptedObject {
    /// The value, sealed.
    #[prost(bytes = "vec", tag = "1")]
    pub encrypted_data: Vec<u8>,
    /// The service's key.
    #[prost(string, tag = "2")]
    pub key_id: String,
    /// The data encryption key, or the seed of such keys, sealed by the service.
    #[prost(bytes = "vec", tag = "3")]
    pub encrypted_dek_source: Vec<u8>,
    /// The service's annotations.
    #[prost(btree_map = "string, bytes", tag = "4")]
    pub annotations: BTreeMap<String, Vec<u8>>,
    /// Which of both it is.
    #[prost(enumeration = "SourceType", tag = "5")]
    pub encrypted_dek_source_type: i32,
}

/// What a sealed source is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SourceType {
    /// A key of AES-GCM.
    AesGcmKey = 0,
    /// A seed of such keys.
    HkdfSha256XnonceAesGcmSeed = 1,
}

/// A client; cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(Channel);

impl Client {
    /// A client of the service on a unix socket; it connects when it is first used.
    ///
    /// # Errors
    /// The path makes no URI.
    pub fn unix(path: &str) -> Result<Self, Error> {
        Ok(Self(Endpoint::from_shared(format!("unix:{path}"))?.connect_lazy()))
    }

    async fn call<Q, A>(&self, request: Q, path: &'static str) -> Result<A, tonic::Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.0.clone());
        grpc.ready().await.map_err(|e| tonic::Status::unavailable(e.to_string()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer = grpc.unary(tonic::Request::new(request), PathAndQuery::from_static(path), codec).await?;
        Ok(answer.into_inner())
    }

    /// `Status`
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn status(&self, request: StatusRequest) -> Result<StatusResponse, tonic::Status> {
        self.call(request, "/v2.KeyManagementService/Status").await
    }

    /// `Encrypt`
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn encrypt(&self, request: EncryptRequest) -> Result<EncryptResponse, tonic::Status> {
        self.call(request, "/v2.KeyManagementService/Encrypt").await
    }

    /// `Decrypt`
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn decrypt(&self, request: DecryptRequest) -> Result<DecryptResponse, tonic::Status> {
        self.call(request, "/v2.KeyManagementService/Decrypt").await
    }
}
