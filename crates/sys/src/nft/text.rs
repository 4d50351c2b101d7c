//! nft text of rules and transactions, for tests, logs and people.

use super::*;
use std::fmt::{self, Display, Formatter, Write};

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
        }
    }
}

impl Display for Value {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(ip) => write!(f, "{ip}"),
            Self::Proto(proto) => f.write_str(proto.name()),
            Self::Port(port) => write!(f, "{port}"),
        }
    }
}

/// A key as nft writes it.
pub fn key(key: &[Value]) -> String {
    key.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

fn fields(fields: &[Field], family: Family) -> String {
    let ip = family.name();
    let one = |field: &Field| match field {
        Field::SourceAddr => format!("{ip} saddr"),
        Field::DestinationAddr => format!("{ip} daddr"),
        Field::L4Proto => "meta l4proto".to_owned(),
        Field::DestinationPort => "th dport".to_owned(),
    };
    fields.iter().map(one).collect::<Vec<_>>().join(" . ")
}

fn side(direction: Direction) -> &'static str {
    match direction {
        Direction::Source => "s",
        Direction::Destination => "d",
    }
}

fn not(op: Op) -> &'static str {
    if op == Op::IsNot { "!= " } else { "" }
}

fn states(bits: u32) -> String {
    let names = [
        (state::INVALID, "invalid"),
        (state::ESTABLISHED, "established"),
        (state::RELATED, "related"),
        (state::NEW, "new"),
    ];
    names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

fn target(addr: &SocketAddr) -> String {
    format!("{} . {}", addr.ip(), addr.port())
}

/// A prefix as nft prints it: a bare address when it is a whole one.
fn prefix(net: &ipnet::IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.trunc().to_string() }
}

use std::net::SocketAddr;

/// One statement as nft writes it.
pub fn stmt(stmt: &Stmt, family: Family) -> String {
    let ip = family.name();
    match stmt {
        Stmt::L4Proto(proto) => format!("meta l4proto {}", proto.name()),
        Stmt::Addr(d, op, net) => format!("{ip} {}addr {}{}", side(*d), not(*op), prefix(net)),
        Stmt::AddrInSet(d, op, set) => format!("{ip} {}addr {}@{set}", side(*d), not(*op)),
        Stmt::Port(d, op, port) => format!("th {}port {}{port}", side(*d), not(*op)),
        Stmt::InSet(f, op, set) => format!("{} {}@{set}", fields(f, family), not(*op)),
        Stmt::CtState(bits) => format!("ct state {}", states(*bits)),
        Stmt::CtDnat => "ct status dnat".to_owned(),
        Stmt::CtOriginalPort(port) => format!("ct original proto-dst {port}"),
        Stmt::FibLocal(d) => format!("fib {}addr type local", side(*d)),
        Stmt::Mark(bits) => format!("meta mark & {bits:#x} != 0"),
        Stmt::InLink(op, name) => format!("iifname {}\"{name}\"", not(*op)),
        Stmt::OutLink(op, name) => format!("oifname {}\"{name}\"", not(*op)),
        Stmt::SetMark(bits) => format!("meta mark set meta mark | {bits:#x}"),
        Stmt::ClearMark(bits) => format!("meta mark set meta mark ^ {bits:#x}"),
        Stmt::Vmap(f, map) => format!("{} vmap @{map}", fields(f, family)),
        Stmt::RandomVerdict(all) => {
            let list: Vec<_> = all.iter().enumerate().map(|(i, v)| format!("{i} : {v}")).collect();
            format!("numgen random mod {} vmap {{ {} }}", all.len(), list.join(", "))
        }
        Stmt::UpdateSet(d, set) => format!("update @{set} {{ {ip} {}addr }}", side(*d)),
        Stmt::Dnat(addr) => format!("dnat to {addr}"),
        Stmt::RandomDnat(all) => {
            let list: Vec<_> = all.iter().enumerate().map(|(i, a)| format!("{i} : {}", target(a))).collect();
            format!("dnat {ip} to numgen random mod {} map {{ {} }}", all.len(), list.join(", "))
        }
        Stmt::Masquerade { fully_random: true } => "masquerade fully-random".to_owned(),
        Stmt::Masquerade { fully_random: false } => "masquerade".to_owned(),
        Stmt::Snat(to) => format!("snat to {to}"),
        Stmt::Reject => "reject".to_owned(),
        Stmt::RejectTcpReset => "reject with tcp reset".to_owned(),
        Stmt::Counter => "counter".to_owned(),
        Stmt::Verdict(verdict) => verdict.to_string(),
    }
}

/// A rule as nft writes it, without its comment.
pub fn rule(rule: &Rule, family: Family) -> String {
    rule.stmts.iter().map(|s| stmt(s, family)).collect::<Vec<_>>().join(" ")
}

impl Display for Transaction {
    /// One command per line, as `nft -f` reads them (the table's name is left out after the first line's kind).
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for command in &self.commands {
            let line = line(command, self.family)?;
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}

fn line(command: &Command, family: Family) -> Result<String, fmt::Error> {
    Ok(match command {
        Command::AddTable { .. } => "add table".to_owned(),
        Command::DeleteTable => "delete table".to_owned(),
        Command::AddChain(Chain { name, base: None }) => format!("add chain {name}"),
        Command::AddChain(Chain { name, base: Some((kind, hook, priority)) }) => {
            format!("add chain {name} {{ type {kind:?} hook {hook:?} priority {priority} }}").to_lowercase()
        }
        Command::FlushChain(name) => format!("flush chain {name}"),
        Command::DeleteChain(name) => format!("delete chain {name}"),
        Command::AddRule { chain, rule: r } => format!("add rule {chain} {}", rule(r, family)),
        Command::InsertRule { chain, rule: r } => format!("insert rule {chain} {}", rule(r, family)),
        Command::DeleteRule { chain, handle } => format!("delete rule {chain} handle {handle}"),
        Command::AddSet(set) => {
            let key: Vec<_> = set.key.iter().map(|t| t.name(family)).collect();
            let kind = if set.verdicts { "map" } else { "set" };
            let mut text = format!("add {kind} {} {{ type {}", set.name, key.join(" . "));
            if set.verdicts {
                text.push_str(" : verdict");
            }
            if let Some(seconds) = set.timeout_seconds {
                write!(text, "; flags dynamic,timeout; timeout {seconds}s")?;
            }
            text + " }"
        }
        Command::DeleteSet(name) => format!("delete set {name}"),
        Command::FlushSet(name) => format!("flush set {name}"),
        Command::AddElements { set, elements } => {
            let one = |e: &Element| match &e.verdict {
                Some(verdict) => format!("{} : {verdict}", key(&e.key)),
                None => key(&e.key),
            };
            format!("add element {set} {{ {} }}", elements.iter().map(one).collect::<Vec<_>>().join(", "))
        }
        Command::DeleteElements { set, keys } => {
            format!("delete element {set} {{ {} }}", keys.iter().map(|k| key(k)).collect::<Vec<_>>().join(", "))
        }
    })
}
