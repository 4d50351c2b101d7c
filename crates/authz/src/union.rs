//! The authorizers of `--authorization-mode`, in order, behind the privileged group.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use auth_api::{Attributes, Authorizer, AuthorizerError, Decision, Lookup, Rules, UserInfo, groups};

use parking_lot::RwLock;
use telemetry::metrics::{CounterVec, counter_vec};

use crate::{Abac, NodeAuthorizer, RbacAuthorizer, Webhook};

/// One mode of `--authorization-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Everything is allowed (upstream's default of the flag).
    AlwaysAllow,
    /// Everything is denied.
    AlwaysDeny,
    /// Kubelets, as far as their pods need.
    Node,
    /// Roles and bindings.
    Rbac,
    /// A policy file.
    Abac,
    /// Another server.
    Webhook,
}

/// An authorizer with what it needs.
#[derive(Clone)]
pub enum Member {
    /// Allows everything.
    AlwaysAllow,
    /// Denies everything.
    AlwaysDeny,
    /// The Node authorizer.
    Node,
    /// RBAC.
    Rbac,
    /// A policy file.
    Abac(Arc<Abac>),
    /// Another server.
    Webhook(Arc<Webhook>),
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "AlwaysAllow" => Ok(Self::AlwaysAllow),
            "AlwaysDeny" => Ok(Self::AlwaysDeny),
            "Node" => Ok(Self::Node),
            "RBAC" => Ok(Self::Rbac),
            "ABAC" => Ok(Self::Abac),
            "Webhook" => Ok(Self::Webhook),
            other => Err(format!("authorization-mode \"{other}\" is not a valid mode")),
        }
    }
}

/// An authorizer with its type and name, as metrics show them.
struct Link {
    kind: &'static str,
    name: String,
    authorizer: Arc<dyn Authorizer>,
}

/// All authorizers together.
pub struct Authorizers {
    chain: RwLock<Arc<Vec<Link>>>,
    rbac: Option<Arc<RbacAuthorizer>>,
    node: Option<Arc<NodeAuthorizer>>,
}

impl Authorizers {
    /// Puts the members together in order and starts feeding their indexes; returns at once (see [`Authorizers::synced`]).
    /// Must be called inside the runtime.
    pub fn start(members: &[Member], lookup: &Arc<dyn Lookup>, shutdown: &rt::Shutdown) -> Self {
        let has = |wanted: fn(&Member) -> bool| members.iter().any(wanted);
        let rbac = has(|m| matches!(m, Member::Rbac)).then(|| Arc::new(RbacAuthorizer::start(lookup, shutdown)));
        let node = has(|m| matches!(m, Member::Node)).then(|| Arc::new(NodeAuthorizer::start(lookup, shutdown)));
        let all = Self { chain: RwLock::default(), rbac, node };
        *all.chain.write() = Arc::new(all.chain_of(members));
        all
    }

    /// Puts a new configuration in force.
    ///
    /// # Errors
    /// It turns RBAC or Node on, which takes a restart, as upstream has it.
    pub fn replace(&self, members: &[Member]) -> Result<(), String> {
        let has = |wanted: fn(&Member) -> bool| members.iter().any(wanted);
        if has(|m| matches!(m, Member::Rbac)) != self.rbac.is_some()
            || has(|m| matches!(m, Member::Node)) != self.node.is_some()
        {
            return Err("the types Node and RBAC cannot be added or removed while the server runs".into());
        }
        *self.chain.write() = Arc::new(self.chain_of(members));
        Ok(())
    }

    fn chain_of(&self, members: &[Member]) -> Vec<Link> {
        let each = members.iter().filter_map(|member| -> Option<Link> {
            let (kind, authorizer): (_, Arc<dyn Authorizer>) = match member {
                Member::AlwaysAllow => ("AlwaysAllow", Arc::new(Always(Decision::Allow))),
                Member::AlwaysDeny => ("AlwaysDeny", Arc::new(Always(Decision::NoOpinion))),
                Member::Node => ("Node", self.node.clone()?),
                Member::Rbac => ("RBAC", self.rbac.clone()?),
                Member::Abac(abac) => ("ABAC", abac.clone()),
                Member::Webhook(webhook) => ("Webhook", webhook.clone()),
            };
            let name = match member {
                Member::Webhook(webhook) => webhook.name().to_owned(),
                _ => kind.to_lowercase(),
            };
            Some(Link { kind, name, authorizer })
        });
        each.collect()
    }

    /// Waits until every index has seen all objects.
    pub async fn synced(&self) {
        if let Some(rbac) = &self.rbac {
            rbac.synced().await;
        }
        if let Some(node) = &self.node {
            node.synced().await;
        }
    }

    /// The RBAC authorizer, when the mode is on.
    pub fn rbac(&self) -> Option<&Arc<RbacAuthorizer>> {
        self.rbac.as_ref()
    }
}

#[async_trait]
impl Authorizer for Authorizers {
    async fn authorize(&self, attributes: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        if attributes.user.in_group(groups::MASTERS) {
            return Ok((Decision::Allow, String::new()));
        }
        let (mut reasons, mut errors) = (Vec::new(), Vec::new());
        let chain = self.chain.read().clone();
        for link in chain.iter() {
            match link.authorizer.authorize(attributes).await {
                Ok((Decision::NoOpinion, reason)) => {
                    if !reason.is_empty() {
                        reasons.push(reason);
                    }
                }
                Ok((decision, reason)) => {
                    let label = if decision == Decision::Allow { "allowed" } else { "denied" };
                    decisions().with(&[link.kind, &link.name, label]).add(1);
                    return Ok((decision, reason));
                }
                Err(error) => errors.push(error.message),
            }
        }
        if errors.is_empty() {
            Ok((Decision::NoOpinion, reasons.join("\n")))
        } else {
            Err(AuthorizerError { message: errors.join(", ") })
        }
    }

    async fn rules_for(&self, user: &UserInfo, namespace: &str) -> Rules {
        let mut all = Rules::default();
        let mut errors = Vec::new();
        let chain = self.chain.read().clone();
        for link in chain.iter() {
            let mut rules = link.authorizer.rules_for(user, namespace).await;
            all.resource_rules.append(&mut rules.resource_rules);
            all.non_resource_rules.append(&mut rules.non_resource_rules);
            all.incomplete |= rules.incomplete;
            if !rules.evaluation_error.is_empty() {
                errors.push(rules.evaluation_error);
            }
        }
        all.evaluation_error = errors.join(", ");
        all
    }
}

fn decisions() -> &'static CounterVec {
    static DECISIONS: OnceLock<CounterVec> = OnceLock::new();
    DECISIONS.get_or_init(|| {
        counter_vec(
            "apiserver_authorization_decisions_total",
            "Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
            &["type", "name", "decision"],
        )
    })
}

/// Says the same to everybody.
struct Always(Decision);

#[async_trait]
impl Authorizer for Always {
    async fn authorize(&self, _attributes: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        match self.0 {
            Decision::Allow => Ok((Decision::Allow, String::new())),
            _ => Ok((Decision::NoOpinion, "Everything is forbidden.".into())),
        }
    }

    async fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> Rules {
        if self.0 != Decision::Allow {
            return Rules::default();
        }
        let every = || vec!["*".to_owned()];
        Rules {
            resource_rules: vec![auth_api::ResourceRule {
                verbs: every(),
                api_groups: every(),
                resources: every(),
                resource_names: Vec::new(),
            }],
            non_resource_rules: vec![auth_api::NonResourceRule { verbs: every(), urls: every() }],
            ..Rules::default()
        }
    }
}
