//! Starting one container: image, configuration, create, start, postStart.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use informer::EventType;
use node_api::{ContainerState, ImageSpec, Mount};
use rt::Shutdown;
use volumes::Mounted;

use super::{Done, Failure, Worker, hooks, images, kill};
use crate::k8s::{Container, Kind, Pod, PodExt};
use crate::pod::observed::Observed;
use crate::pod::plan;
use crate::shared::Shared;
use crate::spec::security::NodeSecurity;
use crate::spec::{ConfigError, container as spec, env, hosts, sandbox, service_env};

struct Start {
    shared: Arc<Shared>,
    pod: Arc<Pod>,
    container: Container,
    sandbox_id: String,
    restart_count: u32,
    mounted: Arc<BTreeMap<String, Mounted>>,
    observed: Observed,
    target: Option<String>,
    cancel: Shutdown,
}

impl Worker {
    pub(super) fn start(&mut self, start: plan::Start, container: Container) {
        let (Some(sandbox), Some(mounted)) = (self.observed.ready_sandbox(), self.volumes.mounted.clone()) else {
            return;
        };
        let sandbox_id = sandbox.id.clone();
        self.count_restart(&container);
        self.starting = Some(container.name.clone());
        let target =
            if start.kind == plan::Kind::Ephemeral { spec::target_of(&self.pod, &container.name) } else { None };
        let start = Start {
            shared: self.shared.clone(),
            pod: self.pod.clone(),
            sandbox_id,
            restart_count: self.next_restart_count(&container.name),
            container,
            mounted,
            observed: self.observed.clone(),
            target,
            cancel: self.cancel.clone(),
        };
        self.push(async move {
            let name = start.container.name.clone();
            let result = start.run().await;
            Done::Started { name, result }
        });
    }
}

impl Start {
    fn tell(&self, kind: EventType, reason: &str, text: impl Into<String>) {
        self.shared.events.container(&self.pod, &self.container.name, kind, reason, text);
    }

    fn fail(&self, reason: &str, text: String) -> Failure {
        self.tell(EventType::Warning, "Failed", format!("Error: {text}"));
        Failure { waiting: (reason.to_owned(), text), retry_at: None }
    }

    async fn run(self) -> Result<(), Failure> {
        let image = self.container.image.clone().unwrap_or_default();
        let policy = self.container.image_pull_policy.as_deref();
        let name = &self.container.name;
        let begun = rt::time::Instant::now();
        let image = images::ensure(&self.shared, &self.pod, name, &image, policy, &self.cancel).await?;
        let volumes = self.image_volumes().await?;
        let pulled = begun.elapsed();
        let permit = self.shared.starts.acquire().await;
        let waited = begun.elapsed();
        let config = self.config(&image, &volumes).await;
        let config = config.map_err(|e| self.fail("CreateContainerConfigError", e.to_string()))?;
        let runtime = &self.shared.runtime;
        let made = runtime.create_container(&self.sandbox_id, &config).await;
        let id = made.map_err(|e| self.fail("CreateContainerError", e.chain()))?;
        let created = begun.elapsed();
        self.tell(EventType::Normal, "Created", "Container created");
        if let Err(error) = runtime.start_container(&id).await {
            return Err(self.fail("RunContainerError", error.chain()));
        }
        drop(permit);
        let started = begun.elapsed();
        tracing::debug!(
            pod = self.pod.name(),
            container = name,
            ?pulled,
            ?waited,
            ?created,
            ?started,
            "container started"
        );
        self.link_log(&id);
        self.tell(EventType::Normal, "Started", "Container started");
        self.post_start(&id).await
    }

    fn link_log(&self, id: &str) {
        let logs = &self.shared.config.pod_logs_dir;
        let link = sandbox::log_link(logs, &self.pod, &self.container.name, id);
        let log =
            sandbox::log_directory(logs, &self.pod).join(spec::log_path(&self.container.name, self.restart_count));
        // Collectors are optional; a node without their directory goes without links.
        if link.parent().is_some_and(Path::is_dir) {
            let _ = std::os::unix::fs::symlink(log, link);
        }
    }

    async fn post_start(&self, id: &str) -> Result<(), Failure> {
        let Some(hook) = self.container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else { return Ok(()) };
        let ip = self.shared.facts(&self.pod, &self.observed).pod_ips.first().cloned().unwrap_or_default();
        let ran = self.cancel.run(hooks::run(&self.shared, id, &self.container, &ip, hook)).await;
        let Some(Err(text)) = ran else { return Ok(()) };
        self.tell(EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
        let kill = kill::Kill {
            id: id.to_owned(),
            container: self.container.clone(),
            message: "FailedPostStartHook".to_owned(),
            grace: self.pod.spec().termination_grace_period_seconds.unwrap_or(30),
            after: Vec::new(),
            ended: rt::sync::watch::Sender::new(false),
            shorten: self.cancel.clone(),
            ip,
            quiet: false,
        };
        self.cancel.run(kill::run(&self.shared, &self.pod, kill)).await;
        // The next start waits for the crash back-off, which counts the end of this container.
        Err(Failure { waiting: ("PostStartHookError".to_owned(), text), retry_at: Some(rt::time::now()) })
    }

    /// Image volumes the container mounts, pulled.
    async fn image_volumes(&self) -> Result<BTreeMap<String, ImageSpec>, Failure> {
        let mut out = BTreeMap::new();
        for mount in self.container.volume_mounts.iter().flatten() {
            let Some((reference, policy)) = self.mounted.get(&mount.name).and_then(|m| m.image.clone()) else {
                continue;
            };
            if out.contains_key(&mount.name) {
                continue;
            }
            let name = &self.container.name;
            let ready =
                images::ensure(&self.shared, &self.pod, name, &reference, policy.as_deref(), &self.cancel).await?;
            let spec = ImageSpec { image: ready.id, user_specified_image: reference, ..ImageSpec::default() };
            out.insert(mount.name.clone(), spec);
        }
        Ok(out)
    }

    async fn config(
        &self,
        image: &images::Ready,
        volumes: &BTreeMap<String, ImageSpec>,
    ) -> Result<node_api::ContainerConfig, ConfigError> {
        let env = self.env().await?;
        let mounts = self.mounts(&env, volumes)?;
        let target_id = match &self.target {
            None => None,
            Some(name) => {
                let running = self.observed.latest(name).filter(|s| s.state == ContainerState::Running);
                let missing = || ConfigError(format!("unable to find target container {name:?}"));
                Some(running.ok_or_else(missing)?.id.clone())
            }
        };
        let config = &self.shared.config;
        spec::config(spec::Inputs {
            pod: &self.pod,
            container: &self.container,
            restart_count: self.restart_count,
            image_id: &image.id,
            image_user: &image.user,
            env: &env,
            mounts,
            security: NodeSecurity {
                seccomp_root: &config.root_dir.join("seccomp"),
                seccomp_default: config.seccomp_default,
            },
            memory_capacity: self.shared.machine.memory,
            target_id,
        })
    }

    async fn env(&self) -> Result<BTreeMap<String, String>, ConfigError> {
        let (maps, secrets) = env::references(&self.container);
        let (namespace, user) = (self.pod.namespace(), self.pod.uid());
        let mut referenced = env::Referenced::default();
        if !maps.is_empty() || !secrets.is_empty() {
            let objects = self.shared.objects.as_ref();
            let objects = objects.ok_or_else(|| ConfigError::new("there is no API server to read objects from"))?;
            for name in maps {
                let map =
                    objects.config_map_for(user, namespace, &name).await.map_err(|e| ConfigError(e.to_string()))?;
                referenced.config_maps.insert(name, map);
            }
            for name in secrets {
                let secret =
                    objects.secret_for(user, namespace, &name).await.map_err(|e| ConfigError(e.to_string()))?;
                referenced.secrets.insert(name, secret);
            }
        }
        let links = self.pod.spec().enable_service_links.unwrap_or(true);
        let services = service_env::variables(&self.shared.services_in(namespace), namespace, links);
        env::build(&env::Inputs {
            pod: &self.pod,
            container: &self.container,
            facts: &self.shared.facts(&self.pod, &self.observed),
            referenced: &referenced,
            services,
            volumes: &|name| self.mounted.get(name).map(|m| m.path.clone()),
        })
    }

    fn mounts(
        &self,
        env: &BTreeMap<String, String>,
        images: &BTreeMap<String, ImageSpec>,
    ) -> Result<Vec<Mount>, ConfigError> {
        let facts = self.shared.facts(&self.pod, &self.observed);
        let cx = self.shared.volumes.context(self.pod.clone(), facts.clone());
        let sub_path = |volume: &str, root: &Path, part: &str, index: usize| {
            let bound = self.shared.volumes.sub_path(&cx, volume, root, part, &self.container.name, index);
            bound.map_err(|e| {
                ConfigError(format!(
                    "failed to prepare subPath for volumeMount {volume:?} of container {:?}: {e}",
                    self.container.name
                ))
            })
        };
        let mut mounts = spec::volume_mounts(&self.container, env, &self.mounted, images, &sub_path)?;
        if !spec::mounts_at(&self.container, "/etc/hosts") && (self.pod.host_network() || !facts.pod_ips.is_empty()) {
            let path = self.hosts_file(&cx.dir, &facts.pod_ips)?;
            mounts.push(file_mount("/etc/hosts", path, false));
        }
        let message = self.container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        if !message.is_empty() {
            let path = self.message_file(&cx.dir)?;
            mounts.push(file_mount(message, path, false));
        }
        Ok(mounts)
    }

    fn hosts_file(&self, dir: &Path, ips: &[String]) -> Result<PathBuf, ConfigError> {
        let path = dir.join("etc-hosts");
        let node = if self.pod.host_network() {
            std::fs::read_to_string("/etc/hosts").unwrap_or_default()
        } else {
            String::new()
        };
        let text = hosts::file(&self.pod, ips, &self.shared.config.cluster_domain, &node);
        if std::fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(path);
        }
        // Written in place: containers of the pod that run already have this very file mounted.
        let done = std::fs::write(&path, text).and_then(|()| set_mode(&path, 0o644));
        done.map_err(|e| ConfigError(format!("write {}: {e}", path.display())))?;
        Ok(path)
    }

    fn message_file(&self, dir: &Path) -> Result<PathBuf, ConfigError> {
        let dir = dir.join("containers").join(&self.container.name);
        let path = dir.join(rt::rand::name_suffix(8));
        let make = || {
            std::fs::create_dir_all(&dir)?;
            std::fs::write(&path, b"")?;
            // Whatever user the container runs as may write its last words.
            set_mode(&path, 0o666)
        };
        make().map_err(|e| ConfigError(format!("create {}: {e}", path.display())))?;
        Ok(path)
    }
}

fn set_mode(path: &Path, mode: u32) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

fn file_mount(container_path: &str, path: PathBuf, readonly: bool) -> Mount {
    Mount {
        container_path: container_path.to_owned(),
        host_path: path.to_string_lossy().into_owned(),
        readonly,
        ..Mount::default()
    }
}
