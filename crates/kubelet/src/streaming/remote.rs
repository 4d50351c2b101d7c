//! Exec and attach: a process' streams joined to a client's, whatever carries them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use node_api::{ProcessStreams, TerminalSize};
use rt::sync::mpsc;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::spdy::{self, Stream};
use super::websocket::{self, Encoding};
use super::{Out, Sink, Source};

/// How long a client may take to open its streams.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long output may still flow once the process has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK: usize = 32 << 10;

/// SPDY protocols, the newest first.
pub const SPDY_PROTOCOLS: &[&str] = &["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"];
/// WebSocket protocols, the newest first.
pub const WEBSOCKET_PROTOCOLS: &[&str] =
    &["v5.channel.k8s.io", "v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io"];

/// Which streams were asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// A terminal.
    pub tty: bool,
}

/// The client's ends.
struct Ends {
    stdin: Option<Source>,
    stdout: Option<Sink>,
    stderr: Option<Sink>,
    error: Sink,
    resize: Option<Source>,
    /// Exit codes are told as a Status (v4 and newer).
    status: bool,
}

/// Joins a process to a client over SPDY.
pub async fn over_spdy<S>(
    io: S,
    protocol: &str,
    wanted: Wanted,
    process: impl Future<Output = Result<ProcessStreams, String>>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (incoming, session) = spdy::serve(io);
    let versions = ["v3.channel.k8s.io", "v4.channel.k8s.io"];
    let resizable = wanted.tty && versions.contains(&protocol);
    let status = protocol == "v4.channel.k8s.io";
    let work = async {
        match rt::time::timeout(OPEN_TIMEOUT, collect(incoming, wanted, resizable, status)).await {
            Ok(Some(ends)) => join(ends, process).await,
            Ok(None) => {}
            Err(_) => tracing::debug!("the client did not open its streams in time"),
        }
        // The session ends by itself when its last sink is gone.
        std::future::pending::<()>().await;
    };
    rt::select! {
        result = session => {
            if let Err(error) = result {
                tracing::debug!(error = %error, "SPDY session ended");
            }
        }
        () = work => {}
    }
}

async fn collect(mut incoming: mpsc::Receiver<Stream>, wanted: Wanted, resizable: bool, status: bool) -> Option<Ends> {
    let (mut stdin, mut stdout, mut stderr, mut error, mut resize) = (None, None, None, None, None);
    let stderr_wanted = wanted.stderr && !wanted.tty;
    loop {
        let complete = error.is_some()
            && (!wanted.stdin || stdin.is_some())
            && (!wanted.stdout || stdout.is_some())
            && (!stderr_wanted || stderr.is_some())
            && (!resizable || resize.is_some());
        if complete {
            let (error, _) = error?;
            return Some(Ends {
                stdin: stdin.map(|(_, source)| source),
                stdout: stdout.map(|(sink, _)| sink),
                stderr: stderr.map(|(sink, _)| sink),
                error,
                resize: resize.map(|(_, source)| source),
                status,
            });
        }
        let stream = incoming.recv().await?;
        let kind = stream.headers.get("streamtype").cloned().unwrap_or_default();
        let ends = Some((stream.sink, stream.source));
        match kind.as_str() {
            "stdin" => stdin = ends,
            "stdout" => stdout = ends,
            "stderr" => stderr = ends,
            "error" => error = ends,
            "resize" => resize = ends,
            other => tracing::debug!(kind = other, "a stream of an unknown type"),
        }
    }
}

/// Joins a process to a client over WebSocket channels.
pub async fn over_websocket<S>(
    io: S,
    protocol: &str,
    wanted: Wanted,
    process: impl Future<Output = Result<ProcessStreams, String>>,
) where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let encoding = Encoding { base64: protocol.contains("base64"), close: protocol.starts_with("v5") };
    let (sources, out, session) = websocket::serve(io, encoding, &[0, 4]);
    let mut sources = sources.into_iter();
    let sink = |id: u32| Sink::new(id, out.clone());
    let ends = Ends {
        stdin: sources.next().filter(|_| wanted.stdin),
        resize: sources.next().filter(|_| wanted.tty),
        stdout: wanted.stdout.then(|| sink(1)),
        stderr: (wanted.stderr && !wanted.tty).then(|| sink(2)),
        error: sink(3),
        status: protocol.starts_with('v'),
    };
    let first = if wanted.stdout {
        1
    } else if wanted.stderr && !wanted.tty {
        2
    } else {
        3
    };
    // An empty message tells the client that the connection stands.
    let _ = out.send(Out::Data { id: first, bytes: Bytes::new() }).await;
    drop(out);
    let work = async {
        join(ends, process).await;
        std::future::pending::<()>().await;
    };
    rt::select! {
        () = session => {}
        () = work => {}
    }
}

async fn join(ends: Ends, process: impl Future<Output = Result<ProcessStreams, String>>) {
    let error = ends.error.clone();
    let process = match process.await {
        Ok(process) => process,
        Err(text) => {
            let told = if ends.status { failure(&text).to_string() } else { text };
            error.send(told.into()).await;
            error.close().await;
            return;
        }
    };
    let ProcessStreams { stdin, stdout, stderr, resize, exit, tty: _ } = process;
    let inward = async {
        futures::join!(feed(ends.stdin, stdin), resizing(ends.resize, resize));
        std::future::pending::<()>().await;
    };
    let outward = async {
        let mut output =
            std::pin::pin!(async { futures::join!(drain(stdout, ends.stdout), drain(stderr, ends.stderr)) });
        let mut exit = exit;
        // Whichever is first: a process may close its output and go on, or end while its children keep the output open.
        rt::select! {
            _ = &mut output => exit.await,
            code = &mut exit => {
                let _ = rt::time::timeout(DRAIN_TIMEOUT, output).await;
                code
            }
        }
    };
    let code = rt::select! {
        code = outward => code,
        () = inward => return,
        // Nobody listens any more: dropping the streams closes them.
        () = error.gone() => return,
    };
    if let Some(text) = verdict(code, ends.status) {
        error.send(text.into()).await;
    }
    error.close().await;
}

fn verdict(code: node_api::Result<i32>, status: bool) -> Option<String> {
    match (code, status) {
        (Ok(0), true) => Some(json!({"metadata": {}, "status": "Success"}).to_string()),
        (Ok(0), false) => None,
        (Ok(code), true) => Some(
            json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            })
            .to_string(),
        ),
        (Ok(code), false) => Some(format!("command terminated with non-zero exit code: exit status {code}")),
        (Err(error), true) => Some(failure(&error.chain()).to_string()),
        (Err(error), false) => Some(error.chain()),
    }
}

fn failure(text: &str) -> Value {
    json!({"metadata": {}, "status": "Failure", "message": format!("Internal error occurred: {text}"), "reason": "InternalError",
        "details": {"causes": [{"message": text}]}, "code": 500})
}

async fn feed(source: Option<Source>, writer: Option<node_api::StdinWriter>) {
    let (Some(mut source), Some(mut writer)) = (source, writer) else { return };
    while let Some(bytes) = source.recv().await {
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            // The process reads no more; what still comes is taken and dropped, so that the client is not held up.
            while source.recv().await.is_some() {}
            return;
        }
    }
    // The process learns that its input has ended.
    let _ = writer.shutdown().await;
}

async fn drain(reader: Option<node_api::OutputReader>, sink: Option<Sink>) {
    let (Some(mut reader), Some(sink)) = (reader, sink) else { return };
    let mut buffer = BytesMut::with_capacity(CHUNK);
    while let Ok(count) = reader.read_buf(&mut buffer).await {
        if count == 0 || !sink.send(buffer.split().freeze()).await {
            break;
        }
        buffer.reserve(CHUNK);
    }
    sink.close().await;
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Terminal sizes come as a stream of JSON objects.
async fn resizing(source: Option<Source>, resize: mpsc::Sender<TerminalSize>) {
    let Some(mut source) = source else { return };
    let mut buffer = Vec::new();
    while let Some(bytes) = source.recv().await {
        buffer.extend_from_slice(&bytes);
        let mut stream = serde_json::Deserializer::from_slice(&buffer).into_iter::<Size>();
        let mut used = 0;
        while let Some(Ok(size)) = stream.next() {
            used = stream.byte_offset();
            let size = TerminalSize { width: size.width, height: size.height };
            if resize.send(size).await.is_err() {
                return;
            }
        }
        buffer.drain(..used);
        if buffer.len() > 4096 {
            return;
        }
    }
}
