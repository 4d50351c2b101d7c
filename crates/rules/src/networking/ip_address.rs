//! IPAddress.

use crate::Rules;

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules::NONE;

/// The name is the address itself, in its canonical form.
pub fn name(name: &str) -> Vec<String> {
    match name.parse::<std::net::IpAddr>() {
        Ok(ip) if ip.to_string() == name => Vec::new(),
        Ok(_) => vec!["must be a canonical format IP address".to_owned()],
        Err(_) => vec!["must be a valid IP address".to_owned()],
    }
}
