//! The host's resolvers.

use std::net::{IpAddr, SocketAddr};

/// Port of DNS.
pub(crate) const PORT: u16 = 53;

/// `nameserver` lines of a resolv.conf's text, at most three as resolvers take, without those of `own`, which would be
/// a loop. Loopback resolvers (systemd-resolved, dnsmasq) are kept: whoever runs in another network namespace must not
/// pass the host's file with such lines.
pub fn upstreams_of(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let mut out = Vec::new();
    for line in text.lines().map(str::trim).filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // A link-local server carries its interface after a percent sign, which only the C library understands.
        let Some(ip) = words.next().and_then(|w| w.parse::<IpAddr>().ok()) else { continue };
        if !own.contains(&ip) && out.len() < 3 {
            out.push(SocketAddr::new(ip, PORT));
        }
    }
    out
}

/// The host's resolvers as another network namespace can reach them: a stub on loopback (systemd-resolved) is replaced
/// by what it forwards to itself, other loopback resolvers are left out. `own` are this server's addresses.
pub fn upstreams_of_host(own: &[IpAddr]) -> Vec<SocketAddr> {
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let mut found = upstreams_of(&text, own);
        found.retain(|a| !a.ip().is_loopback());
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let text = "# comment\nsearch a b\nnameserver 10.96.0.10\nnameserver 1.1.1.1 # x\nnameserver fe80::1%eth0\n nameserver ::1\nnameserver 8.8.8.8\nnameserver 9.9.9.9\n";
        let found = upstreams_of(text, &["10.96.0.10".parse().unwrap()]);
        assert_eq!(
            found,
            ["1.1.1.1:53".parse().unwrap(), "[::1]:53".parse().unwrap(), "8.8.8.8:53".parse::<SocketAddr>().unwrap()]
        );
    }
}
