//! Further processes, attaching, port forwarding.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use node_api::{AttachRequest, Duplex, Error, ExecRequest, ExecSyncResult, ProcessStreams, Result, TerminalSize};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Inner;
use super::link::Link;
use super::records::ContainerEntry;
use super::stream::{FdStream, Output, Stdin};
use crate::proto::{Op, Phase};

/// What exec_sync keeps of each stream.
const MAX_SYNC_BYTES: u64 = 16 * 1024 * 1024;

/// A further process just started.
struct Started {
    exec: String,
    link: Arc<Link>,
    streams: ProcessStreams,
}

impl Inner {
    pub(super) async fn exec(&self, request: &ExecRequest) -> Result<ProcessStreams> {
        Ok(self.start_exec(request).await?.streams)
    }

    async fn start_exec(&self, request: &ExecRequest) -> Result<Started> {
        let container = self.running(&request.container_id)?;
        if request.cmd.is_empty() {
            return Err(Error::InvalidArgument("exec needs a command".to_owned()));
        }
        let link = container.pod.link()?;
        let (mut ours, mut theirs) = ([None, None, None], Vec::new());
        let wanted = [request.stdin, request.stdout, request.stderr && !request.tty];
        for (index, wanted) in wanted.into_iter().enumerate() {
            if wanted && !request.tty {
                let (read, write) = pipe()?;
                let (own, other) = if index == 0 { (write, read) } else { (read, write) };
                ours[index] = Some(own);
                theirs.push(other);
            }
        }
        let exec = super::ids::new_id()?;
        let code = link.expect_exec(&exec);
        let op = Op::Exec {
            container: request.container_id.clone(),
            exec: exec.clone(),
            args: request.cmd.clone(),
            terminal: request.tty,
            stdin: ours[0].is_some(),
            stdout: ours[1].is_some(),
            stderr: ours[2].is_some(),
        };
        let borrowed: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        let answered = link.call(op, &borrowed).await;
        drop(theirs);
        let (_, fds) = answered.inspect_err(|_| link.forget_exec(&exec))?;
        let ended = CancellationToken::new();
        let streams = exec_streams(request, ours, fds, &ended, code)?;
        Ok(Started { exec, link, streams })
    }

    pub(super) async fn exec_sync(
        &self,
        id: &str,
        cmd: &[String],
        timeout: Option<Duration>,
    ) -> Result<ExecSyncResult> {
        let request = ExecRequest {
            container_id: id.to_owned(),
            cmd: cmd.to_vec(),
            tty: false,
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let Started { exec, link, streams } = self.start_exec(&request).await?;
        let (stdout, stderr, exit) = (streams.stdout, streams.stderr, streams.exit);
        let all = async move { tokio::join!(collect(stdout), collect(stderr), exit) };
        let (stdout, stderr, exit) = match timeout {
            None => all.await,
            Some(limit) => match tokio::time::timeout(limit, all).await {
                Ok(done) => done,
                Err(_) => {
                    link.call(Op::KillExec { exec }, &[]).await?;
                    return Err(Error::DeadlineExceeded(format!(
                        "command {cmd:?} timed out after {}s",
                        limit.as_secs_f64()
                    )));
                }
            },
        };
        Ok(ExecSyncResult { stdout, stderr, exit_code: exit? })
    }

    pub(super) async fn attach(&self, request: &AttachRequest) -> Result<ProcessStreams> {
        let container = self.running(&request.container_id)?;
        let link = container.pod.link()?;
        let (mut ours, mut theirs) = ([None, None], Vec::new());
        let terminal = container.record.config.tty;
        let wanted = [request.stdout, request.stderr && !terminal];
        for (index, wanted) in wanted.into_iter().enumerate() {
            if wanted {
                let (read, write) = pipe()?;
                ours[index] = Some(FdStream::new(read).map_err(stream_error)?);
                theirs.push(write);
            }
        }
        let op = Op::Attach {
            container: request.container_id.clone(),
            stdin: request.stdin,
            stdout: wanted[0],
            stderr: wanted[1],
        };
        let borrowed: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        let (answer, fds) = link.call(op, &borrowed).await?;
        drop(theirs);
        let input = fds.into_iter().next().map(FdStream::new).transpose().map_err(stream_error)?;
        let resize = resizer(input.clone().filter(|_| answer.terminal));
        let stdin = input.filter(|_| request.stdin).map(|fd| {
            let (link, container) = (Arc::clone(&link), request.container_id.clone());
            let at_end = move || {
                let op = Op::EndStdin { container };
                if let Ok(handle) = tokio::runtime::Handle::try_current() {
                    handle.spawn(async move { link.call(op, &[]).await });
                }
            };
            Box::pin(Stdin::new(fd, Some(Box::new(at_end)))) as node_api::StdinWriter
        });
        let [stdout, stderr] = ours.map(|o| o.map(|fd| Box::pin(fd) as node_api::OutputReader));
        let mut run = container.run.subscribe();
        let exit = async move {
            let ended = run.wait_for(|r| r.phase == Phase::Exited).await;
            Ok(ended.map_or(0, |r| r.exit_code))
        };
        Ok(ProcessStreams { stdin, stdout, stderr, resize, exit: exit.boxed(), tty: answer.terminal })
    }

    pub(super) async fn port_forward(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>> {
        let pod = self.pod(sandbox)?;
        if !pod.ready() {
            return Err(Error::FailedPrecondition(format!("sandbox {sandbox} is not running")));
        }
        let (_, fds) = pod.link()?.call(Op::Connect { port }, &[]).await?;
        let Some(fd) = fds.into_iter().next() else {
            return Err(Error::Internal { context: "the supervisor sent no socket".to_owned(), source: None });
        };
        let stream = std::net::TcpStream::from(fd);
        stream.set_nonblocking(true).map_err(stream_error)?;
        Ok(Box::new(tokio::net::TcpStream::from_std(stream).map_err(stream_error)?))
    }

    fn running(&self, id: &str) -> Result<Arc<ContainerEntry>> {
        let container = self.container(id)?;
        match container.phase() {
            Phase::Running => Ok(container),
            other => Err(Error::FailedPrecondition(format!(
                "container {id} is in {} state",
                match other {
                    Phase::Created => "CONTAINER_CREATED",
                    _ => "CONTAINER_EXITED",
                }
            ))),
        }
    }
}

fn exec_streams(
    request: &ExecRequest,
    ours: [Option<OwnedFd>; 3],
    fds: Vec<OwnedFd>,
    ended: &CancellationToken,
    code: tokio::sync::oneshot::Receiver<i32>,
) -> Result<ProcessStreams> {
    let exit = {
        // Cancelled also when nobody waits for the code: a task, not the future that is handed out.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let ended = ended.clone();
        tokio::spawn(async move {
            let code = code.await;
            ended.cancel();
            let _ = sender.send(code);
        });
        async move {
            match receiver.await {
                Ok(Ok(code)) => Ok(code),
                _ => Err(Error::Unavailable { context: "the pod's supervisor is gone".to_owned(), source: None }),
            }
        }
    };
    let output = |fd: FdStream| Box::pin(Output::new(fd, ended.clone())) as node_api::OutputReader;
    if request.tty {
        let master = fds.into_iter().next().map(FdStream::new).transpose().map_err(stream_error)?;
        let stdin = master.clone().filter(|_| request.stdin);
        return Ok(ProcessStreams {
            stdin: stdin.map(|fd| Box::pin(Stdin::new(fd, None)) as node_api::StdinWriter),
            stdout: master.clone().map(output),
            stderr: None,
            resize: resizer(master),
            exit: exit.boxed(),
            tty: true,
        });
    }
    let [stdin, stdout, stderr] = ours.map(|fd| fd.map(FdStream::new).transpose());
    let (stdin, stdout) = (stdin.map_err(stream_error)?, stdout.map_err(stream_error)?);
    let stderr = stderr.map_err(stream_error)?;
    Ok(ProcessStreams {
        stdin: stdin.map(|fd| Box::pin(Stdin::new(fd, None)) as node_api::StdinWriter),
        stdout: stdout.map(output),
        stderr: stderr.map(output),
        resize: resizer(None),
        exit: exit.boxed(),
        tty: false,
    })
}

/// Takes terminal sizes as long as somebody sends them.
fn resizer(terminal: Option<FdStream>) -> mpsc::Sender<TerminalSize> {
    let (sender, mut receiver) = mpsc::channel::<TerminalSize>(4);
    if let Some(terminal) = terminal {
        tokio::spawn(async move {
            while let Some(size) = receiver.recv().await {
                terminal.resize(size.width, size.height);
            }
        });
    }
    sender
}

/// Reads to the end, and keeps the beginning.
async fn collect(reader: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut reader) = reader else { return kept };
    // Errors end the stream like its end does: what came is what there is.
    let _ = (&mut reader).take(MAX_SYNC_BYTES).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    kept
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| Error::internal("make a pipe", std::io::Error::from(e)))
}

fn stream_error(error: std::io::Error) -> Error {
    Error::internal("open a stream", error)
}
