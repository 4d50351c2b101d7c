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

/// A resource in its preferred version.
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

/// The resources in their preferred versions, subresources left out; and the groups that could not be read.
pub(crate) async fn discover(client: &Client) -> Result<(Vec<Served>, Vec<String>), Error> {
    let groups: Groups = read(client, "/apis").await?;
    let mut versions = vec![("/api/v1".to_owned(), "v1".to_owned())];
    versions.extend(groups.groups.into_iter().map(|g| {
        let version = g.preferred_version.group_version;
        (format!("/apis/{version}"), version)
    }));
    let lists = futures::future::join_all(versions.iter().map(|(path, _)| read::<Resources>(client, path))).await;
    let (mut found, mut failures) = (Vec::new(), Vec::new());
    for ((_, version), list) in versions.iter().zip(lists) {
        let Ok(gv) = version.parse::<GroupVersion>() else { continue };
        match list {
            Ok(list) => found.extend(list.resources.into_iter().filter(|r| !r.name.contains('/')).map(|r| Served {
                gvr: GroupVersionResource::new(&*gv.group, &*gv.version, r.name),
                kind: r.kind,
                namespaced: r.namespaced,
                verbs: r.verbs,
            })),
            Err(error) => failures.push(format!("{version}: {}", error.chain())),
        }
    }
    Ok((found, failures))
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
