//! Running one probe once.

use std::sync::Arc;
use std::time::Duration;

use informer::EventType;
use node_api::RuntimeService;

use super::{Kind, Target, grpc, http};
use crate::events::Events;
use crate::k8s::{Container, IntOrString, Probe};

const MAX_OUTPUT: usize = 10 << 10;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Well.
    Success,
    /// Well, with something to say.
    Warning(String),
    /// Not well.
    Failure(String),
    /// It could not be found out; the result does not count.
    Error(String),
}

/// Runs probes against containers.
#[derive(Clone)]
pub struct Runner {
    /// For exec probes.
    pub runtime: Arc<dyn RuntimeService>,
    /// Where failures are told.
    pub events: Events,
}

impl Runner {
    /// Runs a probe; `None` where its outcome does not count.
    pub async fn probe(&self, kind: Kind, probe: &Probe, target: &Target) -> Option<bool> {
        let outcome = self.run(probe, target).await;
        let tell = |reason: &str, message: String| {
            self.events.container(&target.pod, &target.container.name, EventType::Warning, reason, message);
        };
        match outcome {
            Outcome::Success => Some(true),
            Outcome::Warning(text) => {
                tell("ProbeWarning", format!("{} probe warning: {text}", kind.text()));
                Some(true)
            }
            Outcome::Failure(text) => {
                tell("Unhealthy", format!("{} probe failed: {text}", kind.text()));
                Some(false)
            }
            Outcome::Error(text) => {
                tell("Unhealthy", format!("{} probe errored and resulted in unknown state: {text}", kind.text()));
                None
            }
        }
    }

    async fn run(&self, probe: &Probe, target: &Target) -> Outcome {
        let timeout = Duration::from_secs(u64::try_from(probe.timeout_seconds.unwrap_or(1)).unwrap_or(1).max(1));
        if let Some(exec) = &probe.exec {
            return self.exec(&target.id, exec.command.as_deref().unwrap_or_default(), timeout).await;
        }
        if let Some(get) = &probe.http_get {
            let Some(port) = port(&get.port, &target.container) else {
                return Outcome::Error(format!("couldn't find port: {}", show(&get.port)));
            };
            let request = http::Request::probe(get, port, &target.ip);
            return http::get(&request, timeout).await;
        }
        if let Some(tcp) = &probe.tcp_socket {
            let Some(port) = port(&tcp.port, &target.container) else {
                return Outcome::Error(format!("couldn't find port: {}", show(&tcp.port)));
            };
            let host = tcp.host.as_deref().filter(|h| !h.is_empty()).unwrap_or(&target.ip);
            return match http::dial(host, port, timeout).await {
                Ok(_) => Outcome::Success,
                Err(text) => Outcome::Failure(text),
            };
        }
        if let Some(call) = &probe.grpc {
            let port = u16::try_from(call.port).unwrap_or(0);
            return grpc::check(&target.ip, port, call.service.as_deref().unwrap_or_default(), timeout).await;
        }
        Outcome::Error(format!(
            "missing probe handler for {}:{}",
            target.pod.metadata.name.as_deref().unwrap_or_default(),
            target.container.name
        ))
    }

    async fn exec(&self, id: &str, command: &[String], timeout: Duration) -> Outcome {
        match self.runtime.exec_sync(id, command, Some(timeout)).await {
            Ok(done) => {
                let mut output = done.stdout;
                output.extend_from_slice(&done.stderr);
                output.truncate(MAX_OUTPUT);
                let text = String::from_utf8_lossy(&output).into_owned();
                if done.exit_code == 0 { Outcome::Success } else { Outcome::Failure(text) }
            }
            Err(node_api::Error::DeadlineExceeded(_)) => Outcome::Failure(format!(
                "command timed out: {:?} timed out after {}s",
                command.join(" "),
                timeout.as_secs()
            )),
            Err(error) if error.is_not_found() => Outcome::Error(error.chain()),
            Err(error) => Outcome::Failure(error.chain()),
        }
    }
}

/// A port by number or by name.
#[must_use]
pub fn port(port: &IntOrString, container: &Container) -> Option<u16> {
    match port {
        IntOrString::Int(number) => u16::try_from(*number).ok().filter(|p| *p != 0),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|p| p.name.as_deref() == Some(name));
            named.map_or_else(|| name.parse().ok(), |p| u16::try_from(p.container_port).ok())
        }
    }
}

fn show(port: &IntOrString) -> String {
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}
