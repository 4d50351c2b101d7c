//! Hosts whose firewall drops what passes through (Docker sets iptables' FORWARD policy so, and with `br_netfilter` even
//! bridged frames meet it): the cluster's bridge is let through, by rules that can be told from others and removed.
//!
//! Only iptables kept in nf_tables is served, the default of current distributions.

use crate::error::{Context, Result};
use sys::nft::{Apply, Command, Connection, Family, Op, Rule, Stmt, Transaction};

const TABLE: &str = "filter";
const CHAIN: &str = "FORWARD";

fn comment(bridge: &str) -> String {
    format!("corten {bridge}")
}

/// Lets the bridge's traffic through where such a chain is; once.
pub fn allow(bridge: &str) -> Result<()> {
    let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
    for family in Family::BOTH {
        let there = nft.chains(family, TABLE).context(|| "listing chains".into())?.iter().any(|c| c == CHAIN);
        let rules = nft.rules(family, TABLE, CHAIN).context(|| "listing rules".into())?;
        if !there || rules.iter().any(|(_, c)| *c == comment(bridge)) {
            continue;
        }
        let mut t = Transaction::new(family, TABLE);
        for link in [Stmt::InLink(Op::Is, bridge.to_owned()), Stmt::OutLink(Op::Is, bridge.to_owned())] {
            let rule = Rule::new([link, Stmt::Counter, Stmt::accept()]).comment(comment(bridge));
            t.push(Command::InsertRule { chain: CHAIN.into(), rule });
        }
        nft.apply(&t).context(|| "letting the cluster's traffic through the host's firewall".into())?;
    }
    Ok(())
}

/// Removes the rules of [`allow`]; absent is fine.
pub fn forget(bridge: &str) -> Result<()> {
    let mut nft = Connection::open().context(|| "opening nf_tables".into())?;
    for family in Family::BOTH {
        let mut t = Transaction::new(family, TABLE);
        let rules = nft.rules(family, TABLE, CHAIN).context(|| "listing rules".into())?;
        for (handle, _) in rules.into_iter().filter(|(_, c)| *c == comment(bridge)) {
            t.push(Command::DeleteRule { chain: CHAIN.into(), handle });
        }
        nft.apply(&t).context(|| "removing rules from the host's firewall".into())?;
    }
    Ok(())
}
