//! Ingress.

use crate::{C, Rules};

use meta::names;
use serde_json::Value;

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_status: status, ..Rules::NONE };

fn validate(ingress: &C) {
    let spec = ingress.get("spec");
    let (rules, default) = (spec.get("rules"), spec.get("defaultBackend"));
    if rules.is_empty() && !default.exists() {
        spec.invalid_value(Value::Null, "either `defaultBackend` or `rules` must be specified");
    }
    if default.exists() {
        backend(&default);
    }
    for rule in rules.items() {
        host(&rule.get("host"));
        let http = rule.get("http");
        if !http.exists() {
            continue;
        }
        http.get("paths").required();
        for path in http.get("paths").items() {
            self::path(&path);
        }
    }
    for tls in spec.get("tls").items() {
        for name in tls.get("hosts").items() {
            dns_name(&name);
        }
        let secret = tls.get("secretName");
        if !secret.is_zero() {
            secret.check(names::dns1123_subdomain);
        }
    }
    let class = spec.get("ingressClassName");
    if class.exists() {
        class.check(names::dns1123_subdomain);
    }
}

fn host(host: &C) {
    if host.is_zero() {
        return;
    }
    if host.str().parse::<std::net::IpAddr>().is_ok() {
        host.invalid("must be a DNS name, not an IP address");
    }
    dns_name(host);
}

fn dns_name(name: &C) {
    if name.str().contains('*') {
        name.check(names::wildcard_dns1123_subdomain);
    } else {
        name.check(names::dns1123_subdomain);
    }
}

fn path(entry: &C) {
    let (path, kind) = (entry.get("path"), entry.get("pathType"));
    if !kind.exists() {
        return kind.missing("pathType must be specified");
    }
    match kind.str() {
        "Exact" | "Prefix" => {
            if !path.str().starts_with('/') {
                path.invalid_value(path.str(), "must be an absolute path");
            }
            for part in ["//", "/./", "/../", "%2f", "%2F"] {
                if path.str().contains(part) {
                    path.invalid(format!("must not contain '{part}'"));
                }
            }
            for end in ["/..", "/."] {
                if path.str().ends_with(end) {
                    path.invalid(format!("cannot end with '{end}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !path.is_zero() && !path.str().starts_with('/') {
                path.invalid("must be an absolute path");
            }
        }
        _ => kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(&entry.get("backend"));
}

fn backend(backend: &C) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.exists(), resource.exists()) {
        (true, true) => backend.invalid_value("", "cannot set both resource and service backends"),
        (false, true) => {
            resource.get("kind").required();
            resource.get("name").required();
        }
        (true, false) => {
            let name = service.get("name");
            if name.required() {
                name.check(names::dns1123_label);
            }
            let (port_name, number) = (service.get("port.name"), service.get("port.number"));
            match (!port_name.is_zero(), number.int() != 0) {
                (true, true) => backend.invalid_value("", "cannot set both port name & port number"),
                (true, false) => {
                    port_name.check(names::port_name);
                }
                (false, true) => number.invalid_all(names::port_num(number.int())),
                (false, false) => backend.missing("port name or number is required"),
            }
        }
        (false, false) => backend.invalid_value("", "resource or service backend is required"),
    }
}

fn status(new: &C, _old: &C) {
    for entry in new.get("status.loadBalancer.ingress").items() {
        let (ip, host) = (entry.get("ip"), entry.get("hostname"));
        if !ip.is_zero() {
            ip.check(names::ip);
        }
        if !host.is_zero() {
            host.check(names::dns1123_subdomain);
            if host.str().parse::<std::net::IpAddr>().is_ok() {
                host.invalid("must be a DNS name, not an IP address");
            }
        }
    }
}
