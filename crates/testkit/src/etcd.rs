//! A real etcd for tests, where the machine has one.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running etcd with a data directory of its own; killed when dropped.
pub struct RealEtcd {
    child: Child,
    /// Where it serves clients.
    pub endpoint: String,
}

/// The program named by `ETCD_BIN`, else `etcd` on `PATH`; `None` if there is none.
pub fn etcd_program() -> Option<PathBuf> {
    program("ETCD_BIN", "etcd")
}

/// The program named by an environment variable, else found on `PATH`.
pub fn program(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(path.into());
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

impl RealEtcd {
    /// Starts one and waits until it serves; `None`, with a word on stderr, if the machine has none.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(data: &Path) -> Option<Self> {
        let Some(program) = etcd_program() else {
            eprintln!("skipped: no etcd (set ETCD_BIN or put it on PATH)");
            return None;
        };
        let client = format!("http://127.0.0.1:{}", free_port());
        Some(Self::start_at(&program, data, &client, &[]))
    }

    /// Starts `program` at a given client URL, with more flags.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start_at(program: &Path, data: &Path, client: &str, more: &[&str]) -> Self {
        let peer = format!("http://127.0.0.1:{}", free_port());
        let args: [OsString; 12] = [
            "--data-dir".into(),
            data.into(),
            "--listen-client-urls".into(),
            client.into(),
            "--advertise-client-urls".into(),
            client.into(),
            "--listen-peer-urls".into(),
            (&peer).into(),
            "--initial-advertise-peer-urls".into(),
            (&peer).into(),
            "--initial-cluster".into(),
            format!("default={peer}").into(),
        ];
        let mut child = Command::new(program)
            .args(args)
            .args(more)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("etcd starts");
        let mut log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let mut seen = Vec::new();
        loop {
            let line = log.next().and_then(Result::ok);
            let line = line.unwrap_or_else(|| panic!("etcd did not come up:\n{}", seen.join("\n")));
            let serves = line.contains("ready to serve client requests");
            seen.push(line);
            if serves {
                break;
            }
        }
        // Read on, or the pipe fills and etcd stops.
        std::thread::spawn(move || log.for_each(drop));
        Self { child, endpoint: client.to_owned() }
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that was free a moment ago.
///
/// # Panics
/// If the machine has none.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}
