//! What each signer of the cluster signs.

use pki::{Request, Usage};

/// The signer of kubelets' client certificates.
pub(super) const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// The signers we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signer {
    Client,
    KubeletClient,
    KubeletServing,
    Legacy,
}

impl Signer {
    pub(super) fn of(name: &str) -> Option<Self> {
        match name {
            "kubernetes.io/kube-apiserver-client" => Some(Self::Client),
            KUBELET_CLIENT => Some(Self::KubeletClient),
            "kubernetes.io/kubelet-serving" => Some(Self::KubeletServing),
            "kubernetes.io/legacy-unknown" => Some(Self::Legacy),
            _ => None,
        }
    }
}

fn only(usages: &[String], required: &str) -> Result<(), String> {
    let allowed = |usage: &String| ["digital signature", "key encipherment", required].contains(&usage.as_str());
    if usages.iter().any(|u| u == required) && usages.iter().all(allowed) {
        Ok(())
    } else {
        Err(format!("usages did not match {usages:?}"))
    }
}

fn is_node(request: &Request) -> Result<(), String> {
    if request.subject.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    if !request.subject.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".to_owned());
    }
    Ok(())
}

/// Whether the signer signs the request.
///
/// # Errors
/// Why not.
pub(super) fn check(signer: Signer, request: &Request, usages: &[String]) -> Result<(), String> {
    match signer {
        Signer::Client => only(usages, "client auth"),
        Signer::KubeletClient => {
            is_node(request)?;
            if !request.sans.is_empty() || request.other_sans {
                return Err("subject alternative names are not allowed".to_owned());
            }
            only(usages, "client auth")
        }
        Signer::KubeletServing => {
            is_node(request)?;
            if request.sans.is_empty() {
                return Err("DNS or IP subjectAltName is required".to_owned());
            }
            if request.other_sans {
                return Err("Email and URI subjectAltNames are not allowed".to_owned());
            }
            only(usages, "server auth")
        }
        Signer::Legacy => Ok(()),
    }
}

/// The usage that the certificate gets.
pub(super) fn usage(usages: &[String]) -> Usage {
    let has = |name: &str| usages.iter().any(|u| u == name);
    Usage {
        ca: false,
        server: has("server auth"),
        client: has("client auth"),
        key_encipherment: has("key encipherment"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pki::{Key, San, Subject};

    #[test]
    fn nodes_get_what_is_theirs() {
        let key = Key::generate().unwrap();
        let request =
            |subject: &Subject, sans: &[San]| Request::parse(&Request::create(&key, subject, sans).unwrap()).unwrap();
        let node = Subject::new("system:node:a", &["system:nodes"]);
        let client = ["digital signature".to_owned(), "client auth".to_owned()];
        let server = ["digital signature".to_owned(), "server auth".to_owned()];
        let san = [San::Dns("a".into())];
        assert!(check(Signer::KubeletClient, &request(&node, &[]), &client).is_ok());
        assert!(check(Signer::KubeletClient, &request(&node, &san), &client).is_err());
        assert!(check(Signer::KubeletClient, &request(&node, &[]), &server).is_err());
        assert!(check(Signer::KubeletServing, &request(&node, &san), &server).is_ok());
        assert!(check(Signer::KubeletServing, &request(&node, &[]), &server).is_err());
        let other = Subject::new("admin", &["system:masters"]);
        assert!(check(Signer::KubeletClient, &request(&other, &[]), &client).is_err());
    }
}
