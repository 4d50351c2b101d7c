//! Probes and lifecycle handlers.

use meta::names;
use serde_json::Value;

use crate::C;

/// Liveness and startup probes.
pub fn liveness(probe: &C, grace: Option<i64>) {
    if probe.exists() {
        validate(probe, grace);
        let successes = probe.get("successThreshold");
        if successes.int() != 1 {
            successes.invalid_value(successes.int(), "must be 1");
        }
    }
}

/// Readiness probes.
pub fn readiness(probe: &C, grace: Option<i64>) {
    if probe.exists() {
        validate(probe, grace);
        let own = probe.get("terminationGracePeriodSeconds");
        if own.exists() {
            own.invalid("must not be set for readinessProbes");
        }
    }
}

fn validate(probe: &C, grace: Option<i64>) {
    handler(probe, grace);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        probe.get(field).non_negative();
    }
    let own = probe.get("terminationGracePeriodSeconds");
    if own.exists() {
        own.positive();
    }
}

/// Exactly one handler, and that one valid.
pub fn handler(holder: &C, grace: Option<i64>) {
    let mut count = 0;
    for kind in ["exec", "httpGet", "tcpSocket", "grpc", "sleep"] {
        let handler = holder.get(kind);
        if !handler.exists() {
            continue;
        }
        count += 1;
        if count > 1 {
            handler.forbidden("may not specify more than 1 handler type");
            continue;
        }
        match kind {
            "exec" => {
                handler.get("command").required();
            }
            "httpGet" => http_get(&handler),
            "tcpSocket" => port_num_or_name(&handler.get("port")),
            "grpc" => handler.get("port").invalid_all(names::port_num(handler.get("port").int())),
            _ => sleep(&handler, grace),
        }
    }
    if count == 0 {
        holder.missing("must specify a handler type");
    }
}

fn http_get(action: &C) {
    action.get("path").required();
    port_num_or_name(&action.get("port"));
    action.get("scheme").one_of(&["HTTP", "HTTPS"]);
    for header in action.get("httpHeaders").items() {
        let name = header.get("name").str();
        for finding in names::http_header_name(name) {
            action.get("httpHeaders").invalid_value(name, finding);
        }
    }
}

fn sleep(action: &C, grace: Option<i64>) {
    let (seconds, grace) = (action.get("seconds").int(), grace.unwrap_or(0));
    if seconds < 0 || seconds > grace {
        let word = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
        action.invalid_value(seconds, word);
    }
}

/// A port given by number or by name.
pub fn port_num_or_name(port: &C) {
    match port.value() {
        Some(Value::String(name)) => port.invalid_all(names::port_name(name)),
        _ => {
            for finding in names::port_num(port.int()) {
                port.invalid_value(port.int(), finding);
            }
        }
    }
}
