//! Node selectors and required node affinity.

use std::collections::BTreeMap;

use api::Kind;
use api::k8s::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod};
use meta::selector::{Operator, Requirement};

/// One term, checked and ready to match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    expressions: Vec<Requirement>,
    fields: Vec<Requirement>,
    /// A term with nothing in it, or one that is malformed, matches no node.
    never: bool,
}

/// What a pod demands of its node by `nodeSelector` and required node affinity, compiled once per pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Required {
    selector: BTreeMap<String, String>,
    terms: Option<Vec<Term>>,
}

fn requirement(from: &NodeSelectorRequirement) -> Option<Requirement> {
    let operator = match from.operator.as_str() {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        "Gt" => Operator::GreaterThan,
        "Lt" => Operator::LessThan,
        _ => return None,
    };
    Some(Requirement { key: from.key.clone(), operator, values: from.values.clone().unwrap_or_default() })
}

impl Term {
    /// Compiles a term.
    pub fn new(term: &NodeSelectorTerm) -> Self {
        let compile = |list: &Option<Vec<NodeSelectorRequirement>>| -> Option<Vec<Requirement>> {
            list.iter().flatten().map(requirement).collect()
        };
        let (expressions, fields) = (compile(&term.match_expressions), compile(&term.match_fields));
        let malformed = expressions.is_none() || fields.is_none();
        let (expressions, fields) = (expressions.unwrap_or_default(), fields.unwrap_or_default());
        let never = malformed || (expressions.is_empty() && fields.is_empty());
        Self { expressions, fields, never }
    }

    /// Whether the node matches.
    pub fn matches(&self, node: &Node) -> bool {
        !self.never
            && self.expressions.iter().all(|r| r.matches(node.label(&r.key)))
            && self.fields.iter().all(|r| r.key == "metadata.name" && r.matches(Some(node.name())))
    }

    /// The one node that the term names by field, as a DaemonSet's pods do.
    pub fn node_name(&self) -> Option<&str> {
        let field = self.fields.iter().find(|r| r.key == "metadata.name" && r.operator == Operator::In)?;
        match field.values.as_slice() {
            [one] => Some(one),
            _ => None,
        }
    }
}

/// Compiles a node selector, as a volume's node affinity has it.
pub fn terms(selector: &NodeSelector) -> Vec<Term> {
    selector.node_selector_terms.iter().map(Term::new).collect()
}

impl Required {
    /// Compiles what the pod demands.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        Self { selector: spec.node_selector.clone().unwrap_or_default(), terms: required.map(terms) }
    }

    /// Whether the pod demands nothing.
    pub fn is_empty(&self) -> bool {
        self.selector.is_empty() && self.terms.is_none()
    }

    /// Whether the node is as demanded.
    pub fn matches(&self, node: &Node) -> bool {
        self.selector.iter().all(|(key, value)| node.label(key) == Some(value))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(node)))
    }

    /// The nodes that the demand names, when every term names one.
    pub fn node_names(&self) -> Option<Vec<&str>> {
        self.terms.as_ref()?.iter().map(Term::node_name).collect()
    }
}
