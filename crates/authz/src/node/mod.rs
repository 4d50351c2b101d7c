//! The Node authorizer: a kubelet may read what its pods need and write what is its own.
//!
//! Its index follows watches, as the kubelet's own view does. So that a kubelet that has just seen its pod is not refused the
//! pod's secret, a request without a known relation waits a moment for the index to move on before it is refused.

mod graph;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use auth_api::{Attributes, Authorizer, AuthorizerError, Decision, Lookup, Rules, UserInfo, groups, users};

use crate::bootstrap;
use crate::feed::{Progress, feed};
use crate::rbac::Rule;
use graph::{Graph, Kind};

const FEEDS: [(&str, &str, &str); 4] = [
    ("", "v1", "pods"),
    ("", "v1", "persistentvolumes"),
    ("storage.k8s.io", "v1", "volumeattachments"),
    ("resource.k8s.io", "v1", "resourceslices"),
];
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long an unknown relation is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Allows nodes what they need; has no opinion on others.
pub struct NodeAuthorizer {
    graph: Arc<Graph>,
    progress: Progress,
    rules: Vec<Rule>,
}

/// Allowed, or the reason why there is no opinion.
type Answer = Result<(), String>;

fn allow_if(allowed: bool, reason: &str) -> Answer {
    if allowed { Ok(()) } else { Err(reason.to_owned()) }
}

impl NodeAuthorizer {
    /// Starts following pods, volumes, attachments and resource slices.
    pub fn start(lookup: &Arc<dyn Lookup>, shutdown: &rt::Shutdown) -> Self {
        let graph = Arc::new(Graph::default());
        let progress = Progress::new(FEEDS.len());
        for resource in FEEDS {
            feed(lookup, resource, graph.clone(), progress.clone(), shutdown.child());
        }
        Self { graph, progress, rules: bootstrap::node_rules() }
    }

    /// Waits until all objects are known.
    pub async fn synced(&self) {
        self.progress.synced().await;
    }

    async fn related(&self, node: &str, test: impl Fn(&Graph) -> bool) -> Answer {
        let mut changes = self.progress.subscribe();
        let wait = async {
            // A wait ends in an error only when the authorizer goes away, which it cannot while it is borrowed.
            let _ = changes.wait_for(|_| test(&self.graph)).await;
        };
        let known = rt::time::timeout(PATIENCE, wait).await.is_ok();
        if known { Ok(()) } else { Err(format!("no relationship found between node '{node}' and this object")) }
    }

    async fn referenced(&self, node: &str, kind: Kind, a: &Attributes) -> Answer {
        allow_if(!a.name.is_empty(), "No Object name found")?;
        self.related(node, |graph| graph.is_related(node, kind, &a.namespace, &a.name)).await
    }

    async fn read(&self, node: &str, kind: Kind, a: &Attributes) -> Answer {
        allow_if(a.is_read_only(), "can only read resources of this type")?;
        allow_if(a.subresource.is_empty(), "cannot read subresource")?;
        allow_if(!a.namespace.is_empty(), "can only read namespaced object of this type")?;
        self.referenced(node, kind, a).await
    }

    fn check_get(a: &Attributes) -> Answer {
        allow_if(a.verb == "get", "can only get individual resources of this type")?;
        allow_if(a.subresource.is_empty(), "cannot get subresource")?;
        allow_if(!a.name.is_empty(), "No Object name found")
    }

    async fn claim(&self, node: &str, a: &Attributes) -> Answer {
        if a.subresource == "status" {
            allow_if(matches!(a.verb.as_str(), "update" | "patch"), "can only get/update/patch this type")?;
        } else {
            Self::check_get(a)?;
        }
        self.referenced(node, Kind::Claim, a).await
    }

    async fn service_account(&self, node: &str, a: &Attributes) -> Answer {
        if a.verb == "get" && a.subresource.is_empty() {
            return self.read(node, Kind::ServiceAccount, a).await;
        }
        let single = a.verb == "create" && !a.name.is_empty();
        allow_if(single, "can only create tokens for individual service accounts")?;
        allow_if(a.subresource == "token", "can only create token subresource of serviceaccount")?;
        self.referenced(node, Kind::ServiceAccount, a).await
    }

    /// Leases and CSINodes: the one of the node's own name. Names of new objects are checked by NodeRestriction.
    fn own_object(node: &str, a: &Attributes, verbs: &str, other: &str) -> Answer {
        allow_if(matches!(a.verb.as_str(), "get" | "create" | "update" | "patch" | "delete"), verbs)?;
        allow_if(a.verb == "create" || a.name == node, other)
    }

    fn lease(node: &str, a: &Attributes) -> Answer {
        allow_if(
            a.namespace == LEASE_NAMESPACE,
            &format!("can only access leases in the {LEASE_NAMESPACE:?} system namespace"),
        )?;
        let verbs = "can only get, create, update, patch, or delete a node lease";
        Self::own_object(node, a, verbs, "can only access node lease with the same name as the requesting node")
    }

    fn csi_node(node: &str, a: &Attributes) -> Answer {
        allow_if(a.subresource.is_empty(), "cannot authorize CSINode subresources")?;
        let verbs = "can only get, create, update, patch, or delete a CSINode";
        Self::own_object(node, a, verbs, "can only access CSINode with the same name as the requesting node")
    }

    fn selects(a: &Attributes, field: &str, node: &str) -> bool {
        a.field_selector.as_ref().and_then(|s| s.required_value(field)) == Some(node)
    }

    async fn resource_slice(&self, node: &str, a: &Attributes) -> Answer {
        allow_if(a.subresource.is_empty(), "cannot authorize ResourceSlice subresources")?;
        match a.verb.as_str() {
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, |graph| graph.has_slice(node, &a.name)).await,
            "watch" | "list" | "deletecollection" => allow_if(
                Self::selects(a, "spec.nodeName", node),
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => Err(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                      delete, deletecollection"
                    .into(),
            ),
        }
    }

    fn node_object(node: &str, a: &Attributes) -> Answer {
        match (a.subresource.as_str(), a.verb.as_str()) {
            ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
            ("", "get" | "list" | "watch") if a.name == node => Ok(()),
            ("", "get" | "list" | "watch") if a.name.is_empty() => {
                Err(format!("node '{node}' cannot read all nodes, only its own Node object"))
            }
            ("", "get" | "list" | "watch") => {
                Err(format!("node '{node}' cannot read '{}', only its own Node object", a.name))
            }
            _ => Err(String::new()),
        }
    }

    async fn pod(&self, node: &str, a: &Attributes) -> Answer {
        match (a.subresource.as_str(), a.verb.as_str()) {
            ("", "list" | "watch") if Self::selects(a, "spec.nodeName", node) => Ok(()),
            ("", "list" | "watch") if a.name.is_empty() => {
                Err("can only list/watch pods with spec.nodeName field selector".into())
            }
            ("", "get" | "list" | "watch") => {
                self.related(node, |graph| graph.has_pod(node, &a.namespace, &a.name)).await
            }
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Ok(()),
            _ => Err(String::new()),
        }
    }

    async fn decide(&self, node: &str, a: &Attributes) -> Answer {
        if a.resource_request {
            match (a.api_group.as_str(), a.resource.as_str()) {
                ("", "secrets") => return self.read(node, Kind::Secret, a).await,
                ("", "configmaps") => return self.read(node, Kind::ConfigMap, a).await,
                ("", "persistentvolumeclaims") => return self.claim(node, a).await,
                ("", "persistentvolumes") => {
                    Self::check_get(a)?;
                    return self.related(node, |graph| graph.uses_volume(node, &a.name)).await;
                }
                ("resource.k8s.io", "resourceclaims") => {
                    Self::check_get(a)?;
                    return self.referenced(node, Kind::ResourceClaim, a).await;
                }
                ("storage.k8s.io", "volumeattachments") => {
                    Self::check_get(a)?;
                    return self.related(node, |graph| graph.has_attachment(node, &a.name)).await;
                }
                ("", "serviceaccounts") => return self.service_account(node, a).await,
                ("coordination.k8s.io", "leases") => return Self::lease(node, a),
                ("storage.k8s.io", "csinodes") => return Self::csi_node(node, a),
                ("resource.k8s.io", "resourceslices") => return self.resource_slice(node, a).await,
                ("", "nodes") => return Self::node_object(node, a),
                ("", "pods") => return self.pod(node, a).await,
                ("certificates.k8s.io", "podcertificaterequests") => return Err(String::new()),
                _ => {}
            }
        }
        allow_if(self.rules.iter().any(|rule| rule.allows(a)), "")
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        let user = &attributes.user;
        if !user.in_group(groups::NODES) {
            return Ok((Decision::NoOpinion, String::new()));
        }
        // Upstream: the group without the name's prefix is no node at all; an empty node name is an unknown one.
        let node = match user.as_node() {
            Some(node) if !node.is_empty() => node,
            Some(_) => return Ok((Decision::NoOpinion, format!("unknown node for user {:?}", user.name))),
            None => return Ok((Decision::NoOpinion, String::new())),
        };
        Ok(match self.decide(node, attributes).await {
            Ok(()) => (Decision::Allow, String::new()),
            Err(reason) => (Decision::NoOpinion, reason),
        })
    }

    async fn rules_for(&self, user: &UserInfo, _namespace: &str) -> Rules {
        if user.in_group(groups::NODES) && user.name.starts_with(users::NODE_PREFIX) {
            return Rules {
                incomplete: true,
                evaluation_error: "node authorizer does not support user rule resolution".into(),
                ..Rules::default()
            };
        }
        Rules::default()
    }
}
