//! `portmap`: host ports, in nf_tables.
//!
//! Table `cni_hostport` per family. Two verdict maps lead from a host port (with or without a host address) to the
//! chain of the container that has it; that chain marks what must be masqueraded and translates the destination.

use super::{Conf, Invocation, Plugin};
use crate::error::{Context, Error, Result, code};
use crate::result::CniResult;
use ipnet::IpNet;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use sys::netlink::sysctl;
use sys::nft::{
    Apply, Chain, ChainKind, Command, Connection, DataType, Direction, Element, Family, Field, Hook, Key, Op, Proto,
    Rule, Set, Stmt, Transaction, Value, Verdict,
};

/// The plugin.
pub struct Portmap;

const TABLE: &str = "cni_hostport";
const PORTS: &str = "hostports";
const IP_PORTS: &str = "hostip-hostports";

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    protocol: String,
    #[serde(default, rename = "hostIP")]
    host_ip: String,
}

#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct NetConf {
    backend: String,
    snat: bool,
    masq_all: bool,
    mark_masq_bit: u32,
    conditions_v4: Option<Vec<String>>,
    conditions_v6: Option<Vec<String>>,
    external_set_mark_chain: Option<String>,
}

impl Default for NetConf {
    fn default() -> Self {
        Self {
            backend: String::new(),
            snat: true,
            masq_all: false,
            mark_masq_bit: 13,
            conditions_v4: None,
            conditions_v6: None,
            external_set_mark_chain: None,
        }
    }
}

/// A mapping with its words understood.
#[derive(Debug, Clone, Copy)]
struct Port {
    host: u16,
    container: u16,
    proto: Proto,
    /// `None` for any address.
    host_ip: Option<IpAddr>,
}

fn load(conf: &Conf) -> Result<(NetConf, Vec<Port>)> {
    let own: NetConf = conf.parse()?;
    let unsupported =
        |what: &str| Err(Error::new(code::UNSUPPORTED_FIELD, format!("portmap: {what} is not supported")));
    if !matches!(own.backend.as_str(), "" | "nftables") {
        return unsupported(&format!("backend {}", own.backend));
    }
    if own.conditions_v4.is_some() || own.conditions_v6.is_some() {
        return unsupported("conditions");
    }
    if own.external_set_mark_chain.is_some() {
        return unsupported("externalSetMarkChain");
    }
    if own.mark_masq_bit > 31 {
        return Err(Error::config("MasqMarkBit must be between 0 and 31"));
    }
    let mappings: Vec<Mapping> = conf.capability("portMappings")?.unwrap_or_default();
    let ports = mappings.iter().filter(|m| m.host_port != 0).map(Port::parse).collect::<Result<_>>()?;
    Ok((own, ports))
}

impl Port {
    fn parse(m: &Mapping) -> Result<Self> {
        let proto = match m.protocol.to_lowercase().as_str() {
            "" | "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            "sctp" => Proto::Sctp,
            other => return Err(Error::config(format!("unknown protocol {other}"))),
        };
        if m.container_port == 0 {
            return Err(Error::config("Invalid container port number: 0"));
        }
        let host_ip: Option<IpAddr> = match m.host_ip.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::config(format!("invalid hostIP \"{text}\"")))?),
        };
        Ok(Self {
            host: m.host_port,
            container: m.container_port,
            proto,
            host_ip: host_ip.filter(|ip| !ip.is_unspecified()),
        })
    }

    /// The map and the key for one family; `None` where the host address is of the other family.
    fn key(&self, family: Family) -> Option<(&'static str, Key)> {
        let tail = [Value::Proto(self.proto), Value::Port(self.host)];
        match self.host_ip {
            None => Some((PORTS, tail.to_vec())),
            Some(ip) if Family::of(ip) == family => {
                Some((IP_PORTS, [Value::Addr(ip)].into_iter().chain(tail).collect()))
            }
            Some(_) => None,
        }
    }
}

fn chain_name(network: &str, id: &str, ifname: &str) -> String {
    let digest = Sha256::digest(format!("{network}/{id}/{ifname}"));
    format!("hp-{}", digest[..8].iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn add_element(set: &str, key: Key, verdict: Verdict, comment: &str) -> Command {
    Command::AddElements {
        set: set.into(),
        elements: vec![Element { key, verdict: Some(verdict), comment: comment.into() }],
    }
}

/// Table, maps and base chains; idempotent.
fn frame(family: Family, mark: u32) -> Transaction {
    let mut t = Transaction::new(family, TABLE);
    t.push(Command::AddTable { comment: "host ports of CNI plugins".into() });
    let tail = [DataType::Proto, DataType::Port];
    let with_ip = [DataType::Addr, DataType::Proto, DataType::Port];
    for (name, key) in [(PORTS, tail.to_vec()), (IP_PORTS, with_ip.to_vec())] {
        t.push(Command::AddSet(Set {
            name: name.into(),
            key,
            verdicts: true,
            timeout_seconds: None,
            comment: String::new(),
        }));
    }
    for (name, hook, priority) in [
        ("prerouting", Hook::Prerouting, -100),
        ("output", Hook::Output, -100),
        ("postrouting", Hook::Postrouting, 100),
    ] {
        t.push(Command::AddChain(Chain { name: name.into(), base: Some((ChainKind::Nat, hook, priority)) }));
        t.push(Command::FlushChain(name.into()));
    }
    let tail = vec![Field::L4Proto, Field::DestinationPort];
    let with_ip = vec![Field::DestinationAddr, Field::L4Proto, Field::DestinationPort];
    for name in ["prerouting", "output"] {
        t.rule(name, Rule::new([Stmt::Vmap(with_ip.clone(), IP_PORTS.into())]));
        t.rule(name, Rule::new([Stmt::FibLocal(Direction::Destination), Stmt::Vmap(tail.clone(), PORTS.into())]));
    }
    t.rule(
        "postrouting",
        Rule::new([Stmt::Mark(mark), Stmt::ClearMark(mark), Stmt::Masquerade { fully_random: true }]),
    );
    t
}

/// The container's chain and its elements.
fn container(t: &mut Transaction, own: &NetConf, ports: &[Port], address: IpNet, chain: &str, comment: &str) {
    let family = t.family;
    let mark = 1 << own.mark_masq_bit;
    t.push(Command::AddChain(Chain { name: chain.into(), base: None }));
    t.push(Command::FlushChain(chain.into()));
    if own.masq_all {
        t.rule(chain, Rule::new([Stmt::SetMark(mark)]));
    } else if own.snat {
        // From its own subnet (itself included) the answer would not come back through us; from loopback neither.
        t.rule(chain, Rule::new([Stmt::Addr(Direction::Source, Op::Is, address.trunc()), Stmt::SetMark(mark)]));
        if family == Family::Ip {
            let loopback = IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8);
            t.rule(chain, Rule::new([Stmt::Addr(Direction::Source, Op::Is, loopback), Stmt::SetMark(mark)]));
        }
    }
    for port in ports {
        let Some((map, key)) = port.key(family) else { continue };
        let mut stmts = Vec::new();
        if let Some(ip) = port.host_ip {
            stmts.push(Stmt::Addr(Direction::Destination, Op::Is, IpNet::from(ip)));
        }
        stmts.extend([
            Stmt::L4Proto(port.proto),
            Stmt::Port(Direction::Destination, Op::Is, port.host),
            Stmt::Dnat(SocketAddr::new(address.addr(), port.container)),
        ]);
        t.rule(chain, Rule::new(stmts).comment(comment));
        t.push(add_element(map, key, Verdict::Goto(chain.into()), comment));
    }
}

/// Removes a container's elements and chain; what is not there is skipped.
fn remove(nft: &mut Connection, ports: &[Port], chain: &str) -> Result<()> {
    let tolerant = |answer: std::result::Result<(), sys::nft::Error>| match answer {
        Err(e) if !e.is_not_found() && !e.is_busy() => Err(Error::internal("removing host ports", e)),
        _ => Ok(()),
    };
    for family in Family::BOTH {
        if !nft.chains(family, TABLE).context(|| "listing chains".into())?.iter().any(|c| c == chain) {
            continue;
        }
        for (map, key) in ports.iter().filter_map(|p| p.key(family)) {
            let mut t = Transaction::new(family, TABLE);
            t.push(Command::DeleteElements { set: map.into(), keys: vec![key] });
            tolerant(nft.apply(&t))?;
        }
        // Emptied and deleted apart: kernels before 6.2 still count the maps' references for a moment.
        for command in [Command::FlushChain(chain.into()), Command::DeleteChain(chain.into())] {
            let mut t = Transaction::new(family, TABLE);
            t.push(command);
            tolerant(nft.apply(&t))?;
        }
    }
    Ok(())
}

/// Flows to a UDP host port that were made before the port was mapped (or to its last owner) would stay untranslated.
fn clear_udp(ports: &[Port], family: Family) -> Result<()> {
    let udp: Vec<u16> = ports.iter().filter(|p| p.proto == Proto::Udp).map(|p| p.host).collect();
    if udp.is_empty() {
        return Ok(());
    }
    let mut table = sys::netlink::conntrack::Conntrack::open().context(|| "opening conntrack".into())?;
    let stale =
        table.flows(family == Family::Ip6, |f| f.original.protocol == 17 && udp.contains(&f.original.destination_port));
    for flow in stale.context(|| "listing flows".into())? {
        table.delete(&flow).context(|| "deleting a stale flow".into())?;
    }
    Ok(())
}

impl Plugin for Portmap {
    fn name(&self) -> &'static str {
        "portmap"
    }

    fn add(&self, invocation: &Invocation, conf: &Conf) -> Result<CniResult> {
        let (own, ports) = load(conf)?;
        let result = conf.need_previous()?;
        if ports.is_empty() {
            return Ok(result);
        }
        let chain = chain_name(&conf.name, &invocation.container_id, &invocation.ifname);
        let comment = format!("{}/{}", conf.name, invocation.container_id);
        let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
        for family in Family::BOTH {
            let Some(ip) = result.ips.iter().find(|i| Family::of(i.address.addr()) == family) else { continue };
            let mut t = frame(family, 1 << own.mark_masq_bit);
            container(&mut t, &own, &ports, ip.address, &chain, &comment);
            if let Err(e) = nft.apply(&t) {
                remove(&mut nft, &ports, &chain)?;
                return Err(Error::internal("mapping host ports", e));
            }
            if family == Family::Ip && own.snat {
                // Without it the kernel drops what loopback sends to the container. The last host interface leads there.
                sysctl::set("net/ipv4/conf/all/route_localnet", "1")
                    .context(|| "unable to set route_localnet".into())?;
            }
            clear_udp(&ports, family)?;
        }
        Ok(result)
    }

    fn del(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let (_, ports) = load(conf)?;
        let chain = chain_name(&conf.name, &invocation.container_id, &invocation.ifname);
        let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
        remove(&mut nft, &ports, &chain)
    }

    fn check(&self, invocation: &Invocation, conf: &Conf) -> Result<()> {
        let (_, ports) = load(conf)?;
        if ports.is_empty() {
            return Ok(());
        }
        let previous = conf.need_previous()?;
        let chain = chain_name(&conf.name, &invocation.container_id, &invocation.ifname);
        let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
        for family in Family::BOTH {
            let wanted = previous.ips.iter().any(|i| Family::of(i.address.addr()) == family);
            if wanted && !nft.chains(family, TABLE).context(|| "listing chains".into())?.contains(&chain) {
                return Err(Error::config(format!("host port chain {chain} is missing")));
            }
        }
        Ok(())
    }
}
