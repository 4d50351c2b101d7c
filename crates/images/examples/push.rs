//! Pushes every image of an OCI layout archive to a registry over plain HTTP, under its repository and tag:
//! `push HOST[:PORT] FILE.tar`. With `{"registry.k8s.io": {"mirrors": ["http://HOST:PORT"]}}` in a store's
//! `registries.json` a machine without the internet pulls them from there.

use std::collections::BTreeMap;
use std::io::Read;

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: push HOST[:PORT] FILE.tar";
    let (host, file) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(std::fs::File::open(file)?).entries()? {
        let mut entry = entry?;
        let name = entry.path()?.to_string_lossy().trim_start_matches("./").to_owned();
        let mut data = Vec::new();
        entry.read_to_end(&mut data)?;
        files.insert(name, data);
    }
    let blob =
        |digest: &str| files.get(&format!("blobs/{}", digest.replace(':', "/"))).cloned().ok_or("a blob is missing");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() });
    let index: Value = serde_json::from_slice(files.get("index.json").ok_or("no index.json")?)?;
    for entry in index["manifests"].as_array().into_iter().flatten() {
        let name = text(&entry["annotations"]["io.containerd.image.name"]);
        let named: Reference = name.parse()?;
        let tag = named.tag().unwrap_or("latest");
        let reference: Reference = format!("{host}/{}:{tag}", named.repository()).parse()?;
        client.auth(&reference, &RegistryAuth::Anonymous, oci_client::RegistryOperation::Push).await?;
        let manifest = blob(&text(&entry["digest"]))?;
        let parsed: Value = serde_json::from_slice(&manifest)?;
        for part in parsed["layers"].as_array().into_iter().flatten().chain([&parsed["config"]]) {
            let digest = text(&part["digest"]);
            if !client.blob_exists(&reference, &digest).await? {
                client.push_blob(&reference, blob(&digest)?, &digest).await?;
            }
        }
        client.push_manifest_raw(&reference, manifest, text(&entry["mediaType"]).parse()?).await?;
        println!("{name} -> {reference}");
    }
    Ok(())
}
