//! Pipes and terminals as async streams.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A descriptor that can be polled; clones share it.
#[derive(Clone)]
pub(super) struct FdStream {
    fd: Arc<AsyncFd<OwnedFd>>,
}

impl FdStream {
    pub(super) fn new(fd: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&fd, true)?;
        // Deprecated because a foreign AsRawFd could lie; an OwnedFd that this owns until it is dropped does not.
        #[allow(deprecated)]
        let fd = AsyncFd::new(fd)?;
        Ok(Self { fd: Arc::new(fd) })
    }

    pub(super) fn resize(&self, columns: u16, rows: u16) {
        // A terminal that is gone has no size.
        let _ = sys::pty::resize(self.fd.get_ref(), columns, rows);
    }
}

impl AsyncRead for FdStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.fd.poll_read_ready(cx))?;
            let unfilled = buf.initialize_unfilled();
            match guard.try_io(|fd| rustix::io::read(fd.get_ref(), unfilled).map_err(io::Error::from)) {
                Ok(Ok(count)) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                // All slaves of a terminal are closed: the end.
                Ok(Err(error)) if error.raw_os_error() == Some(libc::EIO) => return Poll::Ready(Ok(())),
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_would_block) => {}
            }
        }
    }
}

impl AsyncWrite for FdStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.fd.poll_write_ready(cx))?;
            match guard.try_io(|fd| rustix::io::write(fd.get_ref(), data).map_err(io::Error::from)) {
                Ok(result) => return Poll::Ready(result),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What is done when a stdin ends.
type AtEnd = Box<dyn FnOnce() + Send>;

/// A stdin: closes its descriptor at `shutdown` (or when dropped), so that the process sees the end.
pub(super) struct Stdin {
    inner: Option<FdStream>,
    at_end: Option<AtEnd>,
}

impl Stdin {
    pub(super) fn new(inner: FdStream, at_end: Option<AtEnd>) -> Self {
        Self { inner: Some(inner), at_end }
    }

    fn end(&mut self) {
        self.inner = None;
        if let Some(at_end) = self.at_end.take() {
            at_end();
        }
    }
}

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.inner {
            Some(inner) => Pin::new(inner).poll_write(cx, data),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        self.end();
    }
}

/// The output of a further process: ends when the process has ended and the pipe is empty, even if something it left
/// behind still holds the other end.
pub(super) struct Output {
    inner: FdStream,
    ended: CancellationToken,
    waiting: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Output {
    pub(super) fn new(inner: FdStream, ended: CancellationToken) -> Self {
        let waiting = Box::pin(ended.clone().cancelled_owned());
        Self { inner, ended, waiting }
    }
}

impl AsyncRead for Output {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        use std::future::Future;
        // Asked before reading: what was written before the end is then seen by the read.
        let ended = self.ended.is_cancelled();
        if let Poll::Ready(done) = Pin::new(&mut self.inner).poll_read(cx, buf) {
            return Poll::Ready(done);
        }
        if ended {
            // The poller may not have told yet of what was written before this descriptor was registered: asked directly.
            let unfilled = buf.initialize_unfilled();
            return Poll::Ready(match rustix::io::read(self.inner.fd.get_ref(), unfilled) {
                Ok(count) => {
                    buf.advance(count);
                    Ok(())
                }
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::IO) => Ok(()),
                Err(error) => Err(error.into()),
            });
        }
        match self.waiting.as_mut().poll(cx) {
            Poll::Ready(()) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
