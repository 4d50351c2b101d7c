//! A container's output: into its log, and to everybody attached.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::log::Log;
use super::now_ns;

/// An attached reader may be this far behind; then the container waits for it, as on a terminal.
const MAX_PENDING_BYTES: usize = 256 * 1024;
const READ_BYTES: usize = 32 * 1024;

/// Somebody attached to one stream.
struct Sink {
    fd: OwnedFd,
    pending: VecDeque<u8>,
    broken: bool,
}

/// One stream of a container.
struct Stream {
    name: &'static str,
    fd: Option<OwnedFd>,
    partial: Vec<u8>,
    sinks: Vec<Sink>,
}

/// Both streams of a container, or the one of its terminal.
pub(super) struct Output {
    pub(super) log: Log,
    streams: Vec<Stream>,
}

impl Output {
    pub(super) fn new(log: Log, stdout: Option<OwnedFd>, stderr: Option<OwnedFd>) -> Self {
        let mut streams = Vec::new();
        for (name, fd) in [("stdout", stdout), ("stderr", stderr)] {
            if let Some(fd) = fd {
                let _ = rustix::io::ioctl_fionbio(&fd, true);
                streams.push(Stream { name, fd: Some(fd), partial: Vec::new(), sinks: Vec::new() });
            }
        }
        Self { log, streams }
    }

    /// The descriptors to wait for, with their index; none of a stream whose reader is too far behind.
    pub(super) fn readable(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        self.streams.iter().enumerate().filter_map(|(index, stream)| {
            let full = stream.sinks.iter().any(|s| s.pending.len() > MAX_PENDING_BYTES);
            stream.fd.as_ref().filter(|_| !full).map(|fd| (index, fd.as_fd()))
        })
    }

    /// Everybody attached, and whether something waits to be written to them.
    pub(super) fn sinks(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        let sinks = self.streams.iter().flat_map(|s| &s.sinks);
        sinks.map(|s| (s.fd.as_fd(), !s.pending.is_empty()))
    }

    /// Attaches a reader to a stream; on a terminal all is stdout. A stream that has ended ends for the reader, too.
    pub(super) fn attach(&mut self, name: &str, fd: OwnedFd) {
        let _ = rustix::io::ioctl_fionbio(&fd, true);
        if let Some(stream) = self.streams.iter_mut().find(|s| s.name == name && s.fd.is_some()) {
            stream.sinks.push(Sink { fd, pending: VecDeque::new(), broken: false });
        }
    }

    /// Reads once from a stream.
    pub(super) fn pump(&mut self, index: usize) {
        self.read_once(index);
    }

    /// Reads all there is, at the container's end.
    pub(super) fn drain(&mut self) {
        for index in 0..self.streams.len() {
            while self.read_once(index) {}
            let stream = &mut self.streams[index];
            stream.fd = None;
            self.log.finish(stream.name, &mut stream.partial, now_ns());
        }
        self.flush_sinks();
    }

    /// True while there may be more.
    fn read_once(&mut self, index: usize) -> bool {
        let Some(stream) = self.streams.get_mut(index) else { return false };
        let Some(fd) = &stream.fd else { return false };
        let mut buffer = [0u8; READ_BYTES];
        match rustix::io::read(fd, &mut buffer[..]) {
            Ok(count) if count > 0 => {
                let data = &buffer[..count];
                self.log.write(stream.name, data, &mut stream.partial, now_ns());
                stream.sinks.iter_mut().for_each(|sink| sink.write(data));
                stream.sinks.retain(|sink| !sink.broken);
                true
            }
            Err(rustix::io::Errno::AGAIN) => false,
            Err(rustix::io::Errno::INTR) => true,
            // The end of a pipe is 0, that of a terminal EIO.
            Ok(_) | Err(_) => {
                stream.fd = None;
                self.log.finish(stream.name, &mut stream.partial, now_ns());
                stream.sinks.retain(|sink| !sink.pending.is_empty());
                false
            }
        }
    }

    /// Writes what waits for slow readers, and lets go of those that have left.
    pub(super) fn flush_sinks(&mut self) {
        for stream in &mut self.streams {
            let ended = stream.fd.is_none();
            for sink in &mut stream.sinks {
                sink.flush();
                sink.broken |= reader_left(&sink.fd);
            }
            let done = |s: &Sink| s.broken || (ended && s.pending.is_empty());
            stream.sinks.retain(|s| !done(s));
        }
    }
}

impl Sink {
    fn write(&mut self, data: &[u8]) {
        self.flush();
        let mut rest = data;
        while self.pending.is_empty() && !rest.is_empty() && !self.broken {
            match rustix::io::write(&self.fd, rest) {
                Ok(count) => rest = &rest[count..],
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.broken = true,
            }
        }
        self.pending.extend(rest);
    }

    fn flush(&mut self) {
        while !self.pending.is_empty() && !self.broken {
            let (first, _) = self.pending.as_slices();
            match rustix::io::write(&self.fd, first) {
                Ok(count) => drop(self.pending.drain(..count)),
                Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.broken = true,
            }
        }
        self.pending.shrink_to(0);
    }
}

/// Whether the other end of a pipe was closed.
fn reader_left(fd: &OwnedFd) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec};
    let mut fds = [PollFd::new(fd, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1)) && fds[0].revents().intersects(PollFlags::ERR)
}
