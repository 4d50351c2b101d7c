//! nf_tables straight over netlink: tables, chains, sets, maps and rules as plain data, committed in one atomic
//! transaction.
//!
//! A rule is a list of [`Stmt`]s at the level of nft's own language: it prints as nft text (for tests, logs and
//! people) and is encoded to the kernel's expressions by `encode`. Only what Corten's rooms need is here; the
//! [`Apply`] seam lets a test record transactions instead. Tables are of family `ip` or `ip6`, never `inet`, so
//! that an address match needs no family test.

mod conn;
mod encode;
mod expr;
mod stmt;
mod text;

pub use conn::{Connection, Error};
pub use stmt::{Direction, Field, Op, Proto, Stmt, Verdict, state};

use std::net::IpAddr;

/// Address family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    /// Both, the order in which rooms loop over them.
    pub const BOTH: [Self; 2] = [Self::Ip, Self::Ip6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::Ip } else { Self::Ip6 }
    }

    /// `NFPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    /// nft's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// Where a base chain is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// On arrival.
    Prerouting,
    /// For this host.
    Input,
    /// Passing through.
    Forward,
    /// From this host.
    Output,
    /// On departure.
    Postrouting,
}

/// A base chain's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// `filter`.
    Filter,
    /// `nat`: sees the first packet of a connection.
    Nat,
}

/// A chain; with `base` it is called by the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Name.
    pub name: String,
    /// Type, hook and priority.
    pub base: Option<(ChainKind, Hook, i32)>,
}

/// Type of a set's key field or of a map's data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// An address of the table's family.
    Addr,
    /// An IP protocol number.
    Proto,
    /// A port.
    Port,
    /// A number in host order (for `numgen`).
    Integer,
}

impl DataType {
    fn id(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Addr, Family::Ip) => 7,
            (Self::Addr, Family::Ip6) => 8,
            (Self::Proto, _) => 12,
            (Self::Port, _) => 13,
            (Self::Integer, _) => 4,
        }
    }

    fn len(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Addr, Family::Ip) | (Self::Integer, _) => 4,
            (Self::Addr, Family::Ip6) => 16,
            (Self::Proto, _) => 1,
            (Self::Port, _) => 2,
        }
    }

    /// nft's word for it.
    pub fn name(self, family: Family) -> &'static str {
        match (self, family) {
            (Self::Addr, Family::Ip) => "ipv4_addr",
            (Self::Addr, Family::Ip6) => "ipv6_addr",
            (Self::Proto, _) => "inet_proto",
            (Self::Port, _) => "inet_service",
            (Self::Integer, _) => "integer",
        }
    }
}

/// A named set or verdict map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Name.
    pub name: String,
    /// Key fields; several are a concatenation.
    pub key: Vec<DataType>,
    /// A map from keys to verdicts rather than a set.
    pub verdicts: bool,
    /// Rules add elements, which expire after this many seconds.
    pub timeout_seconds: Option<u32>,
    /// Shown by `nft list`.
    pub comment: String,
}

/// One field's value of an element's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// An address.
    Addr(IpAddr),
    /// A protocol.
    Proto(Proto),
    /// A port.
    Port(u16),
}

/// An element's key.
pub type Key = Vec<Value>;

/// An element of a set, or of a verdict map with `verdict`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// The key.
    pub key: Key,
    /// Where the map leads.
    pub verdict: Option<Verdict>,
    /// Shown by `nft list`.
    pub comment: String,
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rule {
    /// In order; a match that fails ends the rule.
    pub stmts: Vec<Stmt>,
    /// Shown by `nft list`.
    pub comment: String,
}

impl Rule {
    /// A rule without a comment.
    pub fn new(stmts: impl IntoIterator<Item = Stmt>) -> Self {
        Self { stmts: stmts.into_iter().collect(), comment: String::new() }
    }

    /// With a comment, which the kernel keeps to 250 bytes.
    pub fn comment(mut self, comment: impl Into<String>) -> Self {
        self.comment = comment.into();
        self
    }
}

/// One change. Adding is idempotent for tables, chains, sets and elements; deleting is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Creates the table if it is not there.
    AddTable {
        /// Shown by `nft list`.
        comment: String,
    },
    /// Deletes the table and everything in it.
    DeleteTable,
    /// Creates a chain if it is not there.
    AddChain(Chain),
    /// Removes a chain's rules.
    FlushChain(String),
    /// Deletes an empty chain that nothing refers to.
    DeleteChain(String),
    /// Appends a rule.
    AddRule {
        /// To this chain.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Puts a rule before all others of a chain.
    InsertRule {
        /// Into this chain.
        chain: String,
        /// The rule.
        rule: Rule,
    },
    /// Deletes a rule by its handle, see [`Connection::rules`].
    DeleteRule {
        /// From this chain.
        chain: String,
        /// Its handle.
        handle: u64,
    },
    /// Creates a set or map if it is not there.
    AddSet(Set),
    /// Deletes a set that nothing refers to.
    DeleteSet(String),
    /// Removes all elements.
    FlushSet(String),
    /// Adds elements.
    AddElements {
        /// To this set.
        set: String,
        /// The elements.
        elements: Vec<Element>,
    },
    /// Deletes elements by their keys.
    DeleteElements {
        /// From this set.
        set: String,
        /// The keys.
        keys: Vec<Key>,
    },
}

/// Changes to one table, taken by the kernel all together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    /// Address family of the table.
    pub family: Family,
    /// The table.
    pub table: String,
    /// The changes, in order.
    pub commands: Vec<Command>,
}

impl Transaction {
    /// An empty transaction on a table.
    pub fn new(family: Family, table: impl Into<String>) -> Self {
        Self { family, table: table.into(), commands: Vec::new() }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Appends a change.
    pub fn push(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// Appends a rule.
    pub fn rule(&mut self, chain: impl Into<String>, rule: Rule) {
        self.push(Command::AddRule { chain: chain.into(), rule });
    }

    /// Removes the table if it is there, and makes it anew and empty: atomically with what follows.
    pub fn recreate_table(&mut self, comment: impl Into<String>) {
        let comment = comment.into();
        self.push(Command::AddTable { comment: comment.clone() });
        self.push(Command::DeleteTable);
        self.push(Command::AddTable { comment });
    }

    /// Removes the table whether it is there or not.
    pub fn remove_table(&mut self) {
        self.push(Command::AddTable { comment: String::new() });
        self.push(Command::DeleteTable);
    }
}

/// Whatever takes transactions: the kernel, or a test's record.
pub trait Apply: Send {
    /// Commits atomically.
    ///
    /// # Errors
    /// When the change was refused; nothing of it has happened then.
    fn apply(&mut self, transaction: &Transaction) -> Result<(), Error>;
}

#[cfg(test)]
mod tests;
