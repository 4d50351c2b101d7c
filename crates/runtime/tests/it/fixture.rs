//! A runtime in a temporary directory, with one image made of the machine's static busybox.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use node_api::*;
use runtime::{Options, Runtime};

/// One layer.
struct OneImage(PathBuf);

#[async_trait]
impl ImageSource for OneImage {
    async fn content(&self, _image: &ImageSpec) -> Result<ImageContent> {
        Ok(ImageContent {
            id: "sha256:test".to_owned(),
            image_ref: "test".to_owned(),
            name: "test:1".to_owned(),
            layers: vec![self.0.clone()],
            config: ImageRunConfig::default(),
        })
    }
    async fn acquire(&self, _image_id: &str, _user: &str) -> Result<()> {
        Ok(())
    }
    async fn release(&self, _user: &str) {}
}

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub runtime: Runtime,
    pub cgroup: String,
}

fn layer(dir: &Path) -> PathBuf {
    let layer = dir.join("layers/1");
    for sub in ["bin", "etc", "tmp"] {
        std::fs::create_dir_all(layer.join(sub)).unwrap();
    }
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).expect("busybox-static is installed");
    let applets = "sh cat echo sleep true id grep touch hostname env ps wc ls ip stty tty nc tr printf readlink";
    for applet in applets.split(' ') {
        std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    std::fs::write(layer.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").unwrap();
    layer
}

async fn open(dir: &Path) -> Runtime {
    let mut options = Options::new(Arc::new(OneImage(dir.join("layers/1"))));
    options.supervisor = PathBuf::from(env!("CARGO_BIN_EXE_corten-supervisor"));
    Runtime::open(dir.join("runtime"), options).await.unwrap()
}

impl Fixture {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        layer(dir.path());
        let runtime = open(dir.path()).await;
        let name = dir.path().file_name().unwrap().to_string_lossy().trim_start_matches('.').to_owned();
        Self { dir, runtime, cgroup: format!("/corten-test-{name}/pod") }
    }

    /// Ends the daemon and starts another one.
    pub async fn reopen(&mut self) {
        let other = tempfile::tempdir().unwrap();
        let mut options = Options::new(Arc::new(OneImage(self.dir.path().join("layers/1"))));
        options.supervisor = PathBuf::from(env!("CARGO_BIN_EXE_corten-supervisor"));
        let stand_in = Runtime::open(other.path(), options).await.unwrap();
        drop(std::mem::replace(&mut self.runtime, stand_in));
        self.runtime = loop {
            // The old one's tasks let go of it a moment later.
            let mut options = Options::new(Arc::new(OneImage(self.dir.path().join("layers/1"))));
            options.supervisor = PathBuf::from(env!("CARGO_BIN_EXE_corten-supervisor"));
            match Runtime::open(self.dir.path().join("runtime"), options).await {
                Ok(runtime) => break runtime,
                Err(Error::FailedPrecondition(_)) => tokio::task::yield_now().await,
                Err(error) => panic!("{}", error.chain()),
            }
        };
    }

    pub async fn run(&self, config: &PodSandboxConfig) -> String {
        let mut config = config.clone();
        config.log_directory = self.dir.path().join("logs").display().to_string();
        match self.runtime.run_pod_sandbox(&config, "").await {
            Ok(id) => id,
            Err(error) => panic!("{}", error.chain()),
        }
    }

    pub async fn start(&self, pod: &str, config: &ContainerConfig) -> String {
        let id = match self.runtime.create_container(pod, config).await {
            Ok(id) => id,
            Err(error) => panic!("{}", error.chain()),
        };
        if let Err(error) = self.runtime.start_container(&id).await {
            panic!("{}", error.chain());
        }
        id
    }

    /// Waits for a container's end.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        use futures::StreamExt;
        let mut events = self.runtime.container_events().await.unwrap();
        loop {
            let status = self.runtime.container_status(id).await.unwrap();
            if status.state == ContainerState::Exited {
                return status;
            }
            let next = tokio::time::timeout(Duration::from_secs(30), events.next()).await;
            next.expect("the container ends");
        }
    }

    /// Waits until the log holds a text.
    pub async fn log_has(&self, id: &str, text: &str) {
        let path = self.runtime.container_status(id).await.unwrap().log_path;
        while !std::fs::read_to_string(&path).unwrap_or_default().contains(text) {
            tokio::task::yield_now().await;
        }
    }

    fn supervisor_pid(&self, pod: &str) -> u32 {
        let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_string_lossy().parse().ok()?;
            let cmdline = std::fs::read(entry.path().join("cmdline")).ok()?;
            let text = String::from_utf8_lossy(&cmdline).into_owned();
            (text.starts_with("corten-supervisor") && text.contains(pod)).then_some(pid)
        });
        found.expect("the supervisor runs")
    }

    pub fn kill_supervisor(&self, pod: &str) {
        sys::process::kill(self.supervisor_pid(pod), 9).unwrap();
    }

    pub fn supervisor_pss(&self, pod: &str) -> u64 {
        let path = format!("/proc/{}/smaps_rollup", self.supervisor_pid(pod));
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("Pss:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits until a process is gone.
    pub async fn gone(&self, pid: u32) {
        let alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z")
        };
        while alive() {
            tokio::task::yield_now().await;
        }
    }

    /// Removes all pods, and checks that nothing is left.
    pub async fn close(self) {
        for pod in self.runtime.list_pod_sandboxes(&PodSandboxFilter::default()).await.unwrap() {
            self.runtime.remove_pod_sandbox(&pod.id).await.unwrap();
        }
        let left = |dir: &str| std::fs::read_dir(self.dir.path().join("runtime").join(dir)).unwrap().count();
        assert_eq!((left("pods"), left("netns")), (0, 0));
        let mounts = sys::mount::mount_table().unwrap();
        assert!(!mounts.iter().any(|m| m.target.starts_with(self.dir.path())), "a mount is left");
        let group = sys::cgroup::Hierarchies::detect().unwrap().group(Path::new(&self.cgroup).parent().unwrap());
        if group.exists() {
            assert!(group.wait_empty(Duration::from_secs(5)), "a process is left");
            group.remove().unwrap();
        }
    }
}

impl Drop for Fixture {
    /// Ends what a failed test left running.
    fn drop(&mut self) {
        for pod in std::fs::read_dir(self.dir.path().join("runtime/pods")).into_iter().flatten().flatten() {
            if let Ok(socket) = sys::fdpass::connect(&pod.path().join("sock")) {
                let request = runtime::proto::Request { seq: 1, op: runtime::proto::Op::Shutdown };
                let _ = sys::fdpass::send(&socket, &serde_json::to_vec(&request).unwrap(), &[]);
                while let Ok(Some(_)) = sys::fdpass::recv(&socket) {}
            }
            let _ = sys::mount::unmount_below(&pod.path());
        }
        for netns in std::fs::read_dir(self.dir.path().join("runtime/netns")).into_iter().flatten().flatten() {
            let _ = sys::namespace::unpin(&netns.path());
        }
    }
}

pub fn sandbox(name: &str) -> PodSandboxConfig {
    let mut config = PodSandboxConfig {
        metadata: PodSandboxMetadata { name: name.to_owned(), uid: "uid".to_owned(), ..Default::default() },
        hostname: name.to_owned(),
        dns_config: Some(DnsConfig {
            servers: vec!["10.0.0.1".to_owned()],
            searches: vec!["a.b".to_owned()],
            options: vec!["ndots:5".to_owned()],
        }),
        ..Default::default()
    };
    config.linux.security_context.namespace_options.pid = NamespaceMode::Container;
    config
}

pub fn container(name: &str, args: &[&str]) -> ContainerConfig {
    let mut config = ContainerConfig {
        metadata: ContainerMetadata { name: name.to_owned(), attempt: 0 },
        args: args.iter().map(|a| (*a).to_owned()).collect(),
        log_path: format!("{name}.log"),
        ..Default::default()
    };
    config.linux.security_context.namespace_options.pid = NamespaceMode::Container;
    config
}
