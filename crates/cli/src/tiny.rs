//! `demo`, a tiny program inside the binary, so that a cluster has something to run with no registry at hand.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::SocketAddr;

use clap::Parser;
use rt::Shutdown;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::error::{Error, Result, chain};

/// Longest request that is read.
const MAX_REQUEST: u64 = 16 << 10;
/// Questions at most, until three hosts have answered.
const MAX_QUESTIONS: usize = 100;

/// A tiny HTTP server, and what asks it.
#[derive(Debug, Parser)]
#[command(name = "demo", group(clap::ArgGroup::new("what").required(true)))]
struct Flags {
    /// Answer HTTP on this address with the name of this host.
    #[arg(long, group = "what", value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Ask until three hosts have answered.
    #[arg(long, group = "what", value_name = "http://HOST[:PORT]/")]
    ask: Option<String>,
}

/// Runs the command until it is done or told to stop. `arguments` begin with the command's name. Gives the exit code.
pub async fn main(arguments: Vec<OsString>, shutdown: Shutdown) -> u8 {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    let work = async {
        match (flags.listen, flags.ask) {
            (Some(address), _) => serve(address).await,
            (None, url) => ask_three(&url.unwrap_or_default()).await,
        }
    };
    match shutdown.run(work).await {
        None | Some(Ok(())) => 0,
        Some(Err(error)) => {
            eprintln!("demo: {}", chain(&error));
            1
        }
    }
}

fn failed(doing: &'static str, what: impl ToString) -> impl FnOnce(std::io::Error) -> Error {
    let path = what.to_string();
    move |source| Error::File { doing, path, source }
}

async fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address).await.map_err(failed("listen on", address))?;
    loop {
        let (stream, _) = listener.accept().await.map_err(failed("accept on", address))?;
        rt::spawn("answer", async move {
            // A client that goes away early is no concern of ours.
            let _ = answer(stream).await;
        });
    }
}

async fn answer(stream: TcpStream) -> std::io::Result<()> {
    let mut request = BufReader::new(stream).take(MAX_REQUEST);
    let mut line = String::new();
    while request.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let body = format!("hello from {}\n", host.trim());
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    let mut stream = request.into_inner().into_inner();
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

async fn ask_three(url: &str) -> Result<()> {
    let wrong = || Error::Other(format!("--ask takes http://HOST[:PORT]/, not {url:?}"));
    let host = url.strip_prefix("http://").ok_or_else(wrong)?.split('/').next().unwrap_or_default();
    let (name, port) = host.split_once(':').unwrap_or((host, "80"));
    let port: u16 = port.parse().map_err(|_| wrong())?;
    let mut seen = BTreeSet::new();
    for _ in 0..MAX_QUESTIONS {
        let mut stream = wire::dial(name, port).await.map_err(failed("connect to", name))?;
        let ip = stream.peer_addr().map_err(failed("connect to", name))?.ip();
        let request = format!("GET / HTTP/1.0\r\nHost: {name}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(failed("ask", name))?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await.map_err(failed("ask", name))?;
        let body = text.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned();
        if seen.insert(body.clone()) {
            println!("http://{name}/ ({ip}) answers: {body}");
        }
        if seen.len() == 3 {
            break;
        }
    }
    Ok(())
}
