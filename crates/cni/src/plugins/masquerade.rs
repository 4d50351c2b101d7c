//! `ipMasq`: what attached containers send out of their subnet leaves with the host's address.
//!
//! Table `cni_masquerade` per family: a map from container addresses to the chain of their network, so that an
//! attachment is one element and a network one chain.

use crate::error::{Context, Result};
use ipnet::IpNet;
use sha2::{Digest, Sha256};
use std::net::{Ipv4Addr, Ipv6Addr};
use sys::nft::{
    Apply, Chain, ChainKind, Command, Connection, DataType, Direction, Element, Family, Field, Hook, Op, Rule, Set,
    Stmt, Transaction, Value, Verdict,
};

const TABLE: &str = "cni_masquerade";
const MAP: &str = "containers";

fn chain(network: &str, subnets: &[IpNet]) -> String {
    let digest = Sha256::digest(format!("{network} {subnets:?}"));
    format!("net-{}", digest[..6].iter().map(|b| format!("{b:02x}")).collect::<String>())
}

fn multicast(family: Family) -> IpNet {
    match family {
        Family::Ip => IpNet::new_assert(Ipv4Addr::new(224, 0, 0, 0).into(), 4),
        Family::Ip6 => IpNet::new_assert(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
    }
}

fn transaction(family: Family, network: &str, ips: &[IpNet], comment: &str) -> Transaction {
    let subnets: Vec<IpNet> = ips.iter().map(IpNet::trunc).collect();
    let name = chain(network, &subnets);
    let mut t = Transaction::new(family, TABLE);
    t.push(Command::AddTable { comment: "masquerading by CNI plugins".into() });
    t.push(Command::AddSet(Set {
        name: MAP.into(),
        key: vec![DataType::Addr],
        verdicts: true,
        timeout_seconds: None,
        comment: String::new(),
    }));
    t.push(Command::AddChain(Chain {
        name: "postrouting".into(),
        base: Some((ChainKind::Nat, Hook::Postrouting, 100)),
    }));
    t.push(Command::AddChain(Chain { name: name.clone(), base: None }));
    t.push(Command::FlushChain("postrouting".into()));
    t.rule("postrouting", Rule::new([Stmt::Vmap(vec![Field::SourceAddr], MAP.into())]));
    t.push(Command::FlushChain(name.clone()));
    for subnet in subnets.iter().copied().chain([multicast(family)]) {
        t.rule(&name, Rule::new([Stmt::Addr(Direction::Destination, Op::Is, subnet), Stmt::back()]).comment(network));
    }
    t.rule(&name, Rule::new([Stmt::Masquerade { fully_random: true }]).comment(network));
    let elements = ips
        .iter()
        .map(|ip| Element {
            key: vec![Value::Addr(ip.addr())],
            verdict: Some(Verdict::Goto(name.clone())),
            comment: comment.to_owned(),
        })
        .collect();
    t.push(Command::AddElements { set: MAP.into(), elements });
    t
}

/// Masquerades an attachment's addresses.
pub fn add(network: &str, ips: &[IpNet], comment: &str) -> Result<()> {
    let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
    for family in Family::BOTH {
        let own: Vec<IpNet> = ips.iter().copied().filter(|ip| Family::of(ip.addr()) == family).collect();
        if !own.is_empty() {
            // An address that an interrupted DEL left points to another chain perhaps: the element would clash.
            remove(&own)?;
            nft.apply(&transaction(family, network, &own, comment)).context(|| "setting up masquerading".into())?;
        }
    }
    Ok(())
}

/// Forgets an attachment's addresses; absent is fine.
pub fn remove(ips: &[IpNet]) -> Result<()> {
    let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
    for ip in ips {
        let mut t = Transaction::new(Family::of(ip.addr()), TABLE);
        t.push(Command::DeleteElements { set: MAP.into(), keys: vec![vec![Value::Addr(ip.addr())]] });
        match nft.apply(&t) {
            Err(e) if !e.is_not_found() => return Err(crate::Error::internal("removing masquerading", e)),
            _ => {}
        }
    }
    Ok(())
}
