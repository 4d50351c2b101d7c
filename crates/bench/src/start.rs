//! Starting a cluster, and how long it takes.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::Cluster;

use crate::stats::Samples;
use crate::table::Measured;

/// Starts that the figures are the median of.
const RUNS: usize = 3;
const DNS_LIMIT: Duration = Duration::from_secs(10);
/// `kubernetes.default.svc.cluster.local`, type A, asked under id 7.
const QUESTION: &[u8] =
    b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x0akubernetes\x07default\x03svc\x07cluster\x05local\0\0\x01\0\x01";

/// A fresh cluster of one node.
pub(crate) fn cluster(binary: &Path) -> Result<Cluster> {
    Cluster::up(binary, &name(), 1)
}

fn name() -> String {
    format!("bench-{}", std::process::id())
}

/// The sizes of files, summed, in MiB.
pub(crate) fn size(files: &[&Path]) -> Result<f64> {
    let mut sum = 0;
    for file in files {
        sum += std::fs::metadata(file).with_context(|| format!("stat {}", file.display()))?.len();
    }
    Ok(sum as f64 / 1_048_576.0)
}

/// Seconds to the API and to a ready node with DNS, keys made on the way.
pub(crate) fn corten(binary: &Path, measured: &mut Measured) -> Result<()> {
    let (mut api, mut node) = (Samples::default(), Samples::default());
    for _ in 0..RUNS {
        let (to_api, to_node) = once(binary)?;
        api.add(to_api);
        node.add(to_node);
    }
    measured.set_some("api-ready", api.median());
    measured.set_some("node-ready", node.median());
    Ok(())
}

/// Ends and purges a cluster when dropped.
struct Ended<'a> {
    binary: &'a Path,
    name: String,
    data: tempfile::TempDir,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let mut command = Command::new(self.binary);
        command.args(["down", "--purge", "--name", &self.name, "--data-dir"]).arg(self.data.path().join("data"));
        if let Err(error) = command.stderr(Stdio::null()).status() {
            eprintln!("bench: cannot end cluster {}: {error}", self.name);
        }
    }
}

fn once(binary: &Path) -> Result<(f64, f64)> {
    let data = tempfile::tempdir().context("make a data folder")?;
    let ended = Ended { binary, name: name(), data };
    let begun = Instant::now();
    let mut child = Command::new(binary)
        .args(["up", "--detach", "--name", &ended.name, "--data-dir"])
        .arg(ended.data.path().join("data"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start corten up")?;
    let lines = BufReader::new(child.stderr.take().context("no pipe from corten up")?).lines();
    let (mut api, mut node, mut said) = (None, None, String::new());
    for line in lines {
        let line = line.context("read what corten up says")?;
        if line.contains("API server ready") {
            api.get_or_insert(begun.elapsed());
        } else if line.contains(" is Ready") {
            node.get_or_insert(begun.elapsed());
            break;
        }
        said.push_str(&line);
        said.push('\n');
    }
    let (Some(api), Some(node)) = (api, node) else {
        bail!("the cluster did not get ready:\n{said}");
    };
    // The rest of what it says is not read: it must not wait for us.
    dns(dns_address(&ended)?)?;
    let answered = begun.elapsed().max(node);
    child.wait().context("wait for corten up")?;
    Ok((api.as_secs_f64(), answered.as_secs_f64()))
}

/// The address of the cluster's DNS Service, the tenth of the Service network.
fn dns_address(ended: &Ended<'_>) -> Result<IpAddr> {
    let path = ended.data.path().join("data").join("control-plane.json");
    let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let spec: serde_json::Value = serde_json::from_slice(&bytes).context("parse the control plane's specification")?;
    let services = spec["addresses"]["services"].as_str().context("no service network")?;
    let base: IpAddr = services.split('/').next().unwrap_or_default().parse().context("the service network")?;
    match base {
        IpAddr::V4(ip) => Ok(IpAddr::V4((u32::from(ip) + 10).into())),
        IpAddr::V6(ip) => Ok(IpAddr::V6((u128::from(ip) + 10).into())),
    }
}

/// Asks until DNS answers.
fn dns(address: IpAddr) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("open a socket")?;
    socket.set_read_timeout(Some(Duration::from_millis(10))).context("set a timeout")?;
    let begun = Instant::now();
    let mut answer = [0; 512];
    while begun.elapsed() < DNS_LIMIT {
        // Unreachable yet, or no answer yet: both mean to ask again.
        if socket.send_to(QUESTION, SocketAddr::new(address, 53)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
            continue;
        }
        if let Ok(length) = socket.recv(&mut answer)
            && length > QUESTION.len()
            && answer[3] & 0x0f == 0
        {
            return Ok(());
        }
    }
    bail!("DNS does not answer at {address}")
}
