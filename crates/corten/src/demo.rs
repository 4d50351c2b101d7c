//! Tiny programs, so that a cluster has something to run with no registry at hand: `pause` and `demo`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, bail};
use rt::Shutdown;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Waits until it is told to end.
pub(crate) fn pause() -> ExitCode {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(executor) = executor else { return ExitCode::FAILURE };
    executor.block_on(async {
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        match terminate {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
                ExitCode::SUCCESS
            }
            Err(_) => ExitCode::FAILURE,
        }
    })
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// `demo --listen ADDRESS` answers HTTP with this host's name; `demo --ask URL` asks until three hosts have answered.
pub(crate) async fn run(arguments: Vec<OsString>, shutdown: Shutdown) -> anyhow::Result<()> {
    let arguments: Vec<String> = arguments.into_iter().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["--listen", address] => {
            let address: SocketAddr = address.parse().context("--listen takes IP:PORT")?;
            shutdown.run(serve(address)).await.unwrap_or(Ok(()))
        }
        ["--ask", url] => ask_three(url).await,
        _ => bail!("usage: demo --listen IP:PORT | demo --ask http://HOST[:PORT]/"),
    }
}

async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
    loop {
        let (stream, _) = listener.accept().await.context("accept")?;
        rt::spawn("answer", async move {
            // A client that goes away early is no concern of ours.
            let _ = answer(stream).await;
        });
    }
}

async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream).take(16 << 10);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let body = format!("hello from {}\n", host());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let stream = stream.into_inner().into_inner();
    let mut stream = stream;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

async fn ask_three(url: &str) -> anyhow::Result<()> {
    let rest = url.strip_prefix("http://").context("--ask takes an http:// URL")?;
    let host = rest.split('/').next().unwrap_or_default();
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let port: u16 = port.parse().context("port")?;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..100 {
        let mut stream = TcpStream::connect((name, port)).await.with_context(|| format!("connect to {name}"))?;
        let ip = stream.peer_addr()?.ip();
        stream.write_all(format!("GET / HTTP/1.0\r\nHost: {name}\r\n\r\n").as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        let body = text.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned();
        if seen.insert(body.clone()) {
            println!("http://{name}/ ({ip}) answers: {body}");
        }
        if seen.len() == 3 {
            return Ok(());
        }
    }
    Ok(())
}
