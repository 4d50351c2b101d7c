//! KMS v2: a service on a unix socket seals a seed, and the seed's derived keys seal values.
//!
//! The service is asked for its state every minute. When the id of its key changes, a new seed is made. While it does not
//! answer, values can be read for ever as far as their seeds are known, and written for three more minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use grpc::kms::{Client, DecryptRequest, EncryptRequest, EncryptedObject, SourceType, StatusRequest};
use grpc::prost::Message;
use parking_lot::RwLock;
use registry::SealError;
use rt::Shutdown;
use rt::time::Instant;

use crate::cipher::{Gcm, Seeded, random};
use crate::config::{ConfigError, KmsSettings};

const WELL_INTERVAL: Duration = Duration::from_secs(60);
const ILL_INTERVAL: Duration = Duration::from_secs(10);
const WRITE_TTL: Duration = Duration::from_secs(180);
const KEY_ID_MAX: usize = 1024;
const SOURCE_MAX: usize = 1024;
const ANNOTATIONS_MAX: usize = 32 * 1024;
/// Decrypted seeds that are remembered; there are about as many as key ids times server starts.
const CACHE_MAX: usize = 1000;

/// What opens values of one sealed source.
enum Reader {
    Seeded(Seeded),
    Key(Gcm),
}

impl Reader {
    fn open(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, SealError> {
        match self {
            Self::Seeded(seeded) => seeded.open(context, data),
            Self::Key(key) => key.open(context, data),
        }
    }
}

/// What new values are sealed with.
struct Current {
    seed: Arc<Reader>,
    key_id: String,
    source: Vec<u8>,
    annotations: BTreeMap<String, Vec<u8>>,
    expires: Instant,
}

/// A sealed source: its type, bytes, key id and annotations.
type CacheKey = (i32, Vec<u8>, String, BTreeMap<String, Vec<u8>>);

#[derive(Default)]
struct State {
    current: Option<Current>,
    readers: BTreeMap<CacheKey, Arc<Reader>>,
    trouble: Option<String>,
}

/// A key service.
pub(crate) struct Kms {
    name: String,
    timeout: Duration,
    client: Client,
    state: RwLock<State>,
}

fn refused(what: &str, why: impl std::fmt::Display) -> SealError {
    SealError::new(format!("failed to {what}, error: {why}"))
}

impl Kms {
    /// Asks for the service's state once, and then again and again until shutdown. A service that does not answer yet is no error.
    pub(crate) async fn start(settings: &KmsSettings, shutdown: Shutdown) -> Result<Arc<Self>, ConfigError> {
        let client = Client::unix(&settings.socket)
            .map_err(|e| ConfigError::Service { name: settings.name.clone(), message: e.to_string() })?;
        let service =
            Arc::new(Self { name: settings.name.clone(), timeout: settings.timeout, client, state: RwLock::default() });
        let mut well = service.probe().await;
        let looking = service.clone();
        rt::spawn("kms-probe", async move {
            loop {
                let pause = if well { WELL_INTERVAL } else { ILL_INTERVAL };
                if shutdown.run(rt::time::sleep(pause)).await.is_none() {
                    return;
                }
                well = looking.probe().await;
            }
        });
        Ok(service)
    }

    /// Whether the last probe found it well; an ill one is asked again.
    pub(crate) async fn check(&self) -> Result<(), String> {
        if self.state.read().trouble.is_some() {
            self.probe().await;
        }
        self.state.read().trouble.clone().map_or(Ok(()), Err)
    }

    /// Asks for the service's state now; whether it is well.
    pub(crate) async fn probe(&self) -> bool {
        let outcome = self.refresh().await;
        let well = outcome.is_ok();
        if let Err(error) = &outcome {
            tracing::warn!(name = %self.name, %error, "key service failed its check");
        }
        self.state.write().trouble = outcome.err().map(|e| e.message);
        well
    }

    async fn call<T, E: std::fmt::Display>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SealError> {
        match rt::time::timeout(self.timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(refused(what, error)),
            Err(_) => Err(refused(what, "context deadline exceeded")),
        }
    }

    /// Reads the service's state and takes a new seed when its key has changed.
    async fn refresh(&self) -> Result<(), SealError> {
        let expires = Instant::now() + WRITE_TTL;
        let status = self.call("perform status", self.client.status(StatusRequest {})).await?;
        if !matches!(status.version.as_str(), "v2" | "v2beta1") {
            return Err(SealError::new(format!(
                "expected KMSv2 API version v2, got {:?} of provider {}",
                status.version, self.name
            )));
        }
        if status.healthz != "ok" {
            return Err(SealError::new(format!("got unexpected healthz status: {}", status.healthz)));
        }
        check_key_id(&status.key_id)?;
        if let Some(current) = &mut self.state.write().current
            && current.key_id == status.key_id
        {
            current.expires = expires;
            return Ok(());
        }
        let seed = random::<32>()?;
        let asked = EncryptRequest { plaintext: seed.to_vec(), uid: rt::rand::uid() };
        let sealed = self.call("encrypt DEK", self.client.encrypt(asked)).await?;
        let annotations: BTreeMap<String, Vec<u8>> = sealed.annotations.into_iter().collect();
        check_source(&sealed.ciphertext, &sealed.key_id, &annotations)?;
        let reader = Arc::new(Reader::Seeded(Seeded::new(&seed)?));
        let key = (
            SourceType::HkdfSha256XnonceAesGcmSeed as i32,
            sealed.ciphertext.clone(),
            sealed.key_id.clone(),
            annotations.clone(),
        );
        let mut state = self.state.write();
        remember(&mut state.readers, key, reader.clone());
        let mismatch = sealed.key_id != status.key_id;
        state.current =
            Some(Current { seed: reader, key_id: sealed.key_id, source: sealed.ciphertext, annotations, expires });
        tracing::info!(name = %self.name, mismatch, "key service gave a new data encryption key");
        Ok(())
    }

    /// Seals a value: a protobuf `EncryptedObject`.
    pub(crate) fn seal(&self, context: &[u8], data: &[u8]) -> Result<Vec<u8>, SealError> {
        let state = self.state.read();
        let current = state.current.as_ref();
        let current =
            current.ok_or_else(|| SealError::new("got unexpected nil transformer: no key was received yet"))?;
        if Instant::now() > current.expires {
            return Err(SealError::new(format!("the data encryption key of provider {} has expired", self.name)));
        }
        let Reader::Seeded(seeded) = &*current.seed else { return Err(SealError::new("no seed to write with")) };
        let object = EncryptedObject {
            encrypted_data: seeded.seal(context, data)?,
            key_id: current.key_id.clone(),
            encrypted_dek_source: current.source.clone(),
            annotations: current.annotations.clone(),
            encrypted_dek_source_type: SourceType::HkdfSha256XnonceAesGcmSeed as i32,
        };
        Ok(object.encode_to_vec())
    }

    /// Opens a value, and says whether it was sealed under another key than new ones are.
    pub(crate) async fn open(&self, context: &[u8], data: &[u8]) -> Result<(Vec<u8>, bool), SealError> {
        let object = EncryptedObject::decode(data).map_err(|e| SealError::new(e.to_string()))?;
        if object.encrypted_data.is_empty() {
            return Err(SealError::new("encrypted data is empty"));
        }
        let kind = SourceType::try_from(object.encrypted_dek_source_type).map_err(|_| {
            SealError::new(format!("unknown encryptedDEKSourceType: {}", object.encrypted_dek_source_type))
        })?;
        check_source(&object.encrypted_dek_source, &object.key_id, &object.annotations)?;
        let stale = {
            let state = self.state.read();
            let current = state.current.as_ref();
            current.is_none_or(|c| c.key_id != object.key_id) || kind != SourceType::HkdfSha256XnonceAesGcmSeed
        };
        let EncryptedObject { encrypted_data, key_id, encrypted_dek_source, annotations, .. } = object;
        let cache_key = (kind as i32, encrypted_dek_source, key_id, annotations);
        let known = self.state.read().readers.get(&cache_key).cloned();
        let reader = match known {
            Some(reader) => reader,
            None => self.fetch(kind, cache_key).await?,
        };
        Ok((reader.open(context, &encrypted_data)?, stale))
    }

    async fn fetch(&self, kind: SourceType, cache_key: CacheKey) -> Result<Arc<Reader>, SealError> {
        let (_, ciphertext, key_id, annotations) = cache_key.clone();
        let asked = DecryptRequest { ciphertext, uid: rt::rand::uid(), key_id, annotations };
        let opened = self.call("decrypt DEK", self.client.decrypt(asked)).await?;
        let reader = Arc::new(match kind {
            SourceType::HkdfSha256XnonceAesGcmSeed => Reader::Seeded(Seeded::new(&opened.plaintext)?),
            SourceType::AesGcmKey => Reader::Key(Gcm::new(&opened.plaintext)?),
        });
        remember(&mut self.state.write().readers, cache_key, reader.clone());
        Ok(reader)
    }
}

fn remember(readers: &mut BTreeMap<CacheKey, Arc<Reader>>, key: CacheKey, reader: Arc<Reader>) {
    if readers.len() >= CACHE_MAX {
        readers.clear();
    }
    readers.insert(key, reader);
}

fn check_key_id(key_id: &str) -> Result<(), SealError> {
    match key_id.len() {
        0 => Err(SealError::new("failed to validate key id: keyID is empty")),
        size if size > KEY_ID_MAX => Err(SealError::new(format!(
            "failed to validate key id: keyID is {size} bytes, which exceeds the max size of {KEY_ID_MAX}"
        ))),
        _ => Ok(()),
    }
}

fn check_source(source: &[u8], key_id: &str, annotations: &BTreeMap<String, Vec<u8>>) -> Result<(), SealError> {
    match source.len() {
        0 => return Err(SealError::new("failed to validate encrypted DEK source: encrypted DEK source is empty")),
        size if size > SOURCE_MAX => {
            return Err(SealError::new(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {size} bytes, which exceeds the max \
                 size of {SOURCE_MAX}"
            )));
        }
        _ => {}
    }
    check_key_id(key_id)?;
    let size: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    if size > ANNOTATIONS_MAX {
        return Err(SealError::new(format!(
            "failed to validate annotations: total size of annotations is {size}, which exceeds the max size of {ANNOTATIONS_MAX}"
        )));
    }
    Ok(())
}
