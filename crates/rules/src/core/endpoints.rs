//! Endpoints.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

fn default(body: &mut Tree) {
    for subset in body.each("subsets") {
        for port in subset.each("ports") {
            port.default_str("protocol", "TCP");
        }
    }
}

fn validate(endpoints: &C) {
    for subset in endpoints.get("subsets").items() {
        if subset.get("addresses").len() + subset.get("notReadyAddresses").len() == 0 {
            subset.missing("must specify `addresses` or `notReadyAddresses`");
        }
        for list in ["addresses", "notReadyAddresses"] {
            for address in subset.get(list).items() {
                let ip = address.get("ip");
                if ip.check(meta::names::ip) {
                    endpoint_ip(&ip);
                }
                let host = address.get("hostname");
                if !host.is_zero() {
                    host.check(meta::names::dns1123_label);
                }
                let node = address.get("nodeName");
                if node.exists() {
                    node.check(meta::names::dns1123_subdomain);
                }
            }
        }
        let several = subset.get("ports").len() > 1;
        for port in subset.get("ports").items() {
            let name = port.get("name");
            if !name.is_zero() {
                name.check(meta::names::dns1123_label);
            } else if several {
                name.missing("");
            }
            port.get("port").invalid_all(meta::names::port_num(port.get("port").int()));
            port.get("protocol").required_one_of(&["SCTP", "TCP", "UDP"]);
        }
    }
}

/// An address that a client elsewhere could reach.
pub fn endpoint_ip(ip: &C) {
    let Ok(parsed) = ip.str().parse::<std::net::IpAddr>() else { return };
    let (link_local, multicast) = match parsed {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] == 0xff02),
    };
    if parsed.is_unspecified() {
        ip.invalid(format!("may not be unspecified ({})", ip.str()));
    }
    if parsed.is_loopback() {
        ip.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)");
    }
    if link_local {
        ip.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)");
    }
    if multicast {
        ip.invalid("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)");
    }
}
