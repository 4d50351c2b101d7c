//! EndpointSlice.

use crate::{C, Defaults, Rules, Tree};

use meta::names;

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, validate_update: update, revalidate: false, ..Rules::NONE };

fn default(body: &mut Tree) {
    for port in body.each("ports") {
        port.default_value("name", "");
        port.default_value("protocol", "TCP");
    }
}

/// The most endpoints, ports and addresses of a slice.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
const MAX_ADDRESSES: usize = 100;
const MAX_HINTS: usize = 8;

fn validate(slice: &C) {
    let kind = slice.get("addressType");
    kind.required_one_of(&["FQDN", "IPv4", "IPv6"]);
    ports(&slice.get("ports"));
    endpoints(slice, kind.str());
}

fn endpoints(slice: &C, kind: &str) {
    let endpoints = slice.get("endpoints");
    if !endpoints.max_items(MAX_ENDPOINTS) {
        return;
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.get("addresses");
        if addresses.is_empty() {
            addresses.missing("must contain at least 1 address");
        }
        addresses.max_items(MAX_ADDRESSES);
        for address in addresses.items() {
            self::address(&address, &addresses, kind);
        }
        let optional = |field: &str, rule: fn(&str) -> Vec<String>| {
            let value = endpoint.get(field);
            if value.exists() {
                value.check(rule);
            }
        };
        optional("nodeName", names::dns1123_subdomain);
        optional("hostname", names::dns1123_label);
        crate::meta_v1::labels(&endpoint.get("deprecatedTopology"));
        hints(&endpoint.get("hints.forZones"), names::label_value);
        hints(&endpoint.get("hints.forNodes"), names::dns1123_subdomain);
    }
}

fn address(address: &C, list: &C, kind: &str) {
    match kind {
        "IPv4" | "IPv6" => {
            if !address.check(names::ip) {
                return;
            }
            if address.str().contains(':') != (kind == "IPv6") {
                list.invalid_value(address.str(), format!("must be an {kind} address"));
            }
            crate::core::endpoints::endpoint_ip(address);
        }
        "FQDN" => {
            let text = address.str().strip_suffix('.').unwrap_or(address.str());
            for finding in names::dns1123_subdomain(text) {
                address.invalid(finding);
            }
            if !text.contains('.') {
                address.invalid("should be a domain with at least two segments separated by dots");
            }
        }
        _ => {}
    }
}

fn ports(ports: &C) {
    if !ports.max_items(MAX_PORTS) {
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for port in ports.items() {
        let name = port.get("name");
        if !name.is_zero() {
            name.check(names::dns1123_label);
        }
        if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        port.get("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
        let application = port.get("appProtocol");
        if application.exists() {
            application.check(names::qualified_name);
        }
    }
}

fn hints(list: &C, rule: fn(&str) -> Vec<String>) {
    if !list.max_items(MAX_HINTS) {
        return;
    }
    let mut seen: Vec<&str> = Vec::new();
    for hint in list.items() {
        let name = hint.get("name");
        if seen.contains(&name.str()) {
            name.duplicate();
        }
        seen.push(name.str());
        name.check(rule);
    }
}

fn update(new: &C, old: &C) {
    let kind = new.get("addressType");
    kind.required_one_of(&["FQDN", "IPv4", "IPv6"]);
    ports(&new.get("ports"));
    // Endpoints that did not change were accepted once.
    if !new.get("endpoints").same(&old.get("endpoints")) {
        endpoints(new, kind.str());
    }
    new.get("addressType").immutable(&old.get("addressType"));
}
