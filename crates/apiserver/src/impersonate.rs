//! Impersonation headers.

use auth_api::{Attributes, UserInfo, groups, users};
use http::HeaderMap;
use meta::Status;

use crate::chain;
use crate::query::unescape;
use crate::server::State;

const EXTRA: &str = "impersonate-extra-";

/// Turns the user into the impersonated one, after asking whether he may.
///
/// # Errors
/// 403 when he may not, 400 when groups, uid or extra come without a user.
pub(crate) async fn apply(state: &State, headers: &HeaderMap, user: UserInfo) -> Result<UserInfo, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect()
    };
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let asked_groups = all("impersonate-group");
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let extra: Vec<(String, Vec<String>)> = headers
        .keys()
        .filter_map(|k| k.as_str().strip_prefix(EXTRA).map(|rest| (unescape(rest, false), all(k.as_str()))))
        .collect();
    if name.is_empty() {
        if asked_groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::internal("requested impersonation without impersonating a user"));
    }
    let ask = |group: &str, resource: &str, namespace: &str, name: &str, sub: &str| Attributes {
        user: user.clone(),
        verb: "impersonate".into(),
        namespace: namespace.into(),
        api_group: group.into(),
        api_version: "v1".into(),
        resource: resource.into(),
        subresource: sub.into(),
        name: name.into(),
        resource_request: true,
        ..Attributes::default()
    };
    let mut target = UserInfo { name: name.clone(), uid: uid.clone(), ..UserInfo::default() };
    let account = target.as_service_account().map(|(ns, n)| (ns.to_owned(), n.to_owned()));
    match &account {
        Some((namespace, account)) => {
            chain::check(state, &ask("", "serviceaccounts", namespace, account, "")).await?;
            if asked_groups.is_empty() {
                target.groups = UserInfo::service_account(namespace, account).groups;
            }
        }
        None => chain::check(state, &ask("", "users", "", &name, "")).await?,
    }
    for group in asked_groups {
        chain::check(state, &ask("", "groups", "", &group, "")).await?;
        target.groups.push(group);
    }
    for (key, values) in extra {
        for value in &values {
            chain::check(state, &ask("authentication.k8s.io", "userextras", "", value, &key)).await?;
        }
        target.extra.insert(key, values);
    }
    if !uid.is_empty() {
        chain::check(state, &ask("authentication.k8s.io", "uids", "", &uid, "")).await?;
    }
    let everyone = if name == users::ANONYMOUS { groups::UNAUTHENTICATED } else { groups::AUTHENTICATED };
    if !target.in_group(everyone) {
        target.groups.push(everyone.to_owned());
    }
    Ok(target)
}
