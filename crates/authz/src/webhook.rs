//! The webhook authorizer: a server that answers SubjectAccessReviews.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use auth_api::{Attributes, Authorizer, AuthorizerError, Decision};
use meta::selector::Operator;
use parking_lot::Mutex;
use rt::time::Instant;
use serde_json::{Value, json};

use crate::metrics::metrics;

/// Asked again after a failed connection or a server's error, as upstream.
const TRIES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Answers that are remembered, and the longest question that is.
const CACHED: usize = 8192;
const LONGEST_QUESTION: usize = 10_000;

/// How a webhook is asked.
#[derive(Debug, Clone)]
pub struct WebhookOptions {
    /// Its name in metrics.
    pub name: String,
    /// `v1` or `v1beta1`.
    pub version: String,
    /// How long a yes is believed.
    pub authorized_ttl: Duration,
    /// How long a no is believed.
    pub unauthorized_ttl: Duration,
    /// How long one answer may take.
    pub timeout: Duration,
    /// Whether a failure denies, where it would have no opinion.
    pub deny_on_failure: bool,
    /// CEL expressions over `request`; all must be true for the webhook to be asked.
    pub conditions: Vec<String>,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            name: "default".into(),
            version: "v1beta1".into(),
            authorized_ttl: Duration::from_secs(300),
            unauthorized_ttl: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            deny_on_failure: false,
            conditions: Vec::new(),
        }
    }
}

/// A webhook.
pub struct Webhook {
    server: client::Webhook,
    options: WebhookOptions,
    conditions: Vec<celx::Program>,
    /// By question: the answer's status and its end in seconds since 1970.
    cache: Mutex<HashMap<String, (Value, i64)>>,
}

/// What `request` is in conditions: a SubjectAccessReviewSpec.
fn request_type() -> celx::Type {
    use celx::Type;
    let texts = || Type::list(Type::STR);
    let requirements = |name: &str| {
        let one = Type::record(
            "kubernetes.SelectorRequirement",
            &[("key", Type::STR), ("operator", Type::STR), ("values", texts())],
        );
        Type::record(name, &[("rawSelector", Type::STR), ("requirements", Type::list(one))])
    };
    let resource = Type::record(
        "kubernetes.ResourceAttributes",
        &[
            ("namespace", Type::STR),
            ("verb", Type::STR),
            ("group", Type::STR),
            ("version", Type::STR),
            ("resource", Type::STR),
            ("subresource", Type::STR),
            ("name", Type::STR),
            ("fieldSelector", requirements("kubernetes.FieldSelectorAttributes")),
            ("labelSelector", requirements("kubernetes.LabelSelectorAttributes")),
        ],
    );
    let path = Type::record("kubernetes.NonResourceAttributes", &[("path", Type::STR), ("verb", Type::STR)]);
    Type::record(
        "kubernetes.SubjectAccessReviewSpec",
        &[
            ("resourceAttributes", resource),
            ("nonResourceAttributes", path),
            ("user", Type::STR),
            ("groups", texts()),
            ("extra", Type::map(Type::STR, texts())),
            ("uid", Type::STR),
        ],
    )
}

impl Webhook {
    /// A webhook at the server of a kubeconfig file.
    ///
    /// # Errors
    /// The file cannot be used, or a condition is no expression of a boolean.
    pub fn new(kubeconfig: &Path, options: WebhookOptions) -> Result<Self, String> {
        let server = client::Webhook::load(kubeconfig, "kube-apiserver").map_err(|e| e.to_string())?;
        let env = celx::Env::new().with("request", request_type());
        let compile = |source: &String| {
            let program = env.compile(source).map_err(|e| e.to_string())?;
            if matches!(program.output().kind, celx::types::TypeKind::Bool) {
                Ok(program)
            } else {
                Err("must evaluate to bool".to_owned())
            }
        };
        let conditions: Result<Vec<_>, String> = options.conditions.iter().map(compile).collect();
        let conditions = conditions.map_err(|e| format!("matchConditions: {e}"))?;
        Ok(Self { server, options, conditions, cache: Mutex::default() })
    }

    /// Its name in metrics.
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Whether the webhook is to be asked.
    fn matches(&self, spec: &Value) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let started = Instant::now();
        let outcome = self.evaluate(spec);
        metrics().conditions(&self.options.name, &outcome, started.elapsed());
        outcome
    }

    fn evaluate(&self, spec: &Value) -> Result<bool, String> {
        let ty = request_type();
        let mut failed = None;
        for program in &self.conditions {
            let outcome = celx::from_json(spec, &ty).and_then(|request| {
                let mut meter = celx::Meter::new(celx::CALL_LIMIT);
                program.eval(&vec![request], &mut meter).map(|v| matches!(v, celx::Value::Bool(true)))
            });
            match outcome {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(error) => failed = Some(error.to_string()),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    async fn ask(&self, spec: &Value) -> Result<Value, String> {
        let version = &self.options.version;
        let review = json!({
            "apiVersion": format!("authorization.k8s.io/{version}"), "kind": "SubjectAccessReview",
            "metadata": {}, "spec": spec, "status": {"allowed": false},
        });
        let mut pause = FIRST_PAUSE;
        for attempt in 1.. {
            let failure = match self.server.post(&review, self.options.timeout).await {
                Ok((code, mut answer)) if (200..300).contains(&code) => return Ok(answer["status"].take()),
                Ok((code, answer)) => {
                    let message = answer["message"].as_str().unwrap_or("unknown");
                    let failure = format!("the server answered {code}: {message}");
                    if code < 500 && code != 429 {
                        return Err(failure);
                    }
                    failure
                }
                Err(error) => error,
            };
            if attempt == TRIES {
                return Err(failure);
            }
            rt::time::sleep(pause).await;
            pause = pause.mul_f64(1.5);
        }
        Err("not asked".into())
    }

    fn known(&self, question: &str) -> Option<Value> {
        let cache = self.cache.lock();
        cache.get(question).filter(|(_, end)| rt::time::unix_seconds() < *end).map(|(status, _)| status.clone())
    }

    fn remember(&self, question: String, status: &Value) {
        let allowed = status["allowed"] == true;
        let ttl = if allowed { self.options.authorized_ttl } else { self.options.unauthorized_ttl };
        if ttl.is_zero() || question.len() > LONGEST_QUESTION {
            return;
        }
        let now = rt::time::unix_seconds();
        let mut cache = self.cache.lock();
        if cache.len() >= CACHED {
            cache.retain(|_, (_, end)| now < *end);
            if cache.len() >= CACHED {
                cache.clear();
            }
        }
        cache.insert(question, (status.clone(), now + i64::try_from(ttl.as_secs()).unwrap_or(0)));
    }

    async fn decide(&self, attributes: &Attributes) -> Result<(Decision, String), String> {
        let spec = spec(attributes, &self.options.version);
        if !self.matches(&spec)? {
            return Ok((Decision::NoOpinion, String::new()));
        }
        let question = spec.to_string();
        let status = match self.known(&question) {
            Some(status) => status,
            None => {
                let started = Instant::now();
                let asked = self.ask(&spec).await;
                metrics().asked(&self.options.name, asked.is_ok(), started.elapsed());
                if asked.is_err() && !self.options.deny_on_failure {
                    metrics().fail_open(&self.options.name);
                }
                let status = asked?;
                self.remember(question, &status);
                status
            }
        };
        let reason = status["reason"].as_str().unwrap_or("").to_owned();
        Ok(match (status["denied"] == true, status["allowed"] == true) {
            (true, _) => (Decision::Deny, reason),
            (false, true) => (Decision::Allow, reason),
            (false, false) => (Decision::NoOpinion, reason),
        })
    }
}

/// The question as a SubjectAccessReviewSpec; what is empty is left out.
fn spec(of: &Attributes, version: &str) -> Value {
    let mut spec = json!({});
    let groups = if version == "v1beta1" { "group" } else { "groups" };
    let mut put = |name: &str, value: Value| {
        let empty = match &value {
            Value::String(s) => s.is_empty(),
            Value::Array(a) => a.is_empty(),
            Value::Object(o) => o.is_empty(),
            _ => false,
        };
        if !empty {
            spec[name] = value;
        }
    };
    put("user", of.user.name.clone().into());
    put("uid", of.user.uid.clone().into());
    put(groups, json!(of.user.groups));
    put("extra", json!(of.user.extra));
    if of.resource_request {
        put("resourceAttributes", resource(of));
    } else {
        put("nonResourceAttributes", json!({"path": of.path, "verb": of.verb}));
    }
    spec
}

fn resource(of: &Attributes) -> Value {
    let mut tree = json!({});
    for (name, value) in [
        ("namespace", &of.namespace),
        ("verb", &of.verb),
        ("group", &of.api_group),
        ("version", &of.api_version),
        ("resource", &of.resource),
        ("subresource", &of.subresource),
        ("name", &of.name),
    ] {
        if !value.is_empty() {
            tree[name] = value.as_str().into();
        }
    }
    let fields = of.field_selector.iter().flat_map(|s| &s.requirements).map(|r| {
        let operator = if r.equal { "In" } else { "NotIn" };
        json!({"key": r.field, "operator": operator, "values": [r.value]})
    });
    let fields: Vec<Value> = fields.collect();
    if !fields.is_empty() {
        tree["fieldSelector"] = json!({"requirements": fields});
    }
    let labels = of.label_selector.iter().flat_map(|s| &s.requirements).filter_map(|r| {
        // Requirements only narrow: one that cannot be said is left out.
        let operator = match r.operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            Operator::GreaterThan | Operator::LessThan => return None,
        };
        let mut one = json!({"key": r.key, "operator": operator});
        if !r.values.is_empty() {
            one["values"] = json!(r.values);
        }
        Some(one)
    });
    let labels: Vec<Value> = labels.collect();
    if !labels.is_empty() {
        tree["labelSelector"] = json!({"requirements": labels});
    }
    tree
}

#[async_trait]
impl Authorizer for Webhook {
    async fn authorize(&self, attributes: &Attributes) -> Result<(Decision, String), AuthorizerError> {
        match self.decide(attributes).await {
            Ok(decided) => Ok(decided),
            Err(message) if self.options.deny_on_failure => {
                tracing::warn!(error = message, "authorization webhook failed");
                Ok((Decision::Deny, message))
            }
            Err(message) => Err(AuthorizerError { message }),
        }
    }

    async fn rules_for(&self, _user: &auth_api::UserInfo, _namespace: &str) -> auth_api::Rules {
        auth_api::Rules {
            incomplete: true,
            evaluation_error: "webhook authorizer does not support user rule resolution".into(),
            ..auth_api::Rules::default()
        }
    }
}
