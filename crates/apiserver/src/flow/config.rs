//! FlowSchemas and priority levels as the queues need them.

use auth_api::UserInfo;
use meta::Object;
use serde_json::Value;

use crate::reqinfo::RequestInfo;

/// What tells the flows of a schema apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    None,
    ByUser,
    ByNamespace,
}

/// A FlowSchema.
#[derive(Debug, Clone)]
pub(super) struct Schema {
    pub name: String,
    pub uid: String,
    pub level: String,
    pub precedence: i64,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug, Clone)]
enum Subject {
    User(String),
    Group(String),
    Account { namespace: String, name: String },
}

#[derive(Debug, Clone)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    namespaces: Vec<String>,
    cluster: bool,
}

#[derive(Debug, Clone)]
struct PathRule {
    verbs: Vec<String>,
    urls: Vec<String>,
}

/// What a level does with a request that finds no seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queuing {
    /// It is refused.
    Reject,
    /// It waits in one of some queues.
    Queue { queues: usize, hand: usize, length: usize },
}

/// A PriorityLevelConfiguration.
#[derive(Debug, Clone)]
pub(super) struct LevelConfig {
    pub name: String,
    pub uid: String,
    pub exempt: bool,
    pub shares: u32,
    pub lendable_percent: u32,
    /// None for no limit.
    pub borrowing_percent: Option<u32>,
    pub queuing: Queuing,
}

fn texts(value: &Value, field: &str) -> Vec<String> {
    let all = value.get(field).and_then(Value::as_array).into_iter().flatten();
    all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn each<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value.get(field).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn number(value: &Value, path: &str) -> Option<u32> {
    value.pointer(path).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok())
}

impl Schema {
    pub fn parse(object: &Object) -> Self {
        let none = Value::Null;
        let spec = object.body.get("spec").unwrap_or(&none);
        let distinguisher = match spec.pointer("/distinguisherMethod/type").and_then(Value::as_str) {
            Some("ByUser") => Distinguisher::ByUser,
            Some("ByNamespace") => Distinguisher::ByNamespace,
            _ => Distinguisher::None,
        };
        Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            level: text(spec, "/priorityLevelConfiguration/name"),
            precedence: spec.get("matchingPrecedence").and_then(Value::as_i64).unwrap_or(1000),
            distinguisher,
            rules: each(spec, "rules").map(Rule::parse).collect(),
        }
    }

    pub fn matches(&self, info: &RequestInfo, user: &UserInfo) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|s| s.matches(user))
                && if info.resource_request {
                    rule.resources.iter().any(|r| r.matches(info))
                } else {
                    rule.paths.iter().any(|p| p.matches(info))
                }
        })
    }

    /// What tells this request's flow from others.
    pub fn distinguisher<'a>(&self, info: &'a RequestInfo, user: &'a UserInfo) -> &'a str {
        match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::ByUser => &user.name,
            Distinguisher::ByNamespace => &info.namespace,
        }
    }
}

impl Rule {
    fn parse(value: &Value) -> Self {
        let subjects = each(value, "subjects").filter_map(|s| match s.get("kind").and_then(Value::as_str)? {
            "User" => Some(Subject::User(text(s, "/user/name"))),
            "Group" => Some(Subject::Group(text(s, "/group/name"))),
            "ServiceAccount" => Some(Subject::Account {
                namespace: text(s, "/serviceAccount/namespace"),
                name: text(s, "/serviceAccount/name"),
            }),
            _ => None,
        });
        let resources = each(value, "resourceRules").map(|r| ResourceRule {
            verbs: texts(r, "verbs"),
            groups: texts(r, "apiGroups"),
            resources: texts(r, "resources"),
            namespaces: texts(r, "namespaces"),
            cluster: r.get("clusterScope").and_then(Value::as_bool).unwrap_or(false),
        });
        let paths = each(value, "nonResourceRules")
            .map(|r| PathRule { verbs: texts(r, "verbs"), urls: texts(r, "nonResourceURLs") });
        Self { subjects: subjects.collect(), resources: resources.collect(), paths: paths.collect() }
    }
}

impl Subject {
    fn matches(&self, user: &UserInfo) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == user.name,
            Self::Group(name) => name == "*" || user.in_group(name),
            Self::Account { namespace, name } => {
                user.as_service_account().is_some_and(|(ns, n)| ns == namespace && (name == "*" || name == n))
            }
        }
    }
}

fn has(list: &[String], what: &str) -> bool {
    list.iter().any(|l| l == "*" || l == what)
}

impl ResourceRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let resource = || {
            if info.subresource.is_empty() {
                has(&self.resources, &info.resource)
            } else {
                has(&self.resources, &format!("{}/{}", info.resource, info.subresource))
            }
        };
        has(&self.verbs, info.verb)
            && has(&self.groups, &info.group)
            && resource()
            && if info.namespace.is_empty() { self.cluster } else { has(&self.namespaces, &info.namespace) }
    }
}

impl PathRule {
    fn matches(&self, info: &RequestInfo) -> bool {
        let matches = |url: &String| match url.strip_suffix('*') {
            Some(prefix) => info.path.starts_with(prefix),
            None => info.path.trim_end_matches('/') == url.trim_end_matches('/'),
        };
        has(&self.verbs, info.verb) && self.urls.iter().any(matches)
    }
}

impl LevelConfig {
    pub fn parse(object: &Object) -> Self {
        let none = Value::Null;
        let spec = object.body.get("spec").unwrap_or(&none);
        let exempt = spec.get("type").and_then(Value::as_str) == Some("Exempt");
        let part = if exempt { "exempt" } else { "limited" };
        let at = |field: &str| number(spec, &format!("/{part}/{field}"));
        let queuing = match spec.pointer("/limited/limitResponse/type").and_then(Value::as_str) {
            Some("Queue") => {
                let queue = |field: &str, absent: u32| {
                    let found = number(spec, &format!("/limited/limitResponse/queuing/{field}"));
                    found.unwrap_or(absent).max(1) as usize
                };
                let queues = queue("queues", 64);
                Queuing::Queue { queues, hand: queue("handSize", 8).min(queues), length: queue("queueLengthLimit", 50) }
            }
            _ => Queuing::Reject,
        };
        Self {
            name: object.name().to_owned(),
            uid: object.uid().to_owned(),
            exempt,
            shares: at("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { 30 }),
            lendable_percent: at("lendablePercent").unwrap_or(0),
            borrowing_percent: at("borrowingLimitPercent"),
            queuing,
        }
    }
}
