//! Netlink without a runtime: links, addresses, routes, neighbours, rules, conntrack and sysctls.
//!
//! A [`Socket`] is synchronous and belongs to the network namespace in which it was opened, whatever
//! thread uses it later; [`Socket::open_in`] opens one inside another namespace through a short-lived
//! thread, so that no thread of the process ever stays in a foreign namespace. Requests answer in tens
//! of microseconds, hence no async here.
#![allow(unsafe_code)]

mod addr;
pub mod conntrack;
mod link;
pub mod msg;
mod neigh;
pub mod netns;
mod route;
mod rule;
pub mod sysctl;
pub mod tc;

pub use addr::Address;
pub use link::{Link, LinkKind, NewLink, PortOptions, VethPeer, VxlanOptions};
pub use neigh::Neighbour;
pub use netns::NetNs;
pub use route::{NextHop, Route, RouteScope, RouteType};
pub use rule::Rule;

use msg::{Attrs, HEADER_LEN, Msg, align, num, text};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

pub(crate) const NLM_F_REQUEST: u16 = 1;
pub(crate) const NLM_F_ACK: u16 = 4;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
pub(crate) const NLM_F_REPLACE: u16 = 0x100;
pub(crate) const NLM_F_EXCL: u16 = 0x200;
pub(crate) const NLM_F_CREATE: u16 = 0x400;
pub(crate) const NLM_F_APPEND: u16 = 0x800;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSGERR_ATTR_MSG: u16 = 1;
const SOL_NETLINK: libc::c_int = 270;
const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself failed.
    #[error("netlink: {op}")]
    Socket {
        /// What was tried.
        op: &'static str,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel refused the request.
    #[error("{op}{}", detail(.message))]
    Refused {
        /// What was asked for, for example `add link cni0`.
        op: String,
        /// The kernel's extended message, often empty.
        message: String,
        /// The errno.
        #[source]
        source: io::Error,
    },
    /// A named thing does not exist.
    #[error("{0} not found")]
    NotFound(String),
    /// A namespace could not be opened or entered.
    #[error("network namespace {path}")]
    Namespace {
        /// The path or a description of the namespace.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A sysctl could not be read or written.
    #[error("sysctl {key}")]
    Sysctl {
        /// The key with slashes.
        key: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The thread that worked in another namespace died.
    #[error("the namespace thread panicked")]
    Panicked,
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl Error {
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. }
            | Self::Socket { source, .. }
            | Self::Sysctl { source, .. }
            | Self::Namespace { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the thing was there already.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// Whether the thing was not there (any of the codes that the subsystems use for it).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound(_))
            || matches!(
                self.errno(),
                Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL | libc::ENXIO)
            )
    }

    /// Whether the kernel lacks the feature.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT))
    }
}

/// Netlink's answer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The netlink families in use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// rtnetlink: links, addresses, routes.
    Route,
    /// nfnetlink: nf_tables and conntrack.
    Netfilter,
}

/// One reply message: its type and the bytes after the header.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The message type.
    pub kind: u16,
    /// Payload after `nlmsghdr`.
    pub body: Vec<u8>,
}

/// A failing message of a batch: its sequence number and the error.
#[derive(Debug)]
pub struct BatchError {
    /// Sequence number of the refused message.
    pub seq: u32,
    /// The errno.
    pub source: io::Error,
    /// The kernel's extended message.
    pub message: String,
}

/// A netlink socket bound to the namespace it was opened in.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buf: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's namespace.
    ///
    /// # Errors
    /// When the kernel lacks the family or the process its right.
    pub fn open(protocol: Protocol) -> Result<Self> {
        let number = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Netfilter => libc::NETLINK_NETFILTER,
        };
        // SAFETY: plain system call; the descriptor is owned by nobody else.
        let fd = unsafe {
            let raw = libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, number);
            if raw < 0 {
                return Err(Error::Socket { op: "open a netlink socket", source: io::Error::last_os_error() });
            }
            OwnedFd::from_raw_fd(raw)
        };
        let socket = Self { fd, seq: 1, buf: vec![0; 64 * 1024] };
        // Extended errors are a help only: old kernels refuse these options, and that is fine.
        let _ = socket.set_option(SOL_NETLINK, NETLINK_CAP_ACK, 1);
        let _ = socket.set_option(SOL_NETLINK, NETLINK_EXT_ACK, 1);
        Ok(socket)
    }

    /// Opens a socket inside `ns`.
    ///
    /// # Errors
    /// As [`Socket::open`], and when the namespace cannot be entered.
    pub fn open_in(ns: &NetNs, protocol: Protocol) -> Result<Self> {
        ns.run(|| Self::open(protocol))?
    }

    fn set_option(&self, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
        // SAFETY: the pointer and length describe one live c_int.
        let rc = unsafe {
            libc::setsockopt(
                self.fd.as_raw_fd(),
                level,
                name,
                (&raw const value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        let sent = rustix::net::send(self.fd.as_fd(), bytes, rustix::net::SendFlags::empty())
            .map_err(|e| Error::Socket { op: "send", source: e.into() })?;
        if sent == bytes.len() {
            return Ok(());
        }
        Err(Error::Socket { op: "send", source: io::ErrorKind::WriteZero.into() })
    }

    /// Receives one datagram; `None` when `wait` is false and nothing is there.
    fn receive(&mut self, wait: bool) -> Result<Option<usize>> {
        let flags = libc::MSG_TRUNC | if wait { 0 } else { libc::MSG_DONTWAIT };
        loop {
            // SAFETY: the buffer lives across the call and its length is given.
            let got = unsafe { libc::recv(self.fd.as_raw_fd(), self.buf.as_mut_ptr().cast(), self.buf.len(), flags) };
            if got < 0 {
                let source = io::Error::last_os_error();
                match source.raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN) if !wait => return Ok(None),
                    _ => return Err(Error::Socket { op: "receive", source }),
                }
            }
            let got = got as usize;
            if got > self.buf.len() {
                return Err(Error::Socket { op: "receive", source: io::Error::other("answer longer than the buffer") });
            }
            return Ok(Some(got));
        }
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1).max(1);
        self.seq
    }

    /// Sends `msg` and waits for its acknowledgement; `op` names the request in an error.
    ///
    /// # Errors
    /// [`Error::Refused`] with the kernel's code and words.
    pub fn request(&mut self, op: impl FnOnce() -> String, msg: Msg) -> Result<()> {
        self.exchange(op, msg, NLM_F_REQUEST | NLM_F_ACK, |_| ()).map(|_| ())
    }

    /// Sends `msg` and hands every reply to `each` until the acknowledgement or the end of the dump.
    ///
    /// # Errors
    /// [`Error::Refused`] with the kernel's code and words.
    pub fn exchange(
        &mut self,
        op: impl FnOnce() -> String,
        msg: Msg,
        flags: u16,
        mut each: impl FnMut(Reply),
    ) -> Result<()> {
        let seq = self.next_seq();
        self.send(&msg.finish(seq, flags))?;
        loop {
            let Some(got) = self.receive(true)? else { continue };
            for (head, body) in Messages(&self.buf[..got]) {
                if head.seq != seq {
                    continue;
                }
                match head.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return ack(&head, body).map_err(|(source, message)| Error::Refused {
                            op: op(),
                            message,
                            source,
                        });
                    }
                    kind => each(Reply { kind, body: body.to_vec() }),
                }
            }
        }
    }

    /// Dumps with `msg` and collects what `read` makes of each reply.
    ///
    /// # Errors
    /// As [`Socket::exchange`].
    pub fn dump<T>(&mut self, op: &'static str, msg: Msg, mut read: impl FnMut(&Reply) -> Option<T>) -> Result<Vec<T>> {
        let mut all = Vec::new();
        self.exchange(|| op.to_owned(), msg, NLM_F_REQUEST | NLM_F_DUMP, |reply| all.extend(read(&reply)))?;
        Ok(all)
    }

    /// Sends a whole nfnetlink batch and collects every refusal; an empty list means that the kernel took all of it.
    ///
    /// The kernel handles a batch within `sendmsg`, so every answer is queued when it returns and none is waited for.
    ///
    /// # Errors
    /// When the socket fails; refusals are in the answer.
    pub fn send_batch(&mut self, bytes: &[u8]) -> Result<Vec<BatchError>> {
        let room = libc::c_int::try_from(bytes.len().saturating_mul(2).max(1 << 20)).unwrap_or(libc::c_int::MAX);
        // Without CAP_NET_ADMIN in the first user namespace FORCE fails: then the ordinary limit holds.
        if self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, room).is_err() {
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUF, room);
        }
        if self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, room).is_err() {
            let _ = self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUF, room);
        }
        self.send(bytes)?;
        let mut refused = Vec::new();
        while let Some(got) = self.receive(false)? {
            for (head, body) in Messages(&self.buf[..got]) {
                if head.kind == NLMSG_ERROR
                    && let Err((source, message)) = ack(&head, body)
                {
                    refused.push(BatchError { seq: head.seq, source, message });
                }
            }
        }
        Ok(refused)
    }
}

struct Head {
    kind: u16,
    flags: u16,
    seq: u32,
}

struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (Head, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let head = self.0.get(..HEADER_LEN)?;
        let len = num(&head[0..4]) as usize;
        let body = self.0.get(HEADER_LEN..len)?;
        let parsed = Head { kind: num(&head[4..6]) as u16, flags: num(&head[6..8]) as u16, seq: num(&head[8..12]) };
        self.0 = self.0.get(align(len)..).unwrap_or(&[]);
        Some((parsed, body))
    }
}

/// Reads an acknowledgement: an errno of 0 is success.
fn ack(head: &Head, body: &[u8]) -> Result<(), (io::Error, String)> {
    let code = num(body.get(..4).unwrap_or(&[])) as i32;
    if code == 0 {
        return Ok(());
    }
    let mut message = String::new();
    if head.flags & NLM_F_ACK_TLVS != 0 {
        // The refused request's header follows, and unless capped its whole body.
        let echoed =
            if head.flags & NLM_F_CAPPED != 0 { HEADER_LEN } else { num(body.get(4..8).unwrap_or(&[])) as usize };
        let rest = body.get(4 + align(echoed)..).unwrap_or(&[]);
        message = Attrs(rest).find(NLMSGERR_ATTR_MSG).map(text).unwrap_or_default();
    }
    Err((io::Error::from_raw_os_error(-code), message))
}

/// rtnetlink in one namespace: the operations are in this module's files by subject.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

impl Handle {
    /// Opens rtnetlink in the calling thread's namespace.
    ///
    /// # Errors
    /// As [`Socket::open`].
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(Protocol::Route)? })
    }

    /// Opens rtnetlink in `ns`.
    ///
    /// # Errors
    /// As [`Socket::open_in`].
    pub fn open_in(ns: &NetNs) -> Result<Self> {
        Ok(Self { socket: Socket::open_in(ns, Protocol::Route)? })
    }
}

/// The address family number of an address.
pub(crate) fn family(ip: &std::net::IpAddr) -> u8 {
    match ip {
        std::net::IpAddr::V4(_) => libc::AF_INET as u8,
        std::net::IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

#[cfg(test)]
mod tests;
