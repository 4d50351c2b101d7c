//! `corten hollow-node`: nodes without machines, for clusters larger than the machine.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use client::Kubeconfig;
use hollow::{Fixed, Fleet, NodeSpec, Times};
use rt::Shutdown;

/// Registers nodes that run no containers: real requests, no machine.
///
/// Each node renews its lease, posts its status, and takes pods that are bound to it through their life: Running and Ready
/// after --pod-start-delay, restarted or ended as their restart policy says, gone within their grace period. All nodes share
/// one watch, so that thousands fit in one process. The nodes stay when the command ends, as those of kubelets do.
#[derive(Debug, Parser)]
#[command(name = "corten hollow-node", next_line_help = true)]
struct Flags {
    /// How many nodes.
    #[arg(long, default_value_t = 1)]
    count: usize,
    /// The nodes are called so, with a number: hollow-00000.
    #[arg(long, default_value = "hollow-", value_name = "PREFIX")]
    name_prefix: String,
    /// The number of the first node.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    first: usize,
    /// How to reach the API server; its user needs the rights of all the nodes.
    #[arg(long, env = "KUBECONFIG")]
    kubeconfig: PathBuf,
    /// How long the containers of a pod take to start: 500ms, 2s.
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    pod_start_delay: Duration,
    /// How long containers run that are not to be restarted for ever.
    #[arg(long, default_value = "1s", value_parser = duration, value_name = "TIME")]
    pod_run_time: Duration,
    /// How long containers take to stop when told to.
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "TIME")]
    pod_stop_time: Duration,
    /// Processors of each node.
    #[arg(long, default_value = "32", value_name = "QUANTITY")]
    cpu: String,
    /// Memory of each node.
    #[arg(long, default_value = "256Gi", value_name = "QUANTITY")]
    memory: String,
    /// Pods that each node takes.
    #[arg(long, default_value = "110", value_name = "NUMBER")]
    pods: String,
    /// A label of each node, KEY=VALUE; may be repeated.
    #[arg(long = "label", value_parser = label, value_name = "KEY=VALUE")]
    labels: Vec<(String, String)>,
    /// Time between renewals of a node's lease.
    #[arg(long, default_value = "10s", value_parser = duration, value_name = "TIME")]
    heartbeat: Duration,
    /// Requests about nodes, and as many about pods, that are made at a time.
    #[arg(long, default_value_t = 16, value_name = "NUMBER")]
    concurrency: usize,
    /// Log verbosity.
    #[arg(short, default_value_t = 2)]
    v: u8,
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| format!("\"{text}\" does not begin with a number"))?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number * 60)),
        unit => Err(format!("\"{unit}\" is no unit of time: use ms, s or m")),
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("\"{text}\" is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

impl Flags {
    fn node(&self, number: usize) -> NodeSpec {
        let name = format!("{}{number:05}", self.name_prefix);
        let capacity =
            [("cpu", &*self.cpu), ("memory", &*self.memory), ("ephemeral-storage", "1Ti"), ("pods", &*self.pods)];
        let spec = NodeSpec::new(name).with_capacity(&capacity);
        self.labels.iter().fold(spec, |spec, (key, value)| spec.with_label(key, value))
    }
}

/// Runs the command until shutdown; gives the exit code.
pub(crate) async fn main(arguments: Vec<OsString>, shutdown: Shutdown) -> u8 {
    let flags = match Flags::try_parse_from(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // Nothing is left to be done when standard error is gone.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(1);
        }
    };
    telemetry::logs::init(telemetry::logs::Format::Text, flags.v);
    for (flag, quantity) in [("--cpu", &flags.cpu), ("--memory", &flags.memory), ("--pods", &flags.pods)] {
        if let Err(error) = quantity.parse::<meta::quantity::Quantity>() {
            eprintln!("corten hollow-node: {flag} {quantity}: {error}");
            return 2;
        }
    }
    let client = match Kubeconfig::load(&flags.kubeconfig).and_then(|k| k.client("corten-hollow-node")) {
        Ok(client) => client,
        Err(error) => {
            eprintln!("corten hollow-node: {error}");
            return 1;
        }
    };
    let nodes = (flags.first..flags.first + flags.count).map(|number| flags.node(number)).collect();
    let behaviour = Fixed { start: flags.pod_start_delay, run: flags.pod_run_time, stop: flags.pod_stop_time };
    let times = Times {
        heartbeat: flags.heartbeat,
        lease: flags.heartbeat * 4,
        workers: flags.concurrency,
        ..Times::default()
    };
    Fleet::new(client, nodes, Arc::new(behaviour), times).run(shutdown).await;
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_labels() {
        for (text, want) in [("500ms", Some(500)), ("2s", Some(2000)), ("1m", Some(60_000)), ("5", None), ("s", None)] {
            assert_eq!(duration(text).ok(), want.map(Duration::from_millis), "{text}");
        }
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("a").is_err());
    }

    #[test]
    fn flags_make_nodes() {
        let flags =
            Flags::try_parse_from(["x", "--kubeconfig", "k", "--count", "2", "--cpu", "4", "--label", "zone=a"]);
        let node = flags.unwrap().node(7);
        assert_eq!(node.name, "hollow-00007");
        assert!(node.capacity.contains(&("cpu".to_owned(), "4".to_owned())));
        assert_eq!(node.labels, [("zone".to_owned(), "a".to_owned())]);
    }
}
