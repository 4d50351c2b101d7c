//! Images made from programs of this machine, as archives or in a registry.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// An image being made: one layer.
pub struct Recipe {
    layer: tar::Builder<Vec<u8>>,
    config: Value,
}

/// An image as its blobs.
pub(crate) struct Parts {
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    format!("sha256:{hex}")
}

fn add(to: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    header.set_mtime(1_000_000_000);
    header.set_uid(0);
    header.set_gid(0);
    to.append_data(&mut header, path.trim_start_matches('/'), bytes).with_context(|| format!("pack {path}"))
}

/// The shared libraries of a program, by the loader's own word.
fn libraries(program: &Path) -> Result<BTreeSet<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("start ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect())
}

impl Recipe {
    /// An empty image that runs these words.
    pub fn new(entrypoint: &[&str]) -> Self {
        let config = json!({"Entrypoint": entrypoint, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]});
        Self { layer: tar::Builder::new(Vec::new()), config }
    }

    /// Adds a file.
    ///
    /// # Errors
    /// Its path is too long.
    pub fn file(mut self, path: &str, bytes: &[u8], mode: u32) -> Result<Self> {
        add(&mut self.layer, path, bytes, mode)?;
        Ok(self)
    }

    /// Adds an empty folder.
    ///
    /// # Errors
    /// Its path is too long.
    pub fn folder(mut self, path: &str) -> Result<Self> {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Directory);
        let name = format!("{}/", path.trim_matches('/'));
        self.layer.append_data(&mut header, name, std::io::empty()).with_context(|| format!("pack {path}"))?;
        Ok(self)
    }

    /// Adds a program of this machine at its own path, and the libraries that it needs.
    ///
    /// # Errors
    /// It is not there.
    pub fn program(mut self, program: &Path) -> Result<Self> {
        for file in libraries(program)?.into_iter().chain([program.to_owned()]) {
            let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
            add(&mut self.layer, &file.to_string_lossy(), &bytes, 0o755)?;
        }
        Ok(self)
    }

    pub(crate) fn parts(self) -> Result<Parts> {
        let layer = self.layer.into_inner().context("end the layer")?;
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => bail!("no image is made for {other}"),
        };
        let config = json!({
            "architecture": architecture, "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                       "digest": digest(&config), "size": config.len()},
            "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar",
                        "digest": digest(&layer), "size": layer.len()}],
        });
        Ok(Parts { config, layer, manifest: manifest.to_string().into_bytes() })
    }

    /// Writes the archive that `docker save` writes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn docker_archive(self, to: &Path, names: &[&str]) -> Result<()> {
        let parts = self.parts()?;
        let manifest = json!([{"Config": "config.json", "RepoTags": names, "Layers": ["layer/layer.tar"]}]);
        let manifest = manifest.to_string().into_bytes();
        write(to, &[("manifest.json", &manifest), ("config.json", &parts.config), ("layer/layer.tar", &parts.layer)])
    }

    /// Writes an OCI layout as an archive.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn oci_layout(self, to: &Path, name: &str) -> Result<()> {
        let parts = self.parts()?;
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest(&parts.manifest), "size": parts.manifest.len(),
            "annotations": {"io.containerd.image.name": name},
        }]});
        let index = index.to_string().into_bytes();
        let blob = |bytes: &[u8]| format!("blobs/{}", digest(bytes).replace(':', "/"));
        let (config, layer, manifest) = (blob(&parts.config), blob(&parts.layer), blob(&parts.manifest));
        write(
            to,
            &[
                ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
                ("index.json", &index),
                (&config, &parts.config),
                (&layer, &parts.layer),
                (&manifest, &parts.manifest),
            ],
        )
    }
}

fn write(to: &Path, files: &[(&str, &[u8])]) -> Result<()> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        add(&mut archive, path, bytes, 0o644)?;
    }
    let bytes = archive.into_inner().context("end the archive")?;
    std::fs::write(to, bytes).with_context(|| format!("write {}", to.display()))
}

/// Debian's static busybox running a shell command; `None` where it is not installed.
///
/// # Errors
/// It cannot be packed.
pub fn busybox(command: &str) -> Result<Option<Recipe>> {
    let Some(program) = find("busybox") else { return Ok(None) };
    let bytes = std::fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let recipe = Recipe::new(&["/bin/busybox", "sh", "-c", command]);
    recipe.file("bin/busybox", &bytes, 0o755)?.program(&program).map(Some)
}

/// A web server in an image, and a program in it that can be run.
pub struct WebServer {
    /// The image; its welcome page is nginx's, on port 80.
    pub recipe: Recipe,
    /// A command that succeeds in it.
    pub command: &'static str,
}

/// Debian's nginx; where it is not installed, busybox with a page like nginx's; `None` where that is missing, too.
///
/// # Errors
/// It cannot be packed.
pub fn web_server() -> Result<Option<WebServer>> {
    if let Some(program) = find("nginx") {
        return nginx(&program).map(|recipe| Some(WebServer { recipe, command: "/usr/sbin/nginx -v" }));
    }
    let Some(busybox) = busybox("exec /bin/busybox httpd -f -p 80 -h /www")? else { return Ok(None) };
    let recipe = busybox.file("www/index.html", b"<h1>Welcome to nginx!</h1>\n", 0o644)?;
    Ok(Some(WebServer { recipe, command: "/bin/busybox true" }))
}

fn nginx(program: &Path) -> Result<Recipe> {
    const CONFIGURATION: &str = "user root;\ndaemon off;\npid /tmp/nginx.pid;\nerror_log /dev/stderr;\nevents {}\n\
                                 http { access_log off; server { listen 80; root /usr/share/nginx/html; } }\n";
    let page = ["/usr/share/nginx/html/index.html", "/var/www/html/index.nginx-debian.html"];
    let page = page.iter().find_map(|path| std::fs::read(path).ok()).context("nginx has no welcome page")?;
    Recipe::new(&[&program.to_string_lossy()])
        .file("etc/nginx/nginx.conf", CONFIGURATION.as_bytes(), 0o644)?
        .file("usr/share/nginx/html/index.html", &page, 0o644)?
        .file("etc/passwd", b"root:x:0:0:root:/root:/bin/false\n", 0o644)?
        .file("etc/group", b"root:x:0:\n", 0o644)?
        .folder("var/log/nginx")?
        .folder("var/lib/nginx")?
        .folder("tmp")?
        .program(program)
}

/// A program on PATH, or where Debian keeps those of root.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(name)).find(|file| file.is_file())
}
