//! What the API server serves, for controllers that work on every resource.

use bytes::Bytes;
use client::{Client, Error};
use http::Method;
use meta::{GroupVersion, GroupVersionResource};
use serde::Deserialize;

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    preferred_version: Version,
    #[serde(default)]
    versions: Vec<Version>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    group_version: String,
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<ApiResource>,
}

#[derive(Deserialize)]
struct ApiResource {
    name: String,
    kind: String,
    namespaced: bool,
    verbs: Vec<String>,
}

/// A resource in the version that it is worked on in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Served {
    pub(crate) gvr: GroupVersionResource,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Served {
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|v| v == verb)
    }
}

async fn read<T: serde::de::DeserializeOwned>(client: &Client, path: &str) -> Result<T, Error> {
    let bytes = client.call(Method::GET, path, None, Bytes::new()).await?;
    serde_json::from_slice(&bytes).map_err(Error::Decode)
}

/// Each resource in one version, subresources left out; and the groups that could not be read. A resource that its group's
/// preferred version does not have is in the first that has it.
pub(crate) async fn discover(client: &Client) -> Result<(Vec<Served>, Vec<String>), Error> {
    let groups: Groups = read(client, "/apis").await?;
    let mut versions = vec![("/api/v1".to_owned(), "v1".to_owned())];
    for group in groups.groups {
        let preferred = group.preferred_version.group_version;
        let others = group.versions.into_iter().map(|v| v.group_version).filter(|version| *version != preferred);
        let all: Vec<String> = std::iter::once(preferred.clone()).chain(others).collect();
        versions.extend(all.into_iter().map(|version| (format!("/apis/{version}"), version)));
    }
    let lists = futures::future::join_all(versions.iter().map(|(path, _)| read::<Resources>(client, path))).await;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    let mut known = rt::HashSet::default();
    for ((_, version), list) in versions.iter().zip(lists) {
        let Ok(gv) = version.parse::<GroupVersion>() else { continue };
        match list {
            Ok(list) => {
                for r in list.resources.into_iter().filter(|r| !r.name.contains('/')) {
                    if known.insert((gv.group.clone(), r.name.clone())) {
                        found.push(Served {
                            gvr: GroupVersionResource::new(&*gv.group, &*gv.version, r.name),
                            kind: r.kind,
                            namespaced: r.namespaced,
                            verbs: r.verbs,
                        });
                    }
                }
            }
            Err(error) => failures.push(format!("{version}: {}", error.chain())),
        }
    }
    Ok((found, failures))
}

/// The resource of a kind: in the version named, or else in the one that the server prefers of the group, as upstream maps
/// kinds; `None` when the group has no such kind.
pub(crate) async fn resource_of(
    client: &Client,
    gv: &GroupVersion,
    kind: &str,
) -> Result<Option<GroupVersionResource>, Error> {
    let named = |list: Vec<(String, String)>| list.into_iter().find(|(name, k)| k == kind && !name.contains('/'));
    if let Some((resource, _)) = named(kinds_of(client, &gv.group, &gv.version).await?) {
        return Ok(Some(GroupVersionResource::new(&*gv.group, &*gv.version, resource)));
    }
    if gv.group.is_empty() {
        return Ok(None);
    }
    let group: Group = match read(client, &format!("/apis/{}", gv.group)).await {
        Ok(group) => group,
        Err(error) if error.is_not_found() => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(preferred) = group.preferred_version.group_version.parse::<GroupVersion>() else { return Ok(None) };
    let found = named(kinds_of(client, &preferred.group, &preferred.version).await?);
    Ok(found.map(|(resource, _)| GroupVersionResource::new(&*preferred.group, &*preferred.version, resource)))
}

/// Resources and kinds of one group version; none when it is not served.
pub(crate) async fn kinds_of(client: &Client, group: &str, version: &str) -> Result<Vec<(String, String)>, Error> {
    let path = match group {
        "" => format!("/api/{version}"),
        group => format!("/apis/{group}/{version}"),
    };
    match read::<Resources>(client, &path).await {
        Ok(list) => Ok(list.resources.into_iter().map(|resource| (resource.name, resource.kind)).collect()),
        Err(error) if error.is_not_found() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use client::{Body, Transport, TransportError};
    use serde_json::{Value, json};

    /// A group of two versions, whose preferred one does not have everything.
    struct Server;

    fn list(resources: &[&str]) -> Value {
        let resource = |name: &&str| json!({"name": name, "kind": name, "namespaced": true, "verbs": ["list"]});
        json!({"resources": resources.iter().map(resource).collect::<Vec<_>>()})
    }

    #[async_trait]
    impl Transport for Server {
        async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, TransportError> {
            let [stable, alpha] = ["v1", "v1alpha2"].map(|v| json!({"groupVersion": format!("scheduling.k8s.io/{v}")}));
            let answer = match request.uri().path() {
                "/apis" => json!({"groups": [{"preferredVersion": stable, "versions": [stable, alpha]}]}),
                "/api/v1" => list(&["pods"]),
                "/apis/scheduling.k8s.io/v1" => list(&["priorityclasses"]),
                _ => list(&["podgroups", "podgroups/status", "priorityclasses"]),
            };
            Ok(http::Response::new(client::body(answer.to_string())))
        }
    }

    #[tokio::test]
    async fn resources_that_the_preferred_version_does_not_have() {
        let client = Client::new(std::sync::Arc::new(Server), "test");
        let (found, failures) = discover(&client).await.unwrap();
        let names: Vec<String> = found.iter().map(|s| format!("{}/{}", s.gvr.version, s.gvr.resource)).collect();
        assert_eq!(names, ["v1/pods", "v1/priorityclasses", "v1alpha2/podgroups"]);
        assert!(failures.is_empty());
    }
}
