//! Making layers and image archives.

use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

/// A layer being made.
#[derive(Clone)]
pub struct Layer(Vec<u8>);

impl Layer {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    fn add(&mut self, path: &str, kind: tar::EntryType, mode: u32, uid: u64, data: &[u8], link: &str) -> &mut Self {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(uid);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        if kind == tar::EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        let name = &mut header.as_gnu_mut().unwrap().name;
        name[..path.len()].copy_from_slice(path.as_bytes());
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn dir(&mut self, path: &str, mode: u32) -> &mut Self {
        self.add(&format!("{path}/"), tar::EntryType::Directory, mode, 0, b"", "")
    }
    pub fn file(&mut self, path: &str, text: &str, mode: u32, uid: u64) -> &mut Self {
        self.add(path, tar::EntryType::Regular, mode, uid, text.as_bytes(), "")
    }
    pub fn raw_file(&mut self, path: &str, text: &str) -> &mut Self {
        self.file(path, text, 0o644, 0)
    }
    pub fn hard_link(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, tar::EntryType::Link, 0o644, 0, b"", target)
    }
    pub fn symlink(&mut self, path: &str, target: &str) -> &mut Self {
        self.add(path, tar::EntryType::Symlink, 0o777, 0, b"", target)
    }
    pub fn device(&mut self, path: &str, _major: u32, _minor: u32) -> &mut Self {
        self.add(path, tar::EntryType::Char, 0o666, 0, b"", "")
    }

    pub fn tar(&self) -> Vec<u8> {
        let mut bytes = self.0.clone();
        bytes.extend_from_slice(&[0u8; 1024]);
        bytes
    }
}

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

pub fn compress(bytes: &[u8], how: &str) -> (Vec<u8>, &'static str) {
    match how {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(bytes).unwrap();
            (encoder.finish().unwrap(), "application/vnd.oci.image.layer.v1.tar+gzip")
        }
        "zstd" => (zstd::encode_all(bytes, 1).unwrap(), "application/vnd.oci.image.layer.v1.tar+zstd"),
        _ => (bytes.to_vec(), "application/vnd.oci.image.layer.v1.tar"),
    }
}

/// The configuration, the manifest and the layers' blobs of an image.
pub fn image(layers: &[Layer], how: &str) -> (Vec<u8>, Vec<u8>, Vec<Vec<u8>>) {
    let tars: Vec<Vec<u8>> = layers.iter().map(Layer::tar).collect();
    let diff_ids: Vec<String> = tars.iter().map(|t| digest(t)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["/bin/app"], "User": "1234", "Env": ["A=b"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
    .to_string()
    .into_bytes();
    let blobs: Vec<(Vec<u8>, &str)> = tars.iter().map(|t| compress(t, how)).collect();
    let described: Vec<_> = blobs
        .iter()
        .map(|(b, kind)| serde_json::json!({"mediaType": kind, "digest": digest(b), "size": b.len()}))
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                   "digest": digest(&config), "size": config.len()},
        "layers": described,
    })
    .to_string()
    .into_bytes();
    (config, manifest, blobs.into_iter().map(|(b, _)| b).collect())
}

fn write(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut layer = Layer::new();
    for (name, data) in files {
        layer.add(name, tar::EntryType::Regular, 0o644, 0, data, "");
    }
    std::fs::write(path, layer.tar()).unwrap();
}

pub fn oci_archive(path: &Path, layers: &[Layer], names: &[&str], how: &str) {
    let (config, manifest, blobs) = image(layers, how);
    let manifests: Vec<_> = names
        .iter()
        .map(|name| {
            serde_json::json!({
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest(&manifest), "size": manifest.len(),
                "annotations": {"io.containerd.image.name": name},
            })
        })
        .collect();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": manifests}).to_string().into_bytes();
    let mut files = vec![("./index.json".to_owned(), index)];
    for blob in [config, manifest].into_iter().chain(blobs) {
        files.push((format!("./blobs/{}", digest(&blob).replace(':', "/")), blob));
    }
    write(path, &files);
}

pub fn docker_archive(path: &Path, layers: &[Layer], tags: &[&str]) {
    let (config, _, blobs) = image(layers, "plain");
    let names: Vec<String> = (0..blobs.len()).map(|i| format!("{i}/layer.tar")).collect();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": tags, "Layers": names}]);
    let mut files = vec![("config.json".to_owned(), config)];
    files.push(("manifest.json".to_owned(), manifest.to_string().into_bytes()));
    files.extend(names.into_iter().zip(blobs));
    write(path, &files);
}
