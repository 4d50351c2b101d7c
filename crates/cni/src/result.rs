//! The result of an ADD: interfaces, addresses, routes, DNS; read and written in every supported version.

use crate::error::{Error, Result, code};
use crate::version;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// An interface that the attachment made or uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Hardware address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// MTU (1.1.0).
    #[serde(skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// Namespace path; empty for the host's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Socket of a userspace network (1.1.0).
    #[serde(rename = "socketPath", skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// PCI device (1.1.0).
    #[serde(rename = "pciID", skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IpConfig {
    /// Index of its interface in the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
    /// Address and prefix length.
    pub address: IpNet,
    /// Router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: IpNet,
    /// Router; the address's own when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// MTU (1.1.0).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// MSS (1.1.0).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// Priority (1.1.0).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// Table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route to `dst` by the address's own gateway.
    pub fn to(dst: IpNet) -> Self {
        Self { dst, gw: None, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }
}

/// DNS for whoever wants it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// Local domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The result, in the newest version's shape.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CniResult {
    /// Version of the form it was read from.
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// Interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// Addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<IpConfig>,
    /// Routes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// DNS.
    #[serde(skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

impl CniResult {
    /// Reads a result of any version from 0.3.0; `version` is the configuration's, for results that name none.
    ///
    /// # Errors
    /// When the version is older or the object malformed.
    pub fn from_json(value: &Value, version: &str) -> Result<Self> {
        let named = value.get("cniVersion").and_then(Value::as_str).filter(|v| !v.is_empty()).unwrap_or(version);
        if !version::is_supported(named) {
            return Err(Error::new(code::INCOMPATIBLE_VERSION, format!("unsupported CNI result version \"{named}\"")));
        }
        let mut result: Self = serde_json::from_value(value.clone()).map_err(|e| Error {
            code: code::DECODING,
            msg: "decoding the result of a plugin".into(),
            source: Some(e.into()),
        })?;
        result.cni_version = named.to_owned();
        Ok(result)
    }

    /// Writes it in the form of `version`.
    pub fn to_json(&self, version: &str) -> Value {
        let mut value = serde_json::to_value(self).unwrap_or_else(|_| Value::Object(Map::new()));
        value["cniVersion"] = Value::String(version.to_owned());
        let modern = version::at_least(version, "1.1.0");
        let with_family = !version::at_least(version, "1.0.0");
        let list = |value: &mut Value, key: &str, each: &dyn Fn(&mut Map<String, Value>)| {
            for item in value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(object) = item.as_object_mut() {
                    each(object);
                }
            }
        };
        if !modern {
            list(&mut value, "interfaces", &|o| ["mtu", "socketPath", "pciID"].iter().for_each(|k| drop(o.remove(*k))));
            let newer = ["mtu", "advmss", "priority", "table", "scope"];
            list(&mut value, "routes", &|o| newer.iter().for_each(|k| drop(o.remove(*k))));
        }
        if with_family {
            list(&mut value, "ips", &|o| {
                let v6 = o.get("address").and_then(Value::as_str).is_some_and(|a| a.contains(':'));
                o.insert("version".into(), Value::String(if v6 { "6" } else { "4" }.into()));
            });
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_versions_get_their_own_fields() {
        let result = CniResult {
            interfaces: vec![Interface { name: "eth0".into(), mtu: 1400, ..Default::default() }],
            ips: vec![IpConfig {
                interface: Some(0),
                address: "10.1.0.5/24".parse().unwrap(),
                gateway: "10.1.0.1".parse().ok(),
            }],
            ..Default::default()
        };
        let old = result.to_json("0.4.0");
        assert_eq!(old["ips"][0]["version"], "4");
        assert!(old["interfaces"][0].get("mtu").is_none());
        let back = CniResult::from_json(&old, "0.4.0").unwrap();
        assert_eq!(back.ips, result.ips);
        let new = result.to_json("1.1.0");
        assert_eq!(new["interfaces"][0]["mtu"], 1400);
        assert!(new["ips"][0].get("version").is_none());
        assert!(new.get("dns").is_none());
        assert!(CniResult::from_json(&old, "0.2.0").is_ok());
        assert_eq!(CniResult::from_json(&serde_json::json!({}), "0.2.0").unwrap_err().code, 1);
    }
}
