//! kubeconfig files and the in-cluster environment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine;
use serde::Deserialize;

use crate::call::Client;
use crate::error::ConfigError;
use crate::http_transport::{HttpTransport, TlsIdentity, Token, bearer};

/// A parsed kubeconfig and where its relative paths start.
#[derive(Debug, Clone)]
pub struct Kubeconfig {
    file: File,
    base: PathBuf,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct File {
    clusters: Option<Vec<NamedCluster>>,
    users: Option<Vec<NamedUser>>,
    contexts: Option<Vec<NamedContext>>,
    current_context: String,
}

#[derive(Debug, Clone, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    tls_server_name: Option<String>,
    insecure_skip_tls_verify: bool,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: User,
}

#[derive(Clone, Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    exec: Option<serde_yaml_ng::Value>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("User { .. }")
    }
}

#[derive(Debug, Clone, Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Clone, Deserialize, Default)]
#[serde(default)]
struct Context {
    cluster: String,
    user: String,
}

impl Kubeconfig {
    /// Reads a file.
    ///
    /// # Errors
    /// The file cannot be read or is no kubeconfig.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let file = serde_yaml_ng::from_str(&text).map_err(|source| ConfigError::Parse { path: path.into(), source })?;
        Ok(Self { file, base: path.parent().unwrap_or(Path::new("")).to_owned() })
    }

    fn context(&self) -> Result<(&Cluster, Option<&User>), ConfigError> {
        let none = || ConfigError::Invalid("no configuration has been provided".into());
        let named = |what: &str, name: &str| ConfigError::Invalid(format!("{what} {name:?} does not exist"));
        let current = &self.file.current_context;
        if current.is_empty() {
            return Err(none());
        }
        let contexts = self.file.contexts.as_deref().unwrap_or_default();
        let context = &contexts.iter().find(|c| c.name == *current).ok_or_else(|| named("context", current))?.context;
        let clusters = self.file.clusters.as_deref().unwrap_or_default();
        let cluster = &clusters
            .iter()
            .find(|c| c.name == context.cluster)
            .ok_or_else(|| named("cluster", &context.cluster))?
            .cluster;
        let users = self.file.users.as_deref().unwrap_or_default();
        let user = users.iter().find(|u| u.name == context.user).map(|u| &u.user);
        if user.is_none() && !context.user.is_empty() {
            return Err(named("user", &context.user));
        }
        Ok((cluster, user))
    }

    /// The server of the current context.
    ///
    /// # Errors
    /// There is no current context, or it is incomplete.
    pub fn server(&self) -> Result<&str, ConfigError> {
        Ok(&self.context()?.0.server)
    }

    /// A transport for the current context; `server` overrides the address, as `--master` does.
    ///
    /// # Errors
    /// The context is incomplete, or asks for something that is not supported.
    pub fn transport(&self, server: Option<&str>) -> Result<HttpTransport, ConfigError> {
        let (cluster, user) = self.context()?;
        if cluster.proxy_url.is_some() {
            return Err(ConfigError::Invalid("proxy-url is not supported".into()));
        }
        let none = User::default();
        let user = user.unwrap_or(&none);
        if user.exec.is_some() || user.username.is_some() {
            return Err(ConfigError::Invalid("exec plugins and basic authentication are not supported".into()));
        }
        let tls = TlsIdentity {
            ca_pem: self.pem(&cluster.certificate_authority, &cluster.certificate_authority_data)?,
            cert_pem: self.pem(&user.client_certificate, &user.client_certificate_data)?,
            key_pem: self.pem(&user.client_key, &user.client_key_data)?,
            server_name: cluster.tls_server_name.clone(),
            insecure: cluster.insecure_skip_tls_verify,
        };
        let token = match (&user.token, &user.token_file) {
            (Some(token), _) => Token::Fixed(bearer(token)?),
            (None, Some(file)) => Token::File(self.base.join(file)),
            (None, None) => Token::None,
        };
        HttpTransport::with_token(server.unwrap_or(&cluster.server), &tls, token)
    }

    /// A transport to the current context's server with no credentials, for clients that bring their own.
    ///
    /// # Errors
    /// The context is incomplete.
    pub fn bare_transport(&self, server: Option<&str>) -> Result<HttpTransport, ConfigError> {
        let (cluster, _) = self.context()?;
        let tls = TlsIdentity {
            ca_pem: self.pem(&cluster.certificate_authority, &cluster.certificate_authority_data)?,
            server_name: cluster.tls_server_name.clone(),
            insecure: cluster.insecure_skip_tls_verify,
            ..TlsIdentity::default()
        };
        HttpTransport::with_token(server.unwrap_or(&cluster.server), &tls, Token::None)
    }

    fn pem(&self, file: &Option<PathBuf>, data: &Option<String>) -> Result<Option<Vec<u8>>, ConfigError> {
        match (data, file) {
            (Some(data), _) => base64::engine::general_purpose::STANDARD
                .decode(data.trim())
                .map(Some)
                .map_err(|e| ConfigError::Invalid(format!("base64 data: {e}"))),
            (None, Some(file)) => {
                let path = self.base.join(file);
                std::fs::read(&path).map(Some).map_err(|source| ConfigError::Read { path, source })
            }
            (None, None) => Ok(None),
        }
    }

    /// A client for the current context.
    ///
    /// # Errors
    /// See [`Kubeconfig::transport`].
    pub fn client(&self, user_agent: &str) -> Result<Client, ConfigError> {
        Ok(Client::new(Arc::new(self.transport(None)?), user_agent))
    }
}

/// A client from the files and variables that a pod has.
///
/// # Errors
/// This is no pod, or its service-account files are unusable.
pub fn in_cluster(user_agent: &str) -> Result<Client, ConfigError> {
    const DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
    let variable =
        |name: &str| std::env::var(name).map_err(|_| ConfigError::Invalid(format!("not in a pod: {name} is not set")));
    let (host, port) = (variable("KUBERNETES_SERVICE_HOST")?, variable("KUBERNETES_SERVICE_PORT")?);
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let ca = Path::new(DIR).join("ca.crt");
    let ca_pem = std::fs::read(&ca).map_err(|source| ConfigError::Read { path: ca, source })?;
    let tls = TlsIdentity { ca_pem: Some(ca_pem), ..TlsIdentity::default() };
    let token = Token::File(Path::new(DIR).join("token"));
    let transport = HttpTransport::with_token(&format!("https://{host}:{port}"), &tls, token)?;
    Ok(Client::new(Arc::new(transport), user_agent))
}
