//! Debian's docker-registry on a free port of loopback, where it is installed.

use std::process::{Child, Command, Stdio};

use oci_client::Reference;
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;

use crate::archive::{Layer, digest, image};

pub struct Registry {
    pub host: String,
    auth: RegistryAuth,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// bcrypt of "secret".
const SECRET: &str = "$2b$04$Iu3AbfkNUVgaDDn4oRZftegnTdQNuCMl5lbHPZ0ZJ4P5v1a7DTwxm";

impl Registry {
    pub async fn start(login: Option<(&str, &str)>) -> Option<Self> {
        if Command::new("docker-registry").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("docker-registry is not installed: not tested");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let data = dir.path().join("data");
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
            data.display()
        );
        let mut auth = RegistryAuth::Anonymous;
        if let Some((user, password)) = login {
            let file = dir.path().join("htpasswd");
            std::fs::write(&file, format!("{user}:{SECRET}\n")).unwrap();
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display()));
            auth = RegistryAuth::Basic(user.to_owned(), password.to_owned());
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while tokio::net::TcpStream::connect(&host).await.is_err() {
            tokio::task::yield_now().await;
        }
        Some(Self { host, auth, child, _dir: dir })
    }

    pub async fn push(&self, name: &str, layers: &[Layer], how: &str) {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol = ClientProtocol::Http;
        let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
        let reference: Reference = format!("{}/{name}", self.host).parse().unwrap();
        client.auth(&reference, &self.auth, oci_client::RegistryOperation::Push).await.unwrap();
        let (config, manifest, blobs) = image(layers, how);
        for blob in blobs.into_iter().chain([config]) {
            let digest = digest(&blob);
            client.push_blob(&reference, blob, &digest).await.unwrap();
        }
        let kind = "application/vnd.oci.image.manifest.v1+json".parse().unwrap();
        client.push_manifest_raw(&reference, manifest, kind).await.unwrap();
    }
}
