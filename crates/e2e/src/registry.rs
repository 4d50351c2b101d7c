//! Debian's docker-registry, started for a test.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use oci_client::client::{Client, ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};

use crate::image::{self, Recipe, digest};

/// The user and password that a registry with a login takes.
pub const LOGIN: (&str, &str) = ("user", "secret");
/// bcrypt of that password.
const HASH: &str = "$2b$04$Iu3AbfkNUVgaDDn4oRZftegnTdQNuCMl5lbHPZ0ZJ4P5v1a7DTwxm";

/// A running registry, plain HTTP; it ends when this is dropped.
pub struct Registry {
    /// Its address and port, the first part of its images' names.
    pub host: String,
    auth: RegistryAuth,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Registry {
    /// Starts a registry on an address of this machine, with or without a login; `None` where it is not installed.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(address: IpAddr, login: bool) -> Result<Option<Self>> {
        let Some(program) = image::find("docker-registry") else { return Ok(None) };
        let dir = tempfile::tempdir().context("make a folder")?;
        let port = TcpListener::bind((address, 0)).and_then(|l| l.local_addr()).context("find a port")?.port();
        let host = format!("{address}:{port}");
        let mut config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{host}\"}}\n",
            dir.path().join("data").display()
        );
        let mut auth = RegistryAuth::Anonymous;
        if login {
            let file = dir.path().join("htpasswd");
            std::fs::write(&file, format!("{}:{HASH}\n", LOGIN.0)).context("write the password")?;
            config.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", file.display()));
            auth = RegistryAuth::Basic(LOGIN.0.to_owned(), LOGIN.1.to_owned());
        }
        let file = dir.path().join("config.yml");
        std::fs::write(&file, config).context("write the configuration")?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start docker-registry")?;
        let log = child.stderr.take().context("no pipe from docker-registry")?;
        let registry = Self { host, auth, child, _dir: dir };
        let mut lines = BufReader::new(log).lines();
        loop {
            match lines.next() {
                Some(line) if line.as_ref().is_ok_and(|l| l.contains("listening on")) => break,
                Some(_) => {}
                None => bail!("docker-registry ended before it listened"),
            }
        }
        // Its log must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Some(registry))
    }

    /// Puts an image in.
    ///
    /// # Errors
    /// The registry refuses it.
    pub async fn push(&self, name: &str, recipe: Recipe) -> Result<()> {
        // A second call finds one installed, which is what is wanted.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol = ClientProtocol::Http;
        let client = Client::new(ClientConfig { protocol, ..ClientConfig::default() });
        let reference: Reference = format!("{}/{name}", self.host).parse().context("the image's name")?;
        client.auth(&reference, &self.auth, RegistryOperation::Push).await.context("log in")?;
        let parts = recipe.parts()?;
        for blob in [parts.layer, parts.config] {
            let digest = digest(&blob);
            client.push_blob(&reference, blob, &digest).await.context("push a blob")?;
        }
        let kind = "application/vnd.oci.image.manifest.v1+json".parse().context("a media type")?;
        client.push_manifest_raw(&reference, parts.manifest, kind).await.context("push the manifest")?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It is going either way.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
