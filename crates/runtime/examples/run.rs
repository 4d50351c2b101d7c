//! Runs one container and prints what it prints: `run ROOT SUPERVISOR LAYER[:LAYER...] [FLAG...] -- COMMAND...`, the
//! lowest layer first. Flags: privileged, host-network, host-pid, host-ipc, readonly, seccomp, no-new-privs, user=N,
//! drop=CAP, add=CAP, mount=FROM:TO[:ro|rro|slave|shared], image=TO, repeat=N.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use node_api::*;

struct Layers(Vec<PathBuf>);

#[async_trait::async_trait]
impl ImageSource for Layers {
    async fn content(&self, _image: &ImageSpec) -> Result<ImageContent> {
        let config = ImageRunConfig { env: vec!["A=b".to_owned()], ..ImageRunConfig::default() };
        Ok(ImageContent {
            id: "sha256:x".into(),
            image_ref: "x".into(),
            name: "x".into(),
            layers: self.0.clone(),
            config,
        })
    }
    async fn acquire(&self, _image_id: &str, _user: &str) -> Result<()> {
        Ok(())
    }
    async fn release(&self, _user: &str) {}
}

fn apply(flag: &str, pod: &mut PodSandboxConfig, c: &mut ContainerConfig) -> usize {
    let namespaces = &mut pod.linux.security_context.namespace_options;
    let security = &mut c.linux.security_context;
    let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
    match name {
        "privileged" => security.privileged = true,
        "host-network" => namespaces.network = NamespaceMode::Node,
        "host-ipc" => namespaces.ipc = NamespaceMode::Node,
        "host-pid" => security.namespace_options.pid = NamespaceMode::Node,
        "readonly" => security.readonly_rootfs = true,
        "seccomp" => security.seccomp = SecurityProfile::RuntimeDefault,
        "no-new-privs" => security.no_new_privs = true,
        "user" => security.run_as_user = value.parse().ok(),
        "drop" => security.capabilities.drop.push(value.to_owned()),
        "add" => security.capabilities.add.push(value.to_owned()),
        "image" => c.mounts.push(Mount {
            container_path: value.to_owned(),
            image: Some(ImageSpec::default()),
            ..Mount::default()
        }),
        "mount" => {
            let mut parts = value.split(':');
            let mut mount = Mount { host_path: parts.next().unwrap_or("").to_owned(), ..Mount::default() };
            mount.container_path = parts.next().unwrap_or("").to_owned();
            match parts.next() {
                Some("ro") => mount.readonly = true,
                Some("rro") => (mount.readonly, mount.recursive_read_only) = (true, true),
                Some("slave") => mount.propagation = MountPropagation::HostToContainer,
                Some("shared") => mount.propagation = MountPropagation::Bidirectional,
                _ => {}
            }
            c.mounts.push(mount);
        }
        "repeat" => return value.parse().unwrap_or(1),
        other => eprintln!("unknown flag {other}"),
    }
    1
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let split = all.iter().position(|a| a == "--").expect("usage: see the top of this file");
    let (flags, command) = (&all[3..split], &all[split + 1..]);
    let layers = all[2].split(':').map(PathBuf::from).collect();
    let mut options = runtime::Options::new(Arc::new(Layers(layers)));
    options.supervisor = PathBuf::from(&all[1]);
    let runtime = runtime::Runtime::open(&all[0], options).await?;
    let mut pod = PodSandboxConfig {
        hostname: "run".to_owned(),
        log_directory: format!("{}/logs", all[0]),
        ..PodSandboxConfig::default()
    };
    let mut config = ContainerConfig { command: command.to_vec(), log_path: "0.log".into(), ..Default::default() };
    config.linux.security_context.namespace_options.pid = NamespaceMode::Container;
    let repeat = flags.iter().map(|f| apply(f, &mut pod, &mut config)).max().unwrap_or(1);
    let begin = std::time::Instant::now();
    let id = runtime.run_pod_sandbox(&pod, "").await?;
    eprintln!("sandbox {:?}", begin.elapsed());
    let mut times = Vec::new();
    for index in 0..repeat {
        config.log_path = format!("{index}.log");
        let begin = std::time::Instant::now();
        let result = one(&runtime, &id, &config).await;
        times.push(begin.elapsed());
        match result {
            Ok(status) if repeat == 1 => {
                let log = std::fs::read_to_string(&status.log_path).unwrap_or_default();
                log.lines().for_each(|l| println!("{}", l.splitn(4, ' ').nth(3).unwrap_or("")));
                eprintln!("exit {} {} {}", status.exit_code, status.reason, status.message);
            }
            Ok(_) => {}
            Err(error) => eprintln!("{}", error.chain()),
        }
    }
    times.sort();
    eprintln!("create+start+exit: median {:?}, worst {:?}", times[times.len() / 2], times[times.len() - 1]);
    let begin = std::time::Instant::now();
    runtime.remove_pod_sandbox(&id).await?;
    eprintln!("removed {:?}", begin.elapsed());
    Ok(())
}

async fn one(runtime: &runtime::Runtime, pod: &str, config: &ContainerConfig) -> Result<ContainerStatus> {
    let mut events = runtime.container_events().await?;
    let container = runtime.create_container(pod, config).await?;
    runtime.start_container(&container).await?;
    loop {
        let status = runtime.container_status(&container).await?;
        if status.state == ContainerState::Exited {
            return Ok(status);
        }
        events.next().await;
    }
}
