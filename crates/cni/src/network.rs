//! The pod network that the runtime calls: `node_api::NetworkService` over a chain of plugins.

use crate::conf::{self, NetworkList};
use crate::error::{Context, Error, Result};
use crate::plugins::{self, Command, Conf, Invocation};
use crate::runtime::{Attachment, Cni};
use async_trait::async_trait;
use ipnet::IpNet;
use node_api::{NetworkAttachment, NetworkRequest, NetworkService};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use sys::netlink::sysctl;

/// A pod's interface.
const IFNAME: &str = "eth0";

/// How pods are linked to their node when the network is the built-in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PodLink {
    /// A bridge where the kernel shows bridged packets to nf_tables (`br_netfilter`), else point to point.
    #[default]
    Auto,
    /// Always a bridge.
    Bridge,
    /// Always point to point.
    PointToPoint,
}

/// How to make a [`Network`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Directory of configurations; the first good one is taken and overrides the built-in network.
    pub conf_dir: Option<PathBuf>,
    /// Directories of external plugins.
    pub bin_dirs: Vec<PathBuf>,
    /// Attachments, addresses and the last podCIDRs.
    pub state_dir: PathBuf,
    /// Whether there is a built-in network where `conf_dir` has none.
    pub built_in: bool,
    /// Name of the built-in network.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// Its MTU, 0 for the default.
    pub mtu: u32,
    /// Its links.
    pub link: PodLink,
    /// Whether pods' packets leave their subnet with the node's address. Off where pods are routed.
    pub masquerade: bool,
}

impl Config {
    /// The built-in network with its state in `state_dir`, external plugins in `/opt/cni/bin`.
    pub fn built_in(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            conf_dir: None,
            bin_dirs: vec![PathBuf::from("/opt/cni/bin")],
            state_dir: state_dir.into(),
            built_in: true,
            name: "corten".to_owned(),
            bridge: "cni0".to_owned(),
            mtu: 0,
            link: PodLink::Auto,
            masquerade: false,
        }
    }
}

struct Inner {
    config: Config,
    cni: Cni,
    pod_cidrs: Mutex<Vec<IpNet>>,
    /// Whether leftovers of earlier lives were removed; held while that is done.
    recovered: Mutex<bool>,
}

/// The pod network. Cheap to clone; every method's work runs on a blocking thread.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
}

impl Network {
    /// Makes the network; podCIDRs of an earlier run are remembered, so that pods can start before the API answers.
    pub fn new(config: Config) -> Self {
        let remembered = std::fs::read_to_string(config.state_dir.join("pod-cidrs")).unwrap_or_default();
        let pod_cidrs = remembered.lines().filter_map(|l| l.trim().parse().ok()).collect();
        let cni = Cni::new(config.bin_dirs.clone(), &config.state_dir);
        Self { inner: Arc::new(Inner { config, cni, pod_cidrs: Mutex::new(pod_cidrs), recovered: Mutex::new(false) }) }
    }

    /// The podCIDRs in use.
    pub fn pod_cidrs(&self) -> Vec<IpNet> {
        self.inner.pod_cidrs.lock().clone()
    }

    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> node_api::Result<T> {
        let inner = Arc::clone(&self.inner);
        match rt::spawn_blocking(move || work(&inner)).await {
            Ok(answer) => answer.map_err(|e| node_api::Error::internal(what, e)),
            Err(e) => Err(node_api::Error::internal(what, e)),
        }
    }
}

impl Inner {
    /// The network in force; `None` while there is none.
    fn list(&self) -> Result<Option<NetworkList>> {
        if let Some(dir) = &self.config.conf_dir
            && let Some(list) = conf::scan(dir)?
        {
            return Ok(Some(list));
        }
        let cidrs = self.pod_cidrs.lock().clone();
        if !self.config.built_in || cidrs.is_empty() {
            return Ok(None);
        }
        self.built_in(&cidrs).map(Some)
    }

    fn bridged(&self) -> bool {
        match self.config.link {
            PodLink::Bridge => true,
            PodLink::PointToPoint => false,
            PodLink::Auto => sysctl::exists("net/bridge/bridge-nf-call-iptables"),
        }
    }

    /// The built-in network as a configuration list.
    fn built_in(&self, cidrs: &[IpNet]) -> Result<NetworkList> {
        let ranges: Vec<Value> = cidrs.iter().map(|net| json!([{ "subnet": net.trunc().to_string() }])).collect();
        let mut ipam = json!({ "type": "host-local", "ranges": ranges, "dataDir": self.config.state_dir.join("networks").display().to_string() });
        let first = if self.bridged() {
            json!({
                "type": "bridge", "bridge": self.config.bridge, "isGateway": true, "isDefaultGateway": true, "forceAddress": true,
                "hairpinMode": true, "ipMasq": self.config.masquerade, "mtu": self.config.mtu, "ipam": ipam,
            })
        } else {
            let default = |net: &IpNet| json!({ "dst": if net.addr().is_ipv4() { "0.0.0.0/0" } else { "::/0" } });
            ipam["routes"] = cidrs.iter().map(default).collect();
            json!({ "type": "ptp", "ipMasq": self.config.masquerade, "mtu": self.config.mtu, "ipam": ipam })
        };
        let list = json!({
            "cniVersion": crate::version::CURRENT,
            "name": self.config.name,
            "plugins": [
                first,
                { "type": "portmap", "capabilities": { "portMappings": true } },
                { "type": "bandwidth", "capabilities": { "bandwidth": true } },
            ],
        });
        NetworkList::parse(&list.to_string())
    }

    fn need_list(&self) -> Result<NetworkList> {
        self.list()?.ok_or_else(|| Error::new(crate::error::code::UNAVAILABLE, "cni config uninitialized"))
    }

    /// Once per process, before anything is attached: attachments whose namespace is gone (the machine was restarted,
    /// or the agent died half-way) give back what they hold. Namespaces still there belong to pods that live on.
    fn recover(&self, list: &NetworkList) {
        let mut done = self.recovered.lock();
        if std::mem::replace(&mut *done, true) {
            return;
        }
        let note = |what: &'static str, error: &Error| {
            tracing::warn!(what, error = error.chain(), "could not clean up after an earlier run")
        };
        let entries = match self.cni.cache.list(&list.name) {
            Ok(entries) => entries,
            Err(error) => return note("listing attachments", &error),
        };
        let (live, gone): (Vec<_>, Vec<_>) =
            entries.into_iter().partition(|e| sys::netlink::netns::is_namespace(&e.netns));
        for entry in gone {
            let stale = Attachment {
                container_id: entry.container_id,
                ifname: entry.if_name,
                args: entry.cni_args,
                ..Default::default()
            };
            if let Err(error) = self.cni.del(list, &stale) {
                note("detaching", &error);
            }
        }
        // A configured network's address files may be shared with another runtime; ours are not.
        if self.config.conf_dir.is_none() {
            let valid: Vec<_> = live.into_iter().map(|e| (e.container_id, e.if_name)).collect();
            if let Err(error) = self.cni.gc(list, &valid) {
                note("collecting", &error);
            }
        }
    }

    fn setup(&self, request: &NetworkRequest) -> Result<NetworkAttachment> {
        let list = self.need_list()?;
        self.recover(&list);
        loopback(request)?;
        let attachment = attachment(request)?;
        let result = match self.cni.add(&list, &attachment) {
            Ok(result) => result,
            Err(e) => {
                if let Err(undo) = self.cni.del(&list, &attachment) {
                    tracing::warn!(
                        sandbox = request.sandbox_id,
                        error = undo.chain(),
                        "could not undo a failed attachment"
                    );
                }
                return Err(e);
            }
        };
        let mine = result.interfaces.iter().position(|i| i.name == IFNAME && !i.sandbox.is_empty());
        let mut ips: Vec<IpAddr> = Vec::new();
        for ip in result.ips.iter().filter(|ip| ip.interface.is_none() || mine.is_none() || ip.interface == mine) {
            let address = ip.address.addr();
            if !ips.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
                ips.push(address);
            }
        }
        Ok(NetworkAttachment { ips })
    }

    fn teardown(&self, request: &NetworkRequest) -> Result<()> {
        // Without a configuration the built-in list still gives back what the cache knows.
        let list = match self.list()? {
            Some(list) => list,
            None if self.config.built_in => self.built_in(&[])?,
            None => return Ok(()),
        };
        self.cni.del(&list, &attachment(request)?)
    }

    fn set_pod_cidrs(&self, cidrs: &[String]) -> Result<()> {
        let parsed: Vec<IpNet> = cidrs
            .iter()
            .filter(|c| !c.is_empty())
            .map(|c| c.trim().parse().map_err(|_| Error::config(format!("invalid pod CIDR \"{c}\""))))
            .collect::<Result<_>>()?;
        if parsed.is_empty() || *self.pod_cidrs.lock() == parsed {
            return Ok(());
        }
        if self.bridged() {
            for key in ["net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables"] {
                if sysctl::exists(key) {
                    sysctl::set(key, "1").context(|| "showing bridged packets to nf_tables".into())?;
                }
            }
        }
        let path = self.config.state_dir.join("pod-cidrs");
        std::fs::create_dir_all(&self.config.state_dir).map_err(|e| Error::io(&self.config.state_dir, e))?;
        let text: String = parsed.iter().map(|c| format!("{c}\n")).collect();
        let partial = self.config.state_dir.join(".pod-cidrs");
        std::fs::write(&partial, text).map_err(|e| Error::io(&partial, e))?;
        std::fs::rename(&partial, &path).map_err(|e| Error::io(&path, e))?;
        *self.pod_cidrs.lock() = parsed;
        Ok(())
    }
}

fn loopback(request: &NetworkRequest) -> Result<()> {
    let plugin = plugins::find("loopback").ok_or_else(|| Error::config("loopback is not built in"))?;
    let invocation = Invocation {
        command: Command::Add,
        container_id: request.sandbox_id.clone(),
        netns: Some(request.netns.clone()),
        ifname: "lo".into(),
        args: String::new(),
        path: Vec::new(),
        built_in: true,
    };
    let mut body = Map::new();
    body.insert("cniVersion".into(), crate::version::CURRENT.into());
    plugins::call(plugin, &invocation, &Conf::new(body)?).map(drop)
}

fn attachment(request: &NetworkRequest) -> Result<Attachment> {
    let meta = &request.metadata;
    let pairs = [
        ("IgnoreUnknown", "1"),
        ("K8S_POD_NAMESPACE", meta.namespace.as_str()),
        ("K8S_POD_NAME", meta.name.as_str()),
        ("K8S_POD_INFRA_CONTAINER_ID", request.sandbox_id.as_str()),
        ("K8S_POD_UID", meta.uid.as_str()),
    ];
    Ok(Attachment {
        container_id: request.sandbox_id.clone(),
        netns: Some(request.netns.clone()).filter(|p| !p.as_os_str().is_empty()),
        ifname: IFNAME.to_owned(),
        args: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        capabilities: capabilities(request)?,
    })
}

fn capabilities(request: &NetworkRequest) -> Result<Map<String, Value>> {
    let mut out = Map::new();
    let ports: Vec<Value> = request
        .port_mappings
        .iter()
        .filter(|p| p.host_port != 0)
        .map(|p| {
            let protocol = match p.protocol {
                node_api::Protocol::Tcp => "tcp",
                node_api::Protocol::Udp => "udp",
                node_api::Protocol::Sctp => "sctp",
            };
            json!({ "hostPort": p.host_port, "containerPort": p.container_port, "protocol": protocol, "hostIP": p.host_ip })
        })
        .collect();
    if !ports.is_empty() {
        out.insert("portMappings".into(), ports.into());
    }
    let rate = |key: &str| request.annotations.get(key).map(|v| bits(v)).transpose();
    let (ingress, egress) = (rate("kubernetes.io/ingress-bandwidth")?, rate("kubernetes.io/egress-bandwidth")?);
    if ingress.is_some() || egress.is_some() {
        // The runtime's convention: bursts as large as 32 bits of bytes allow.
        const BURST: u64 = i32::MAX as u64;
        let mut limits = Map::new();
        for (name, rate) in [("ingress", ingress), ("egress", egress)] {
            if let Some(rate) = rate {
                limits.insert(format!("{name}Rate"), rate.into());
                limits.insert(format!("{name}Burst"), BURST.into());
            }
        }
        out.insert("bandwidth".into(), limits.into());
    }
    if let Some(dns) = &request.dns {
        out.insert("dns".into(), json!({ "servers": dns.servers, "searches": dns.searches, "options": dns.options }));
    }
    if !request.cgroup_parent.is_empty() {
        out.insert("cgroupPath".into(), request.cgroup_parent.clone().into());
    }
    Ok(out)
}

/// Bits per second from a quantity such as `10M` or `1Gi`; upstream allows 1k to 1P.
fn bits(text: &str) -> Result<u64> {
    let bad = || Error::config(format!("invalid bandwidth \"{text}\""));
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().map_err(|_| bad())?;
    let factor: u64 = match &text[split..] {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err(bad()),
    };
    number.checked_mul(factor).filter(|n| (1_000..=1_000_000_000_000_000).contains(n)).ok_or_else(bad)
}

#[async_trait]
impl NetworkService for Network {
    async fn setup(&self, request: &NetworkRequest) -> node_api::Result<NetworkAttachment> {
        let request = request.clone();
        self.blocking("attaching the pod to the network", move |inner| inner.setup(&request)).await
    }

    async fn teardown(&self, request: &NetworkRequest) -> node_api::Result<()> {
        let request = request.clone();
        self.blocking("detaching the pod from the network", move |inner| inner.teardown(&request)).await
    }

    async fn check(&self, request: &NetworkRequest) -> node_api::Result<()> {
        let request = request.clone();
        self.blocking("checking the pod's network", move |inner| {
            inner.cni.check(&inner.need_list()?, &attachment(&request)?)
        })
        .await
    }

    async fn ready(&self) -> node_api::Result<()> {
        let inner = Arc::clone(&self.inner);
        let answer = rt::spawn_blocking(move || inner.need_list().and_then(|list| inner.cni.status(&list))).await;
        match answer {
            Ok(Ok(())) => Ok(()),
            Ok(Err(e)) => {
                let context = format!("network plugin is not ready: {}", e.chain());
                Err(node_api::Error::Unavailable { context, source: None })
            }
            Err(e) => Err(node_api::Error::internal("asking the network", e)),
        }
    }

    async fn gc(&self, live: &[NetworkRequest]) -> node_api::Result<()> {
        let valid: Vec<(String, String)> = live.iter().map(|r| (r.sandbox_id.clone(), IFNAME.to_owned())).collect();
        self.blocking("collecting stale attachments", move |inner| match inner.list()? {
            Some(list) => inner.cni.gc(&list, &valid),
            None => Ok(()),
        })
        .await
    }

    async fn set_pod_cidrs(&self, cidrs: &[String]) -> node_api::Result<()> {
        let cidrs = cidrs.to_vec();
        self.blocking("setting the pod CIDRs", move |inner| inner.set_pod_cidrs(&cidrs)).await
    }
}

#[cfg(test)]
mod tests;
