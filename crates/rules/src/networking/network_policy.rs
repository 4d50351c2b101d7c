//! NetworkPolicy.

use serde_json::json;

use crate::meta_v1;
use crate::{C, Defaults, Rules, Tree};
use serde_json::Value;

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

/// Without `policyTypes`, a policy is about ingress, and about egress if it has rules for it.
fn default(body: &mut Tree) {
    let spec = body.make("spec");
    if spec.unset("policyTypes") {
        let types = if spec.unset("egress") { json!(["Ingress"]) } else { json!(["Ingress", "Egress"]) };
        spec.insert("policyTypes".into(), types);
    }
    for direction in ["ingress", "egress"] {
        for rule in spec.each(direction) {
            for port in rule.each("ports") {
                port.default_value("protocol", "TCP");
            }
        }
    }
}

fn validate(policy: &C) {
    let spec = policy.get("spec");
    meta_v1::label_selector(&spec.get("podSelector"));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in spec.get(direction).items() {
            for port in rule.get("ports").items() {
                self::port(&port);
            }
            for peer in rule.get(peers).items() {
                self::peer(&peer);
            }
        }
    }
    let types = spec.get("policyTypes");
    if types.len() > 2 {
        return types.invalid("may not specify more than two policyTypes");
    }
    for kind in types.items() {
        kind.one_of(&["Ingress", "Egress"]);
    }
}

fn port(port: &C) {
    port.get("protocol").optional_one_of(&["TCP", "UDP", "SCTP"]);
    let (number, end) = (port.get("port"), port.get("endPort"));
    match number.value() {
        Some(Value::String(name)) => {
            if end.exists() {
                end.invalid("may not be specified when `port` is non-numeric");
            }
            number.invalid_all(meta::names::port_name(name));
        }
        Some(_) => {
            number.invalid_all(meta::names::port_num(number.int()));
            if end.exists() {
                if end.int() < number.int() {
                    end.invalid_value(number.int(), "must be greater than or equal to `port`");
                }
                end.invalid_all(meta::names::port_num(end.int()));
            }
        }
        None => {
            if end.exists() {
                end.invalid("may not be specified when `port` is not specified");
            }
        }
    }
}

fn peer(peer: &C) {
    let (pods, namespaces, block) = (peer.get("podSelector"), peer.get("namespaceSelector"), peer.get("ipBlock"));
    meta_v1::label_selector(&pods);
    meta_v1::label_selector(&namespaces);
    if block.exists() {
        ip_block(&block);
        if pods.exists() || namespaces.exists() {
            peer.forbidden("may not specify both ipBlock and another peer");
        }
    } else if !pods.exists() && !namespaces.exists() {
        peer.missing("must specify a peer");
    }
}

fn ip_block(block: &C) {
    const WORD: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
    let cidr = block.get("cidr");
    if !cidr.required() {
        return;
    }
    let Some(range) = super::cidr::Cidr::parse(cidr.str()) else { return cidr.invalid(WORD) };
    for except in block.get("except").items() {
        match super::cidr::Cidr::parse(except.str()) {
            None => except.invalid(WORD),
            Some(inner) if !range.strictly_contains(&inner) => {
                except.invalid("must be a strict subset of `cidr`");
            }
            Some(_) => {}
        }
    }
}
