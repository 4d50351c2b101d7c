//! The authorizers of `--authorization-mode`, in order, behind the privileged group.

use std::sync::Arc;

use async_trait::async_trait;
use auth_api::{Attributes, Authorizer, AuthorizerError, Decision, Lookup, Rules, UserInfo, groups};

use crate::{NodeAuthorizer, RbacAuthorizer};

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
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "AlwaysAllow" => Ok(Self::AlwaysAllow),
            "AlwaysDeny" => Ok(Self::AlwaysDeny),
            "Node" => Ok(Self::Node),
            "RBAC" => Ok(Self::Rbac),
            "ABAC" | "Webhook" => Err(format!("authorization-mode \"{text}\" is not supported")),
            other => Err(format!("authorization-mode \"{other}\" is not a valid mode")),
        }
    }
}

/// All authorizers together.
pub struct Authorizers {
    chain: Vec<Arc<dyn Authorizer>>,
    rbac: Option<Arc<RbacAuthorizer>>,
    node: Option<Arc<NodeAuthorizer>>,
}

impl Authorizers {
    /// Builds the modes in order and starts feeding their indexes; returns at once (see [`Authorizers::synced`]).
    /// Must be called inside the runtime.
    pub fn start(modes: &[Mode], lookup: &Arc<dyn Lookup>, shutdown: &rt::Shutdown) -> Self {
        let (mut chain, mut rbac, mut node): (Vec<Arc<dyn Authorizer>>, _, _) = (Vec::new(), None, None);
        for mode in modes {
            match mode {
                Mode::AlwaysAllow => chain.push(Arc::new(Always(Decision::Allow))),
                Mode::AlwaysDeny => chain.push(Arc::new(Always(Decision::NoOpinion))),
                Mode::Node => {
                    let authorizer = Arc::new(NodeAuthorizer::start(lookup, shutdown));
                    chain.push(authorizer.clone());
                    node = Some(authorizer);
                }
                Mode::Rbac => {
                    let authorizer = Arc::new(RbacAuthorizer::start(lookup, shutdown));
                    chain.push(authorizer.clone());
                    rbac = Some(authorizer);
                }
            }
        }
        Self { chain, rbac, node }
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
        for authorizer in &self.chain {
            match authorizer.authorize(attributes).await {
                Ok((Decision::NoOpinion, reason)) => {
                    if !reason.is_empty() {
                        reasons.push(reason);
                    }
                }
                Ok(decided) => return Ok(decided),
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
        for authorizer in &self.chain {
            let mut rules = authorizer.rules_for(user, namespace).await;
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
