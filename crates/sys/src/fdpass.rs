//! Messages with descriptors over a Unix socket of packets: one `send`, one `recv`, no framing.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use crate::{Context, Result};

/// The longest message.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// The most descriptors in one message.
pub const MAX_FDS: usize = 8;

/// Two connected ends; close-on-exec, blocking.
///
/// # Errors
/// The kernel's.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at("make socket pair", "")
}

/// Listens on a path. The path may be of any length, as long as its directory can be opened.
///
/// # Errors
/// The kernel's.
pub fn listen(path: &Path) -> Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).at("socket", path)?;
    let (_dir, address) = short_address(path)?;
    rustix::net::bind(&socket, &address).at("bind", path)?;
    rustix::net::listen(&socket, 16).at("listen", path)?;
    Ok(socket)
}

/// Connects to a path.
///
/// # Errors
/// The kernel's; `ECONNREFUSED` where nobody listens any more.
pub fn connect(path: &Path) -> Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .at("socket", path)?;
    let (_dir, address) = short_address(path)?;
    rustix::net::connect(&socket, &address).at("connect", path)?;
    Ok(socket)
}

/// An address through the directory's descriptor: socket paths are limited to 107 bytes.
fn short_address(path: &Path) -> Result<(OwnedFd, SocketAddrUnix)> {
    use rustix::fs::{Mode, OFlags};
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(crate::Error::invalid("bind", path, "not a file's path"));
    };
    let dir =
        rustix::fs::open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).at("open", dir)?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&dir);
    let mut short = std::path::PathBuf::from(format!("/proc/self/fd/{number}"));
    short.push(name);
    let address = SocketAddrUnix::new(short.as_path()).at("name socket", path)?;
    Ok((dir, address))
}

/// Accepts one connection, not blocking; `None` when there is none.
///
/// # Errors
/// The kernel's.
pub fn accept(listener: impl AsFd) -> Result<Option<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match rustix::net::accept_with(listener, flags) {
        Ok(fd) => Ok(Some(fd)),
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error).at("accept", ""),
    }
}

/// Sends one message with descriptors.
///
/// # Errors
/// `EAGAIN` on a full non-blocking socket, `EPIPE` when the peer is gone.
pub fn send(socket: impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    if message.len() > MAX_MESSAGE_BYTES || fds.len() > MAX_FDS {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    loop {
        match rustix::net::sendmsg(&socket, &[IoSlice::new(message)], &mut control, SendFlags::NOSIGNAL) {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Receives one message with its descriptors, which are closed at exec; `None` at the end of the connection.
///
/// # Errors
/// `EAGAIN` on an empty non-blocking socket; `EMSGSIZE` for a message cut short.
pub fn recv(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    // Asked for first, so that a supervisor with idle connections holds no large buffer.
    let length = loop {
        let mut none = [0u8; 0];
        match rustix::net::recv(&socket, &mut none[..], RecvFlags::PEEK | RecvFlags::TRUNC) {
            Ok((_, length)) => break length,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    if length > MAX_MESSAGE_BYTES {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let mut buffer = vec![0u8; length.max(1)];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        match rustix::net::recvmsg(&socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Ok(received) => break received,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            fds.extend(list);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    buffer.truncate(received.bytes);
    Ok(Some((buffer, fds)))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    #[test]
    fn a_message_carries_a_descriptor() {
        let (a, b) = super::pair().unwrap();
        let file = std::fs::File::open("/proc/self/comm").unwrap();
        super::send(&a, b"hello", &[file.as_fd()]).unwrap();
        let (message, fds) = super::recv(&b).unwrap().unwrap();
        assert_eq!((message.as_slice(), fds.len()), (&b"hello"[..], 1));
        drop(a);
        assert!(super::recv(&b).unwrap().is_none());
    }
}
