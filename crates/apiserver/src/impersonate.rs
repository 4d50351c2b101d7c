//! Impersonation headers.
//!
//! Constrained modes are tried first, each for its kind of user: to act in one, the requester needs a verb on the user
//! (`impersonate:MODE`) and one on the request itself (`impersonate-on:MODE:VERB`). What none allows is asked as of old, with the one
//! verb `impersonate`.

use std::collections::BTreeMap;

use auth_api::{Attributes, UserInfo, groups, users};
use http::{HeaderMap, HeaderName};
use meta::Status;

use crate::chain;
use crate::query::unescape;
use crate::server::State;

const EXTRA: &str = "impersonate-extra-";
const GROUP: &str = "authentication.k8s.io";
/// Extra key of a service account's token with the node that its pod runs on.
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From so many values on, one question about all of them is tried first.
const MANY: usize = 4;

/// Who the request acts as, and under which constraint (empty for the old way).
pub(crate) struct Acting {
    pub user: UserInfo,
    pub constraint: String,
}

/// A way to impersonate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

/// Turns the requester into the user that the headers want, after asking whether he may, and takes the headers away. `None` when
/// nobody is wanted.
///
/// # Errors
/// 403 when he may not, 400 when groups, uid or extra come without a user.
pub(crate) async fn apply(
    state: &State,
    headers: &mut HeaderMap,
    request: &Attributes,
) -> Result<Option<Acting>, Status> {
    let Some(wanted) = take_headers(headers)? else { return Ok(None) };
    let mut last = None;
    for mode in MODES {
        if !mode.applies(&wanted, &request.user) {
            continue;
        }
        match (Attempt { state, request, mode, wanted: &wanted }).run().await {
            Ok(user) => {
                let constraint = if mode == Mode::Legacy { String::new() } else { mode.verb() };
                return Ok(Some(Acting { user, constraint }));
            }
            Err(status) => last = Some(status),
        }
    }
    // The old way always applies, so that there is an answer.
    Err(last.unwrap_or_else(Status::unauthorized))
}

fn take_headers(headers: &mut HeaderMap) -> Result<Option<UserInfo>, Status> {
    let names: Vec<HeaderName> = headers.keys().filter(|k| k.as_str().starts_with("impersonate-")).cloned().collect();
    if names.is_empty() {
        return Ok(None);
    }
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let extra = names.iter().filter_map(|k| {
        k.as_str().strip_prefix(EXTRA).map(|key| (unescape(key, false).to_lowercase(), all(k.as_str())))
    });
    let wanted = UserInfo {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: all("impersonate-group"),
        extra: extra.collect(),
    };
    for name in names {
        headers.remove(name);
    }
    if !wanted.name.is_empty() {
        return Ok(Some(wanted));
    }
    if wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty() {
        return Ok(None);
    }
    Err(Status::bad_request("requested impersonation without impersonating a user name"))
}

fn node_name(user: &str) -> Option<&str> {
    user.strip_prefix(users::NODE_PREFIX).filter(|name| !name.is_empty())
}

fn only_name(user: &UserInfo) -> bool {
    user.uid.is_empty() && user.groups.is_empty() && user.extra.is_empty()
}

impl Mode {
    fn applies(self, wanted: &UserInfo, requester: &UserInfo) -> bool {
        let node = node_name(&wanted.name);
        let account = wanted.as_service_account().is_some();
        match self {
            Self::AssociatedNode => {
                let own = requester.extra.get(NODE_NAME).map(Vec::as_slice);
                let own = matches!((own, node), (Some([own]), Some(node)) if own == node);
                only_name(wanted) && own && requester.as_service_account().is_some()
            }
            Self::ArbitraryNode => only_name(wanted) && node.is_some(),
            Self::ServiceAccount => only_name(wanted) && account,
            Self::UserInfo => node.is_none() && !account,
            Self::Legacy => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> String {
        if self == Self::Legacy { "impersonate".to_owned() } else { format!("impersonate:{}", self.name()) }
    }
}

/// One mode, tried.
struct Attempt<'a> {
    state: &'a State,
    request: &'a Attributes,
    mode: Mode,
    wanted: &'a UserInfo,
}

impl Attempt<'_> {
    async fn run(&self) -> Result<UserInfo, Status> {
        let constrained = self.mode != Mode::Legacy;
        if constrained {
            let verb = format!("impersonate-on:{}:{}", self.mode.name(), self.request.verb);
            let on = Attributes { user: self.requester(), verb, ..self.request.clone() };
            chain::check(self.state, &on).await?;
        }
        let mut acting = self.wanted.clone();
        self.check_name(&mut acting).await?;
        if !self.wanted.uid.is_empty() {
            self.check(self.ask(GROUP, "uids", &self.wanted.uid)).await?;
        }
        self.check_groups(constrained).await?;
        self.check_extra(constrained).await?;
        if acting.name == users::ANONYMOUS {
            ensure_group(&mut acting, groups::UNAUTHENTICATED);
        } else if !acting.in_group(groups::UNAUTHENTICATED) {
            ensure_group(&mut acting, groups::AUTHENTICATED);
        }
        Ok(acting)
    }

    /// The requester as the questions show him: for his own node without the facts that differ from node to node.
    fn requester(&self) -> UserInfo {
        let mut user = self.request.user.clone();
        if self.mode == Mode::AssociatedNode {
            let keys: Vec<String> = user.extra.keys().cloned().collect();
            user.extra = BTreeMap::from([("authentication.kubernetes.io/associated-node-keys".to_owned(), keys)]);
        }
        user
    }

    fn ask(&self, group: &str, resource: &str, name: &str) -> Attributes {
        Attributes {
            user: self.requester(),
            verb: self.mode.verb(),
            api_group: group.into(),
            api_version: "v1".into(),
            resource: resource.into(),
            name: name.into(),
            resource_request: true,
            ..Attributes::default()
        }
    }

    async fn check(&self, attributes: Attributes) -> Result<(), Status> {
        chain::check(self.state, &attributes).await
    }

    /// Of old, users and groups were of the core group.
    fn user_group(&self) -> &'static str {
        if self.mode == Mode::Legacy { "" } else { GROUP }
    }

    async fn check_name(&self, acting: &mut UserInfo) -> Result<(), Status> {
        let mut question = self.ask(self.user_group(), "users", &self.wanted.name);
        if let (Some(node), true) = (node_name(&self.wanted.name), self.mode != Mode::Legacy) {
            question.resource = "nodes".into();
            question.name = if self.mode == Mode::AssociatedNode { "*".into() } else { node.into() };
            acting.groups = vec![groups::NODES.into()];
        }
        if let Some((namespace, name)) = self.wanted.as_service_account() {
            question.resource = "serviceaccounts".into();
            question.namespace = namespace.into();
            question.name = name.into();
            if self.wanted.groups.is_empty() {
                let own = UserInfo::service_account(namespace, name).groups;
                acting.groups = own.into_iter().filter(|g| g != groups::AUTHENTICATED).collect();
            }
        }
        self.check(question).await
    }

    async fn check_groups(&self, constrained: bool) -> Result<(), Status> {
        let wanted = &self.wanted.groups;
        let question = |name: &str| self.ask(self.user_group(), "groups", name);
        if constrained {
            for refused in ["", groups::MASTERS] {
                if wanted.iter().any(|g| g == refused) {
                    let shown = if refused.is_empty() { "empty string" } else { refused };
                    let reason = format!("impersonating the {shown} group is not allowed");
                    return Err(chain::denied(&question(refused), &reason));
                }
            }
            if wanted.len() >= MANY && self.check(question("*")).await.is_ok() {
                return Ok(());
            }
        }
        for group in wanted {
            self.check(question(group)).await?;
        }
        Ok(())
    }

    async fn check_extra(&self, constrained: bool) -> Result<(), Status> {
        let wanted = &self.wanted.extra;
        let question =
            |key: &str, value: &str| Attributes { subresource: key.into(), ..self.ask(GROUP, "userextras", value) };
        if constrained {
            let empty = wanted.iter().any(|(k, v)| k.is_empty() || v.is_empty() || v.iter().any(String::is_empty));
            if empty {
                return Err(chain::denied(
                    &question("", ""),
                    "impersonating empty keys or values in extra is not allowed",
                ));
            }
            let count: usize = wanted.values().map(Vec::len).sum();
            if count >= MANY && self.check(question("*", "*")).await.is_ok() {
                return Ok(());
            }
        }
        for (key, values) in wanted {
            for value in values {
                self.check(question(key, value)).await?;
            }
        }
        Ok(())
    }
}

fn ensure_group(user: &mut UserInfo, group: &str) {
    if !user.in_group(group) {
        user.groups.push(group.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_for_their_kind_of_user() {
        let mut agent = UserInfo::service_account("kube-system", "agent");
        agent.extra.insert(NODE_NAME.into(), vec!["n1".into()]);
        let user = |name: &str| UserInfo { name: name.into(), ..UserInfo::default() };
        let grouped = UserInfo { groups: vec!["g".into()], ..user("system:node:n1") };
        for (wanted, modes) in [
            (user("system:node:n1"), vec![Mode::AssociatedNode, Mode::ArbitraryNode, Mode::Legacy]),
            (user("system:node:n2"), vec![Mode::ArbitraryNode, Mode::Legacy]),
            (grouped, vec![Mode::Legacy]),
            (user("system:serviceaccount:a:b"), vec![Mode::ServiceAccount, Mode::Legacy]),
            (user("jane"), vec![Mode::UserInfo, Mode::Legacy]),
        ] {
            let found: Vec<Mode> = MODES.into_iter().filter(|m| m.applies(&wanted, &agent)).collect();
            assert_eq!(found, modes, "{}", wanted.name);
        }
        let mut headers = HeaderMap::new();
        headers.insert("impersonate-uid", "1".parse().expect("a value"));
        assert_eq!(take_headers(&mut headers).err().map(|s| s.code), Some(400));
        headers.insert("impersonate-user", "jane".parse().expect("a value"));
        headers.insert("impersonate-extra-acme.com%2fproject", "p".parse().expect("a value"));
        let wanted = take_headers(&mut headers).expect("fine").expect("somebody");
        assert_eq!(wanted.extra["acme.com/project"], ["p"]);
        assert!(headers.is_empty());
    }
}
