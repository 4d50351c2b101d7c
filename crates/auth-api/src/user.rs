//! Who asks.

use std::collections::BTreeMap;

/// Groups with a meaning of their own.
pub mod groups {
    #![allow(missing_docs, reason = "the names are upstream's and say it all")]
    pub const AUTHENTICATED: &str = "system:authenticated";
    pub const UNAUTHENTICATED: &str = "system:unauthenticated";
    pub const MASTERS: &str = "system:masters";
    pub const NODES: &str = "system:nodes";
    pub const MONITORING: &str = "system:monitoring";
    pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
    pub const SERVICE_ACCOUNTS_PREFIX: &str = "system:serviceaccounts:";
}

/// Users with a meaning of their own.
pub mod users {
    #![allow(missing_docs, reason = "the names are upstream's and say it all")]
    pub const ANONYMOUS: &str = "system:anonymous";
    pub const API_SERVER: &str = "system:apiserver";
    pub const SCHEDULER: &str = "system:kube-scheduler";
    pub const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
    pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
    pub const NODE_PREFIX: &str = "system:node:";
}

/// An authenticated (or the anonymous) user.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct UserInfo {
    /// User name.
    pub name: String,
    /// Unique id, may be empty.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// More facts, such as the pod that a token is bound to.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// A user in groups; `system:authenticated` is added unless the user is anonymous.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let name = name.into();
        let mut groups: Vec<String> = groups.iter().map(|g| (*g).to_owned()).collect();
        let everyone = if name == users::ANONYMOUS { groups::UNAUTHENTICATED } else { groups::AUTHENTICATED };
        if !groups.iter().any(|g| g == everyone) {
            groups.push(everyone.to_owned());
        }
        Self { name, groups, ..Self::default() }
    }

    /// The anonymous user.
    pub fn anonymous() -> Self {
        Self::new(users::ANONYMOUS, &[])
    }

    /// A service account's user, without the facts of its token.
    pub fn service_account(namespace: &str, name: &str) -> Self {
        let of_namespace = format!("{}{namespace}", groups::SERVICE_ACCOUNTS_PREFIX);
        Self::new(
            format!("{}{namespace}:{name}", users::SERVICE_ACCOUNT_PREFIX),
            &[groups::SERVICE_ACCOUNTS, &of_namespace],
        )
    }

    /// A node's user.
    pub fn node(name: &str) -> Self {
        Self::new(format!("{}{name}", users::NODE_PREFIX), &[groups::NODES])
    }

    /// Whether the user is in a group.
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }

    /// Namespace and name, when this is a service account.
    pub fn as_service_account(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(users::SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }

    /// The node's name, when this is a node's identity as the Node authorizer demands it.
    pub fn as_node(&self) -> Option<&str> {
        self.name.strip_prefix(users::NODE_PREFIX).filter(|_| self.in_group(groups::NODES))
    }
}
