//! Pulling from registries: mirrors, plain HTTP, credentials, platforms; layers stream into directories.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt};
use node_api::{AuthConfig, PullProgress};
use oci_client::client::{Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::manifest::OciDescriptor;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::import::{check, hex};
use crate::manifest::{Config, Descriptor, Manifest};
use crate::reference::{canonical, parse, repository_name};
use crate::state::ImageRecord;
use crate::unpack::{digest_of, unpack};
use crate::{Error, Result, Store};

/// Layers pulled at the same time.
const PARALLEL_LAYERS: usize = 3;
/// Pieces of a layer that wait for the disk.
const QUEUED_PIECES: usize = 16;
const ACCEPTED: [&str; 4] = [
    oci_client::manifest::OCI_IMAGE_INDEX_MEDIA_TYPE,
    oci_client::manifest::IMAGE_MANIFEST_LIST_MEDIA_TYPE,
    oci_client::manifest::OCI_IMAGE_MEDIA_TYPE,
    oci_client::manifest::IMAGE_MANIFEST_MEDIA_TYPE,
];

/// How registries are reached, by host (with port); `*` is for all that are not named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Registries(pub BTreeMap<String, Registry>);

/// One registry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Registry {
    /// Asked first, in this order: hosts (with port), or URLs `http://…`, `https://…` without a path.
    pub mirrors: Vec<String>,
    /// No TLS.
    pub plain_http: bool,
    /// TLS without a check of who it is.
    pub skip_verify: bool,
    /// PEM files of further authorities to trust.
    pub ca_files: Vec<String>,
}

impl Registries {
    fn get(&self, host: &str) -> Registry {
        self.0.get(host).or_else(|| self.0.get("*")).cloned().unwrap_or_default()
    }

    /// Where to ask for an image, in order: (host, how).
    fn endpoints(&self, host: &str) -> Vec<(Option<String>, Registry)> {
        let own = self.get(host);
        let mut endpoints: Vec<(Option<String>, Registry)> = Vec::new();
        for mirror in &own.mirrors {
            let (plain, name) = match mirror.split_once("://") {
                Some((scheme, name)) => (Some(scheme == "http"), name.trim_end_matches('/')),
                None => (None, mirror.as_str()),
            };
            let mut how = self.0.get(name).cloned().unwrap_or_default();
            how.plain_http = plain.unwrap_or(how.plain_http);
            endpoints.push((Some(name.to_owned()), how));
        }
        endpoints.push((None, own));
        endpoints
    }
}

/// Counters of one pull, told to whoever wants to know.
struct Meter {
    received: AtomicU64,
    total: AtomicU64,
    done: AtomicU32,
    layers: AtomicU32,
    listener: Option<mpsc::Sender<PullProgress>>,
}

impl Meter {
    fn tell(&self) {
        if let Some(listener) = &self.listener {
            // A listener that is behind gets the next one.
            let _ = listener.try_send(PullProgress {
                received: self.received.load(Ordering::Relaxed),
                total: self.total.load(Ordering::Relaxed),
                layers_done: self.done.load(Ordering::Relaxed),
                layers: self.layers.load(Ordering::Relaxed),
            });
        }
    }
}

impl Store {
    /// Pulls an image and gives its id. A second pull of the same name waits for the first, and then only asks whether
    /// the name still means the same.
    ///
    /// # Errors
    /// The name does not parse; no registry gave the image; content is not what its digest says.
    pub async fn pull(
        &self,
        name: &str,
        auth: Option<&AuthConfig>,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<String> {
        let reference = parse(name)?;
        let key = canonical(&reference);
        let turn = Arc::clone(self.0.pulls.lock().entry(key.clone()).or_default());
        let guard = turn.lock().await;
        let pulled = self.pull_from_any(&reference, auth, progress).await;
        drop(guard);
        let mut pulls = self.0.pulls.lock();
        if pulls.get(&key).is_some_and(|turn| Arc::strong_count(turn) <= 2) {
            pulls.remove(&key);
        }
        pulled
    }

    async fn pull_from_any(
        &self,
        reference: &Reference,
        auth: Option<&AuthConfig>,
        progress: Option<mpsc::Sender<PullProgress>>,
    ) -> Result<String> {
        let registries = self.registries()?;
        let meter = Arc::new(Meter {
            received: AtomicU64::new(0),
            total: AtomicU64::new(0),
            done: AtomicU32::new(0),
            layers: AtomicU32::new(0),
            listener: progress,
        });
        let mut last = Error::Cancelled;
        for (mirror, how) in registries.endpoints(reference.registry()) {
            let mut from = reference.clone();
            let host = mirror.clone().unwrap_or_else(|| reference.resolve_registry().to_owned());
            // Credentials are for the registry named in the image, not for its mirrors.
            let credentials = if mirror.is_none() { registry_auth(auth)? } else { RegistryAuth::Anonymous };
            if let Some(mirror) = mirror {
                from.set_mirror_registry(mirror);
            }
            match self.pull_once(reference, &from, &host, &how, &credentials, &meter).await {
                Ok(id) => return Ok(id),
                Err(error) => {
                    tracing::debug!(host, image = canonical(reference), error = error.chain(), "no image from here");
                    last = error;
                }
            }
        }
        Err(last)
    }

    async fn pull_once(
        &self,
        reference: &Reference,
        from: &Reference,
        host: &str,
        how: &Registry,
        auth: &RegistryAuth,
        meter: &Arc<Meter>,
    ) -> Result<String> {
        let client = client(host, how)?;
        let (text, digest) = manifest_text(&client, from, auth).await?;
        if let Some(wanted) = reference.digest() {
            check("a manifest", wanted, &digest)?;
        }
        let mut manifest = Manifest::parse(&text)?;
        if !manifest.manifests.is_empty() {
            let chosen = manifest.for_this_machine()?.clone();
            let exact = from.clone_with_digest(chosen.digest.clone());
            let (text, digest) = manifest_text(&client, &exact, auth).await?;
            check("a manifest", &chosen.digest, &digest)?;
            manifest = Manifest::parse(&text)?;
        }
        let config = manifest.config.as_ref().ok_or_else(|| Error::Unusable("a manifest without config".into()))?;
        let id = hex(&config.digest)?;
        let mut text = Vec::new();
        client.pull_blob(from, &oci(config), &mut text).await.map_err(registry("fetch the configuration"))?;
        let parsed = Config::parse(&text)?;
        let diff_ids = parsed.diff_ids().to_vec();
        if diff_ids.len() != manifest.layers.len() {
            return Err(Error::Unusable("manifest and configuration differ in their layers".into()));
        }
        self.pull_layers(&client, from, &manifest.layers, &diff_ids, meter).await?;
        let record = ImageRecord { layers: diff_ids, config: parsed.run_config(), ..ImageRecord::default() };
        let tag = reference.digest().is_none().then(|| canonical(reference));
        let repo_digest = format!("{}@{digest}", repository_name(reference));
        let (store, hex) = (self.clone(), id.clone());
        // Waits for the disk.
        let put = move || store.put(&hex, record, tag, Some(repo_digest));
        tokio::task::spawn_blocking(put).await.map_err(|_| Error::Cancelled)??;
        Ok(format!("sha256:{id}"))
    }

    async fn pull_layers(
        &self,
        client: &Client,
        from: &Reference,
        layers: &[Descriptor],
        diff_ids: &[String],
        meter: &Arc<Meter>,
    ) -> Result<()> {
        let state = self.state()?;
        let mut missing: Vec<(Descriptor, String)> = Vec::new();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            if !state.layers.contains_key(diff_id) && !missing.iter().any(|(_, d)| d == diff_id) {
                missing.push((layer.clone(), diff_id.clone()));
            }
        }
        meter.layers.store(missing.len() as u32, Ordering::Relaxed);
        meter.total.store(missing.iter().map(|(l, _)| l.size).sum(), Ordering::Relaxed);
        meter.tell();
        futures::stream::iter(missing)
            .map(|(layer, diff_id)| self.pull_layer(client, from, layer, diff_id, meter))
            .buffer_unordered(PARALLEL_LAYERS)
            .try_collect()
            .await
    }

    async fn pull_layer(
        &self,
        client: &Client,
        from: &Reference,
        layer: Descriptor,
        diff_id: String,
        meter: &Arc<Meter>,
    ) -> Result<()> {
        let staging = self.stage()?;
        let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(QUEUED_PIECES);
        let store = self.clone();
        let digest = layer.digest.clone();
        let unpacking = tokio::task::spawn_blocking(move || {
            let unpacked = unpack(Pieces { receiver, current: Bytes::new() }, &staging.dir)?;
            check("a layer", &digest, &unpacked.digest)?;
            check("a layer", &diff_id, &unpacked.diff_id)?;
            store.commit_layer(staging, &diff_id, unpacked)
        });
        let stream = client.pull_blob_stream(from, &oci(&layer)).await;
        let mut failure = None;
        match stream {
            Ok(stream) => {
                let mut stream = stream.stream;
                while let Some(piece) = stream.next().await {
                    match piece {
                        Ok(piece) => {
                            meter.received.fetch_add(piece.len() as u64, Ordering::Relaxed);
                            meter.tell();
                            if sender.send(Ok(piece)).await.is_err() {
                                break; // unpacking failed, and says why below
                            }
                        }
                        Err(error) => {
                            failure = Some(Error::io("receive a layer of", canonical(from), error));
                            let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
                            let _ = sender.send(Err(cut)).await;
                            break;
                        }
                    }
                }
            }
            Err(error) => failure = Some(registry("fetch a layer")(error)),
        }
        drop(sender);
        let unpacked = unpacking.await.map_err(|_| Error::Cancelled)?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        unpacked?;
        meter.done.fetch_add(1, Ordering::Relaxed);
        meter.tell();
        Ok(())
    }
}

/// A stream of pieces as a blocking reader.
struct Pieces {
    receiver: mpsc::Receiver<std::io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// The manifest's bytes and the digest that they really have.
async fn manifest_text(client: &Client, from: &Reference, auth: &RegistryAuth) -> Result<(Bytes, String)> {
    let (text, _) =
        client.pull_manifest_raw(from, auth, &ACCEPTED).await.map_err(registry("failed to resolve reference"))?;
    let digest = digest_of(&text);
    Ok((text, digest))
}

fn registry(context: &'static str) -> impl Fn(OciDistributionError) -> Error {
    move |source| Error::Registry { context: context.to_owned(), source: Box::new(source) }
}

fn oci(descriptor: &Descriptor) -> OciDescriptor {
    OciDescriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.clone(),
        size: i64::try_from(descriptor.size).unwrap_or(0),
        ..OciDescriptor::default()
    }
}

fn client(host: &str, how: &Registry) -> Result<Client> {
    // reqwest takes the process' default provider; the first that installs one wins, and all here are ring.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = ClientConfig {
        protocol: if how.plain_http {
            ClientProtocol::HttpsExcept(vec![host.to_owned()])
        } else {
            ClientProtocol::Https
        },
        accept_invalid_certificates: how.skip_verify,
        connect_timeout: Some(Duration::from_secs(15)),
        read_timeout: Some(Duration::from_secs(60)),
        user_agent: concat!("corten/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    for file in &how.ca_files {
        let data = std::fs::read(file).map_err(|e| Error::io("read", file, e))?;
        config.extra_root_certificates.push(Certificate { encoding: CertificateEncoding::Pem, data });
    }
    Client::try_from(config).map_err(registry("make a registry client"))
}

fn registry_auth(auth: Option<&AuthConfig>) -> Result<RegistryAuth> {
    let Some(auth) = auth else { return Ok(RegistryAuth::Anonymous) };
    if !auth.registry_token.is_empty() {
        return Ok(RegistryAuth::Bearer(auth.registry_token.clone()));
    }
    if !auth.username.is_empty() {
        return Ok(RegistryAuth::Basic(auth.username.clone(), auth.password.clone()));
    }
    if !auth.auth.is_empty() {
        let bad = || Error::Unusable("credentials are not base64 of user:password".to_owned());
        let bytes = base64::engine::general_purpose::STANDARD.decode(auth.auth.trim()).map_err(|_| bad())?;
        let text = String::from_utf8(bytes).map_err(|_| bad())?;
        let (user, password) = text.split_once(':').ok_or_else(bad)?;
        return Ok(RegistryAuth::Basic(user.to_owned(), password.trim_end_matches('\0').to_owned()));
    }
    if !auth.identity_token.is_empty() {
        return Err(Error::Unusable("identity tokens are not supported".to_owned()));
    }
    Ok(RegistryAuth::Anonymous)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_in_order() {
        let registries: Registries = serde_json::from_str(
            r#"{"docker.io": {"mirrors": ["http://m:5000", "other"]}, "other": {"plainHttp": true}, "*": {}}"#,
        )
        .unwrap();
        let got: Vec<(Option<String>, bool)> =
            registries.endpoints("docker.io").into_iter().map(|(h, r)| (h, r.plain_http)).collect();
        let expect = [(Some("m:5000".to_owned()), true), (Some("other".to_owned()), true), (None, false)];
        assert_eq!(got, expect);
        assert_eq!(registries.endpoints("ghcr.io").len(), 1);
    }
}
