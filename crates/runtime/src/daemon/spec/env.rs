//! Arguments and environment.

use node_api::{ContainerConfig, Error, ImageRunConfig, Result};

use super::super::records::Pod;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `command` replaces the entrypoint and with it the image's arguments; `args` alone replaces only those.
pub(super) fn arguments(config: &ContainerConfig, image: &ImageRunConfig) -> Result<Vec<String>> {
    let mut arguments = Vec::new();
    if config.command.is_empty() {
        arguments.extend_from_slice(&image.entrypoint);
        arguments.extend_from_slice(if config.args.is_empty() { &image.cmd } else { &config.args });
    } else {
        arguments.extend_from_slice(&config.command);
        arguments.extend_from_slice(&config.args);
    }
    if arguments.is_empty() {
        return Err(Error::Container { context: "no command specified".to_owned(), source: None });
    }
    Ok(arguments)
}

/// Host name, the image's variables, the configured ones, each name once (the last value wins, in the first's place),
/// and defaults for PATH, TERM and HOME.
pub(super) fn environment(pod: &Pod, config: &ContainerConfig, image: &ImageRunConfig, home: &str) -> Vec<String> {
    let mut env: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match env.iter_mut().find(|(n, _)| n == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", DEFAULT_PATH);
    let hostname = match pod.record.config.hostname.as_str() {
        "" => rustix::system::uname().nodename().to_string_lossy().into_owned(),
        name => name.to_owned(),
    };
    set("HOSTNAME", &hostname);
    if config.tty {
        set("TERM", "xterm");
    }
    for variable in &image.env {
        if let Some((name, value)) = variable.split_once('=') {
            set(name, value);
        }
    }
    for variable in &config.envs {
        set(&variable.key, &variable.value);
    }
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), home.to_owned()));
    }
    env.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}
