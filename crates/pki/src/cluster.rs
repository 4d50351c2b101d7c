//! A cluster's keys and certificates in kubeadm's layout: made on first use, renewed when near expiry.
//!
//! | file | what |
//! |---|---|
//! | `ca.crt`, `ca.key` | cluster authority |
//! | `apiserver.*`, `apiserver-kubelet-client.*` | the API server, and it as the kubelets' client |
//! | `front-proxy-ca.*`, `front-proxy-client.*` | aggregation |
//! | `etcd/ca.*`, `etcd/server.*`, `apiserver-etcd-client.*` | the etcd face |
//! | `sa.key`, `sa.pub` | service-account tokens |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use crate::cert::{Info, Pair, San, Subject, Usage, YEAR};
use crate::{Error, Key, files, pem};

/// What the certificates must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// Addresses at which clients reach the API server, besides loopback.
    pub addresses: Vec<IpAddr>,
    /// Names at which clients reach it, besides the in-cluster ones and `localhost`.
    pub names: Vec<String>,
    /// The `kubernetes` Service's addresses (the first of each service range).
    pub service_ips: Vec<IpAddr>,
    /// The cluster's DNS domain.
    pub dns_domain: String,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            names: Vec::new(),
            service_ips: vec![IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1))],
            dns_domain: "cluster.local".into(),
        }
    }
}

impl Params {
    fn api_server_sans(&self) -> Vec<San> {
        let in_cluster = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let mut sans: Vec<San> = in_cluster.iter().map(|n| San::Dns((*n).to_owned())).collect();
        sans.push(San::Dns(format!("kubernetes.default.svc.{}", self.dns_domain)));
        sans.push(San::Dns("localhost".into()));
        sans.extend(self.names.iter().cloned().map(San::Dns));
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        sans.extend(self.service_ips.iter().chain(&loopback).chain(&self.addresses).copied().map(San::Ip));
        let mut seen = Vec::new();
        sans.retain(|san| {
            !seen.contains(san) && {
                seen.push(san.clone());
                true
            }
        });
        sans
    }
}

/// A cluster's keys and certificates.
#[derive(Debug, Clone)]
pub struct Pki {
    dir: PathBuf,
    /// Cluster authority: API server, kubelets, clients.
    pub ca: Pair,
    /// Authority of the aggregation layer's clients.
    pub front_proxy_ca: Pair,
    /// Authority of the etcd face.
    pub etcd_ca: Pair,
    /// Signs service-account tokens.
    pub service_account: Key,
    /// The API server's serving certificate.
    pub api_server: Pair,
    /// The API server as the kubelets' client.
    pub kubelet_client: Pair,
    /// The API server as client of aggregated API servers.
    pub front_proxy_client: Pair,
    /// The API server as etcd's client.
    pub etcd_client: Pair,
    /// The etcd face's serving certificate.
    pub etcd_server: Pair,
}

impl Pki {
    /// Reads the folder, making or renewing what is absent, does not fit the parameters any more, or is near expiry.
    /// Authorities and the service-account key are never replaced.
    ///
    /// # Errors
    /// A file is unreadable or unusable, or the folder cannot be written.
    pub fn load_or_create(dir: &Path, params: &Params) -> Result<Self, Error> {
        let ca = files::load_or_create_ca(&dir.join("ca"), "kubernetes")?;
        let front_proxy_ca = files::load_or_create_ca(&dir.join("front-proxy-ca"), "front-proxy-ca")?;
        let etcd_ca = files::load_or_create_ca(&dir.join("etcd/ca"), "etcd-ca")?;
        let service_account = files::load_or_create_key(&dir.join("sa"))?;
        let leaf = |name: &str, ca: &Pair, subject: Subject, sans: &[San], usage| {
            load_or_issue(&dir.join(name), ca, &subject, sans, usage)
        };
        let masters = |name: &str| Subject::new(name, &["system:masters"]);
        let etcd_sans: Vec<San> = [San::Dns("localhost".into())]
            .into_iter()
            .chain([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(San::Ip))
            .chain(params.addresses.iter().copied().map(San::Ip))
            .collect();
        Ok(Self {
            api_server: leaf(
                "apiserver",
                &ca,
                Subject::new("kube-apiserver", &[]),
                &params.api_server_sans(),
                Usage::SERVER,
            )?,
            kubelet_client: leaf(
                "apiserver-kubelet-client",
                &ca,
                masters("kube-apiserver-kubelet-client"),
                &[],
                Usage::CLIENT,
            )?,
            front_proxy_client: leaf(
                "front-proxy-client",
                &front_proxy_ca,
                Subject::new("front-proxy-client", &[]),
                &[],
                Usage::CLIENT,
            )?,
            etcd_client: leaf(
                "apiserver-etcd-client",
                &etcd_ca,
                Subject::new("kube-apiserver-etcd-client", &[]),
                &[],
                Usage::CLIENT,
            )?,
            etcd_server: leaf("etcd/server", &etcd_ca, Subject::new("etcd-server", &[]), &etcd_sans, Usage::BOTH)?,
            dir: dir.to_owned(),
            ca,
            front_proxy_ca,
            etcd_ca,
            service_account,
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A client certificate of the cluster authority for a user in groups, not kept on disk.
    ///
    /// # Errors
    /// The random source failed.
    pub fn issue_client(&self, common_name: &str, organizations: &[&str]) -> Result<Pair, Error> {
        self.ca.issue(&Subject::new(common_name, organizations), &[], Usage::CLIENT, YEAR)
    }

    /// A serving certificate of the cluster authority, not kept on disk.
    ///
    /// # Errors
    /// The random source failed.
    pub fn issue_server(&self, common_name: &str, sans: &[San]) -> Result<Pair, Error> {
        self.ca.issue(&Subject::new(common_name, &[]), sans, Usage::SERVER, YEAR)
    }

    /// A node's client certificate: `system:node:NAME` in `system:nodes`.
    ///
    /// # Errors
    /// The random source failed.
    pub fn issue_node_client(&self, node: &str) -> Result<Pair, Error> {
        self.issue_client(&format!("system:node:{node}"), &["system:nodes"])
    }

    /// A kubelet's serving certificate for its name and addresses.
    ///
    /// # Errors
    /// The random source failed.
    pub fn issue_node_server(&self, node: &str, addresses: &[IpAddr]) -> Result<Pair, Error> {
        let sans: Vec<San> =
            std::iter::once(San::Dns(node.to_owned())).chain(addresses.iter().copied().map(San::Ip)).collect();
        let subject = Subject::new(&format!("system:node:{node}"), &["system:nodes"]);
        self.ca.issue(&subject, &sans, Usage::SERVER, YEAR)
    }

    /// The administrator's client certificate: `kubernetes-admin` in `system:masters`.
    ///
    /// # Errors
    /// The random source failed.
    pub fn issue_admin(&self) -> Result<Pair, Error> {
        self.issue_client("kubernetes-admin", &["system:masters"])
    }

    /// A client certificate kept at `<base>.crt` and `<base>.key`, renewed when near expiry.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn client_at(&self, base: &Path, common_name: &str, organizations: &[&str]) -> Result<Pair, Error> {
        load_or_issue(base, &self.ca, &Subject::new(common_name, organizations), &[], Usage::CLIENT)
    }

    /// A serving certificate kept at `<base>.crt` and `<base>.key`, renewed when near expiry or when names are missing.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn server_at(&self, base: &Path, common_name: &str, sans: &[San]) -> Result<Pair, Error> {
        load_or_issue(base, &self.ca, &Subject::new(common_name, &[]), sans, Usage::SERVER)
    }

    /// The cluster authority's certificate as PEM.
    pub fn ca_pem(&self) -> String {
        pem::encode("CERTIFICATE", &self.ca.cert)
    }
}

fn load_or_issue(base: &Path, ca: &Pair, subject: &Subject, sans: &[San], usage: Usage) -> Result<Pair, Error> {
    // A torn or foreign leaf is no loss: it is issued again.
    if let Ok(Some(pair)) = files::load_pair(base)
        && fits(&pair, ca, subject, sans)
    {
        return Ok(pair);
    }
    let pair = ca.issue(subject, sans, usage, YEAR)?;
    files::store_pair(base, &pair, false)?;
    Ok(pair)
}

fn fits(pair: &Pair, ca: &Pair, subject: &Subject, sans: &[San]) -> bool {
    let (Ok(leaf), Ok(issuer)) = (Info::parse(&pair.cert), Info::parse(&ca.cert)) else { return false };
    leaf.issuer_der == issuer.subject_der
        && crate::tls::is_signed_by(&pair.cert, &ca.cert)
        && leaf.subject == *subject
        && sans.iter().all(|san| leaf.sans.contains(san))
        && !leaf.near_expiry(rt::time::unix_seconds())
}
