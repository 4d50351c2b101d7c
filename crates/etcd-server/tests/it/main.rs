//! The etcd face against the store's contract, through our own client, and against etcdctl.

mod contract;
mod etcdctl;
mod tls;

use std::{ffi::OsString, path::Path};

/// A face on a fresh store, in this process.
pub struct Server {
    /// Where it serves.
    pub endpoint: String,
    shutdown: rt::Shutdown,
    task: rt::JoinHandle<u8>,
}

impl Server {
    /// Starts one and waits until it takes connections.
    pub async fn start(data: &Path, more: &[&str]) -> Self {
        let endpoint = format!("http://127.0.0.1:{}", testkit::etcd::free_port());
        Self::start_at(data, endpoint, more).await
    }

    /// Starts one at a given URL.
    pub async fn start_at(data: &Path, endpoint: String, more: &[&str]) -> Self {
        let mut args: Vec<OsString> = vec!["etcd".into(), "--data-dir".into(), data.into()];
        for flag in ["--listen-client-urls", "--advertise-client-urls"] {
            args.extend([flag.into(), endpoint.clone().into()]);
        }
        args.extend(more.iter().map(OsString::from));
        let shutdown = rt::Shutdown::new();
        let task = rt::spawn("etcd", etcd_server::run(args, shutdown.clone()));
        let address = endpoint.split("//").nth(1).expect("a URL").to_owned();
        let up = async {
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                assert!(!task.is_finished(), "the server ended at once");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), up).await.expect("the server comes up");
        Self { endpoint, shutdown, task }
    }

    /// Stops it and returns its exit code.
    pub async fn stop(self) -> u8 {
        self.shutdown.cancel();
        self.task.await.expect("the server does not panic")
    }

    /// A client of it.
    pub fn client(&self) -> std::sync::Arc<store::Etcd> {
        let options = store::EtcdOptions { endpoints: vec![self.endpoint.clone()], ..Default::default() };
        store::Etcd::connect(options).expect("options")
    }
}
