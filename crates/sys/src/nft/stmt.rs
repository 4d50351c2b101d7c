//! The statements of a rule.

use super::Family;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Transport protocols that Services know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Proto {
    /// IP protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// nft's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// Source or destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Source.
    Source,
    /// Destination.
    Destination,
}

/// Equal or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// Equal, or in the set.
    Is,
    /// Not equal, or not in the set.
    IsNot,
}

/// A packet's field in a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Source address.
    SourceAddr,
    /// Destination address.
    DestinationAddr,
    /// Transport protocol.
    L4Proto,
    /// Destination port.
    DestinationPort,
}

/// Where to go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Let it pass.
    Accept,
    /// Drop it.
    Drop,
    /// Back to the caller.
    Return,
    /// Into a chain and back.
    Jump(String),
    /// Into a chain for good.
    Goto(String),
}

/// Connection states as bits.
pub mod state {
    /// Belongs to no connection.
    pub const INVALID: u32 = 1;
    /// Seen in both directions.
    pub const ESTABLISHED: u32 = 2;
    /// Belongs to another connection.
    pub const RELATED: u32 = 4;
    /// First packet.
    pub const NEW: u32 = 8;
}

/// A match or an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stmt {
    /// The transport protocol is this one.
    L4Proto(Proto),
    /// An address is (not) in a prefix.
    Addr(Direction, Op, IpNet),
    /// An address is (not) in a set.
    AddrInSet(Direction, Op, String),
    /// A port is (not) this one.
    Port(Direction, Op, u16),
    /// A concatenation is (not) in a set.
    InSet(Vec<Field>, Op, String),
    /// The connection's state is one of these bits.
    CtState(u32),
    /// The connection was DNATed.
    CtDnat,
    /// The connection's original destination port.
    CtOriginalPort(u16),
    /// The address is one of this host's.
    FibLocal(Direction),
    /// All these mark bits are set.
    Mark(u32),
    /// The incoming link's name; a trailing `*` matches a prefix.
    InLink(Op, String),
    /// The outgoing link's name; a trailing `*` matches a prefix.
    OutLink(Op, String),
    /// Sets mark bits.
    SetMark(u32),
    /// Clears mark bits that are known to be set.
    ClearMark(u32),
    /// Looks a concatenation up in a verdict map.
    Vmap(Vec<Field>, String),
    /// Takes one of the verdicts at random.
    RandomVerdict(Vec<Verdict>),
    /// Adds or refreshes the address in a set with a timeout.
    UpdateSet(Direction, String),
    /// Sends the connection to this destination.
    Dnat(SocketAddr),
    /// Sends the connection to one of these destinations at random.
    RandomDnat(Vec<SocketAddr>),
    /// Takes this host's address as the source.
    Masquerade {
        /// Random source ports.
        fully_random: bool,
    },
    /// Takes this source address.
    Snat(IpAddr),
    /// Answers "port unreachable".
    Reject,
    /// Answers with a TCP reset.
    RejectTcpReset,
    /// Counts.
    Counter,
    /// Decides.
    Verdict(Verdict),
}

impl Stmt {
    /// `jump chain`.
    pub fn jump(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Jump(chain.into()))
    }

    /// `goto chain`.
    pub fn goto(chain: impl Into<String>) -> Self {
        Self::Verdict(Verdict::Goto(chain.into()))
    }

    /// `drop`.
    pub fn drop() -> Self {
        Self::Verdict(Verdict::Drop)
    }

    /// `return`.
    pub fn back() -> Self {
        Self::Verdict(Verdict::Return)
    }

    /// `accept`.
    pub fn accept() -> Self {
        Self::Verdict(Verdict::Accept)
    }
}

impl Field {
    /// Registers of four bytes that the field takes in a concatenation.
    pub(crate) fn words(self, family: Family) -> u32 {
        match (self, family) {
            (Self::SourceAddr | Self::DestinationAddr, Family::Ip6) => 4,
            _ => 1,
        }
    }
}
