//! The connection to the kernel's nf_tables.

use super::encode::encode;
use super::{Apply, Family, Transaction};
use crate::netlink::msg::{Attrs, Msg, text};
use crate::netlink::{self, NetNs, Protocol, Socket};
use std::io;

const SUBSYS: u16 = 10 << 8;
const GETTABLE: u16 = SUBSYS | 1;
const GETCHAIN: u16 = SUBSYS | 4;
const GETRULE: u16 = SUBSYS | 7;
const GETSETELEM: u16 = SUBSYS | 13;

/// Why nf_tables refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed.
    #[error("nf_tables")]
    Netlink(#[from] netlink::Error),
    /// The kernel refused a command, and so the whole transaction.
    #[error("nf_tables refused `{command}`{}", if .message.is_empty() { String::new() } else { format!(" ({message})") })]
    Refused {
        /// The first refused command as text.
        command: String,
        /// The kernel's extended message.
        message: String,
        /// The errno.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Whether something named in the transaction was not there.
    pub fn is_not_found(&self) -> bool {
        match self {
            Self::Netlink(e) => e.is_not_found(),
            Self::Refused { source, .. } => source.raw_os_error() == Some(libc::ENOENT),
        }
    }

    /// Whether something to delete is still referred to.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Refused { source, .. } if source.raw_os_error() == Some(libc::EBUSY))
    }
}

/// nf_tables of one network namespace.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
}

impl Connection {
    /// Opens it in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel has no nfnetlink.
    pub fn open() -> Result<Self, Error> {
        Ok(Self { socket: Socket::open(Protocol::Netfilter)? })
    }

    /// Opens it in `ns`.
    ///
    /// # Errors
    /// As [`Connection::open`], and when the namespace cannot be entered.
    pub fn open_in(ns: &NetNs) -> Result<Self, Error> {
        Ok(Self { socket: Socket::open_in(ns, Protocol::Netfilter)? })
    }

    fn dump<T>(
        &mut self,
        op: &'static str,
        kind: u16,
        family: Family,
        fill: impl FnOnce(&mut Msg),
        read: impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<Vec<T>, Error> {
        let mut msg = Msg::new(kind, 0).raw(&[family.number(), 0, 0, 0]);
        fill(&mut msg);
        let mut read = read;
        match self.socket.dump(op, msg, |reply| reply.body.get(4..).and_then(&mut read)) {
            Err(e) if e.is_not_found() => Ok(Vec::new()),
            other => Ok(other?),
        }
    }

    /// Names of the family's tables.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn tables(&mut self, family: Family) -> Result<Vec<String>, Error> {
        self.dump("list tables", GETTABLE, family, |_| (), |body| Attrs(body).find(1).map(text))
    }

    /// Names of a table's chains; none when there is no such table.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn chains(&mut self, family: Family, table: &str) -> Result<Vec<String>, Error> {
        self.dump(
            "list chains",
            GETCHAIN,
            family,
            |_| (),
            |body| {
                let attrs = Attrs(body);
                (attrs.clone().find(1).map(text).as_deref() == Some(table)).then(|| attrs.find(3).map(text)).flatten()
            },
        )
    }

    /// Handles and comments of a chain's rules, in order; none when there is no such chain.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn rules(&mut self, family: Family, table: &str, chain: &str) -> Result<Vec<(u64, String)>, Error> {
        let names = |m: &mut Msg| {
            m.str(1, table);
            m.str(2, chain);
        };
        self.dump("list rules", GETRULE, family, names, |body| {
            let attrs = Attrs(body);
            // Old kernels do not filter by chain.
            (attrs.clone().find(1).map(text).as_deref() == Some(table)
                && attrs.clone().find(2).map(text).as_deref() == Some(chain))
            .then_some(())?;
            let handle = u64::from_be_bytes(attrs.clone().find(3)?.try_into().ok()?);
            // User data: type 0 is the comment, its length, its bytes.
            let comment = attrs.find(7).filter(|d| d.first() == Some(&0)).map(|d| text(d.get(2..).unwrap_or(&[])));
            Some((handle, comment.unwrap_or_default()))
        })
    }

    /// Raw keys of a set's elements; none when there is no such set.
    ///
    /// # Errors
    /// When the kernel refuses the dump.
    pub fn element_keys(&mut self, family: Family, table: &str, set: &str) -> Result<Vec<Vec<u8>>, Error> {
        let parts = self.dump(
            "list elements",
            GETSETELEM,
            family,
            |m| {
                m.str(1, table);
                m.str(2, set);
            },
            |body| {
                let list = Attrs(body).find(3)?;
                Some(
                    Attrs(list)
                        .filter_map(|(_, e)| Attrs(Attrs(e).find(1)?).find(1).map(<[u8]>::to_vec))
                        .collect::<Vec<_>>(),
                )
            },
        )?;
        Ok(parts.into_iter().flatten().collect())
    }
}

impl Apply for Connection {
    fn apply(&mut self, transaction: &Transaction) -> Result<(), Error> {
        if transaction.is_empty() {
            return Ok(());
        }
        let (bytes, origin) = encode(transaction);
        let Some(refused) = self.socket.send_batch(&bytes)?.into_iter().next() else { return Ok(()) };
        let command = (refused.seq as usize)
            .checked_sub(1)
            .and_then(|i| origin.get(i))
            .and_then(|i| transaction.commands.get(*i));
        let one = Transaction {
            family: transaction.family,
            table: transaction.table.clone(),
            commands: command.cloned().into_iter().collect(),
        };
        let mut words = one.to_string().trim_end().to_owned();
        if words.len() > 400 {
            let cut = (0..=400).rev().find(|i| words.is_char_boundary(*i)).unwrap_or(0);
            words.truncate(cut);
        }
        Err(Error::Refused { command: words, message: refused.message, source: refused.source })
    }
}
