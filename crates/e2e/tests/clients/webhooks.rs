//! Webhooks of every sort and an extension API server, over TLS, with an API server of the test's own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use e2e::server::{ApiServer, own_etcd};
use serde_json::{Value, json};

use crate::hooks::{self, Memory};
use crate::kubectl::{Kubectl, Said};
use crate::report::Report;
use crate::{TOKEN, extension};

/// What the cases share.
struct World {
    kubectl: Kubectl,
    server: ApiServer,
    ca: pki::Pair,
    memory: Arc<Memory>,
    port: u16,
}

impl std::ops::Deref for World {
    type Target = Kubectl;

    fn deref(&self) -> &Kubectl {
        &self.kubectl
    }
}

impl World {
    /// How the API server reaches a webhook.
    fn client(&self, path: &str) -> Value {
        use base64::Engine;
        let bundle = base64::engine::general_purpose::STANDARD.encode(self.ca.cert_pem());
        json!({"url": format!("https://127.0.0.1:{}{path}", self.port), "caBundle": bundle})
    }

    /// A webhook on ConfigMaps that have a label of its name.
    fn hook(&self, name: &str, path: &str, more: &Value) -> Value {
        let mut hook = json!({
            "name": format!("{name}.hooks.test"), "clientConfig": self.client(path), "sideEffects": "None",
            "admissionReviewVersions": ["v1"], "objectSelector": {"matchLabels": {"for": name}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["CREATE"]}],
        });
        for (field, value) in more.as_object().into_iter().flatten() {
            hook[field] = value.clone();
        }
        hook
    }

    fn register(&self, kind: &str, name: &str, webhooks: &Value) -> Result<()> {
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
            "metadata": {"name": name}, "webhooks": webhooks,
        });
        self.ok(&["create", "-f", "-"], &configuration).map(drop)
    }
}

fn config_map(name: &str, hook: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"for": hook}}, "data": data})
}

const CREATE: &[&str] = &["create", "-f", "-"];

/// A new configuration holds as soon as the API server's own watch has seen it: a marker says when.
async fn until_seen(world: &World, path: &str, hook: &str) -> Result<()> {
    // Server-side dry runs ask webhooks and leave nothing behind.
    let words = ["create", "--dry-run=server", "-f", "-"];
    for attempt in 0..100 {
        world.kubectl(&words, &config_map(&format!("marker-{attempt}"), hook, &json!({"a": "b"})))?;
        if !world.memory.at(path).is_empty() {
            return Ok(());
        }
    }
    bail!("{path} is never asked")
}

async fn mutating(world: &World) -> Result<()> {
    let first = world.hook("mutate", "/mutate-first", &json!({"reinvocationPolicy": "IfNeeded"}));
    let mut second = world.hook("mutate", "/mutate-second", &json!({}));
    second["name"] = json!("mutate-second.hooks.test");
    world.register("Mutating", "mutate", &json!([first, second]))?;
    until_seen(world, "/mutate-second", "mutate").await?;
    world.ok(CREATE, &config_map("mutated", "mutate", &json!({"a": "b"})))?;
    let made = world.get(&["configmap", "mutated"])?;
    ensure!(made["data"]["second"] == "was here", "{made}");
    // Asked again, since the second changed the object after it.
    ensure!(made["metadata"]["annotations"]["first"] == "2", "no reinvocation: {made}");
    let asked = world.memory.at("/mutate-first");
    let real = asked.iter().find(|a| a.body["request"]["name"] == "mutated").context("not asked")?;
    ensure!(real.body["request"]["dryRun"] == false && real.body["request"]["operation"] == "CREATE", "{real:?}");
    ensure!(real.body["request"]["userInfo"]["username"] == "kubernetes-admin", "{real:?}");
    Ok(())
}

async fn client_certificates(world: &World) -> Result<()> {
    let asked = world.memory.at("/mutate-first");
    let client = asked.first().and_then(|a| a.client.clone());
    ensure!(client.as_deref() == Some("the-api-server"), "the webhook saw {client:?}");
    Ok(())
}

async fn validating(world: &World) -> Result<()> {
    world.register("Validating", "validate", &json!([world.hook("validate", "/validate", &json!({}))]))?;
    until_seen(world, "/validate", "validate").await?;
    let said = world.ok(CREATE, &config_map("warned", "validate", &json!({"a": "b"})))?;
    ensure!(said.contains("Warning: the hook warns"), "{said}");
    let said = world.fails(CREATE, &config_map("denied", "validate", &json!({"deny": "yes"})))?;
    let wanted = "admission webhook \"validate.hooks.test\" denied the request: the hook says no";
    ensure!(said.contains(wanted), "{said}");
    Ok(())
}

async fn dry_run(world: &World) -> Result<()> {
    let words = ["create", "--dry-run=server", "-f", "-"];
    world.ok(&words, &config_map("rehearsed", "validate", &json!({"a": "b"})))?;
    let asked = world.memory.at("/validate");
    let rehearsal = asked.iter().find(|a| a.body["request"]["name"] == "rehearsed").context("not asked")?;
    ensure!(rehearsal.body["request"]["dryRun"] == true, "{rehearsal:?}");
    ensure!(!world.kubectl(&["get", "cm", "rehearsed"], &Value::Null)?.worked, "it was kept");
    Ok(())
}

async fn audit_webhook(world: &World) -> Result<()> {
    let fits = |event: &Value| {
        event["objectRef"]["name"] == "warned" && event["stage"] == "ResponseComplete" && event["verb"] == "create"
    };
    let events = |asked: &hooks::Asked| asked.body["items"].as_array().cloned().unwrap_or_default();
    let asked = world.memory.wait("/audit", |asked| events(asked).iter().any(fits)).await?;
    let all = events(&asked);
    let event = all.iter().find(|event| fits(event)).context("no event")?;
    ensure!(event["annotations"]["validate.hooks.test/seen"] == "yes", "{event}");
    ensure!(asked.body["kind"] == "EventList" && event["user"]["username"] == "kubernetes-admin", "{event}");
    Ok(())
}

async fn timeouts_and_failure_policy(world: &World) -> Result<()> {
    let ignored = world.hook("ignore", "/never", &json!({"timeoutSeconds": 1, "failurePolicy": "Ignore"}));
    let failing = world.hook("fail", "/never", &json!({"timeoutSeconds": 1, "failurePolicy": "Fail"}));
    let nonsense = world.hook("nonsense", "/nonsense", &json!({"failurePolicy": "Fail"}));
    world.register("Validating", "broken", &json!([ignored, failing, nonsense]))?;
    until_seen(world, "/nonsense", "nonsense").await?;
    world.ok(CREATE, &config_map("ignored", "ignore", &json!({})))?;
    let said = world.fails(CREATE, &config_map("failed", "fail", &json!({})))?;
    ensure!(said.contains("failed calling webhook \"fail.hooks.test\""), "{said}");
    ensure!(said.contains("context deadline exceeded"), "{said}");
    let said = world.fails(CREATE, &config_map("nonsense", "nonsense", &json!({})))?;
    ensure!(said.contains("failed calling webhook \"nonsense.hooks.test\""), "{said}");
    Ok(())
}

async fn match_conditions(world: &World) -> Result<()> {
    let condition = json!([{"name": "not-small", "expression": "int(object.data.size) > 10"}]);
    let hook = world.hook("match", "/validate", &json!({"matchConditions": condition}));
    world.register("Validating", "match", &json!([hook]))?;
    let small = config_map("small", "match", &json!({"deny": "yes", "size": "5"}));
    let large = config_map("large", "match", &json!({"deny": "yes", "size": "50"}));
    let words = ["create", "--dry-run=server", "-f", "-"];
    let mut refused = false;
    for _ in 0..100 {
        refused = !world.kubectl(&words, &large)?.worked;
        if refused {
            break;
        }
    }
    ensure!(refused, "the condition never holds");
    world.ok(CREATE, &small)?;
    Ok(())
}

async fn conversion(world: &World) -> Result<()> {
    let version = |name: &str, field: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {field: {"type": "integer"}}}},
        }}})
    };
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "beams.hooks.test"},
        "spec": {
            "group": "hooks.test", "scope": "Namespaced", "names": {"plural": "beams", "kind": "Beam"},
            "versions": [version("v1", "size", true), version("v2", "width", false)],
            "conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": world.client("/convert"),
            }},
        },
    });
    world.ok(CREATE, &definition)?;
    world.ok(&["wait", "--for=condition=Established", "crd/beams.hooks.test", "--timeout=60s"], &Value::Null)?;
    let beam = json!({"apiVersion": "hooks.test/v2", "kind": "Beam", "metadata": {"name": "b"}, "spec": {"width": 7}});
    world.ok(CREATE, &beam)?;
    let old = world.get(&["beams.v1.hooks.test", "b"])?;
    ensure!(old["spec"] == json!({"size": 7}) && old["apiVersion"] == "hooks.test/v1", "{old}");
    let new = world.get(&["beams.v2.hooks.test", "b"])?;
    ensure!(new["spec"] == json!({"width": 7}), "{new}");
    let list = world.get(&["beams.v2.hooks.test"])?;
    ensure!(list["items"][0]["spec"]["width"] == 7, "{list}");
    world.ok(&["patch", "beams.v2.hooks.test", "b", "--type=merge", "-p", r#"{"spec":{"width":8}}"#], &Value::Null)?;
    ensure!(world.get(&["beams.v1.hooks.test", "b"])?["spec"]["size"] == 8, "the patch is lost");
    Ok(())
}

/// As somebody with a bearer token and nothing else.
fn with_token<'a>(world: &'a World, token: &'a str, words: &[&'a str]) -> Result<Said> {
    let server = world.server.url.as_str();
    let all = [&["--kubeconfig=/dev/null", "--server", server, "--insecure-skip-tls-verify", "--token", token], words]
        .concat();
    world.kubectl(&all, &Value::Null)
}

async fn token_webhook(world: &World) -> Result<()> {
    let said = with_token(world, "hook-token", &["auth", "whoami", "-o", "json"])?;
    ensure!(said.worked, "{}", said.text);
    let who: Value = serde_json::from_str(&said.text).context("parse")?;
    let user = &who["status"]["userInfo"];
    ensure!(user["username"] == "hooked" && user["uid"] == "7" && user["extra"]["from"] == json!(["hook"]), "{user}");
    ensure!(user["groups"] == json!(["hooks", "system:authenticated"]), "{user}");
    let said = with_token(world, "unknown", &["get", "cm"])?;
    ensure!(!said.worked && said.text.contains("Unauthorized"), "{}", said.text);
    Ok(())
}

async fn authorization_webhook(world: &World) -> Result<()> {
    let said = with_token(world, "hook-token", &["get", "configmaps"])?;
    ensure!(said.worked, "{}", said.text);
    let said = with_token(world, "hook-token", &["get", "secrets"])?;
    ensure!(!said.worked && said.text.contains("the hook forbids it"), "{}", said.text);
    let asked = world.memory.at("/authorize");
    let review =
        asked.iter().find(|a| a.body["spec"]["resourceAttributes"]["resource"] == "secrets").context("not asked")?;
    ensure!(review.body["kind"] == "SubjectAccessReview" && review.body["spec"]["user"] == "hooked", "{review:?}");
    Ok(())
}

/// The documents of the extension among the server's own: they come a moment after it is available.
fn openapi(world: &World) -> Result<()> {
    for (path, text) in [
        ("/openapi/v3", "/openapi/v3/apis/things.test/v1alpha1?hash=1"),
        ("/openapi/v3/apis/things.test/v1alpha1", "A thing of the extension."),
        ("/openapi/v2", "test.things.v1alpha1.Thing"),
        ("/openapi/v2", "/apis/things.test/v1alpha1/things"),
        ("/openapi/v2", "io.k8s.api.core.v1.Pod"),
    ] {
        let mut said = Said { worked: false, text: String::new() };
        for _ in 0..100 {
            said = world.kubectl(&["get", "--raw", path], &Value::Null)?;
            if said.worked && said.text.contains(text) {
                break;
            }
        }
        ensure!(said.worked && said.text.contains(text), "{path} has no {text}: {} bytes", said.text.len());
    }
    let said = world.ok(&["explain", "things.things.test"], &Value::Null)?;
    ensure!(said.contains("A thing of the extension."), "{said}");
    Ok(())
}

async fn aggregation(report: &Report, world: &World) -> Result<()> {
    use base64::Engine;
    let stop = rt::Shutdown::new();
    let port = extension::start(&world.ca, &world.server.pki, &stop).await?;
    let bundle = base64::engine::general_purpose::STANDARD.encode(world.ca.cert_pem());
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "things", "namespace": "default"},
        "spec": {"type": "ExternalName", "externalName": "localhost"},
    });
    let api = json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1alpha1.things.test"},
        "spec": {"group": extension::GROUP, "version": "v1alpha1", "groupPriorityMinimum": 100, "versionPriority": 10,
                 "caBundle": bundle, "service": {"name": "things", "namespace": "default", "port": port}},
    });
    world.ok(CREATE, &service)?;
    world.ok(CREATE, &api)?;
    let wait = |state: &str| {
        let condition = format!("--for=condition=Available={state}");
        world.ok(&["wait", &condition, "apiservice/v1alpha1.things.test", "--timeout=60s"], &Value::Null)
    };
    wait("True")?;
    let things = world.get(&["th"])?;
    let thing = &things["items"][0];
    ensure!(thing["user"] == "kubernetes-admin" && thing["bearer"] == 0, "{thing}");
    ensure!(thing["groups"].to_string().contains("system:masters"), "{thing}");
    let resources = world.ok(&["api-resources", "--api-group=things.test"], &Value::Null)?;
    ensure!(resources.contains("things") && resources.contains("Thing"), "{resources}");
    report.note("webhooks::aggregated_openapi", openapi(world));
    // Nobody else than the front proxy is believed.
    let mut command = Command::new(&world.kubectl.program);
    let server = format!("https://127.0.0.1:{port}");
    command.args(["--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server", &server]);
    let direct =
        command.args(["get", "--raw", "/apis/things.test/v1alpha1/things"]).output().context("ask directly")?;
    ensure!(!direct.status.success(), "the extension answers anybody");
    // Gone, it is found to be so, and its API is refused.
    stop.cancel();
    wait("False")?;
    let said = world.fails(&["get", "--raw", "/apis/things.test/v1alpha1/things"], &Value::Null)?;
    ensure!(said.contains("service unavailable") || said.contains("ServiceUnavailable"), "{said}");
    Ok(())
}

fn write(dir: &Path, name: &str, text: &str) -> Result<String> {
    let path = dir.join(name);
    std::fs::write(&path, text).with_context(|| format!("write {name}"))?;
    Ok(path.display().to_string())
}

/// The API server's flags, and the files that they name.
fn flags(dir: &Path, ca: &pki::Pair, port: u16) -> Result<Vec<String>> {
    let day = std::time::Duration::from_secs(24 * 3600);
    let client = ca.issue(&pki::Subject::new("the-api-server", &[]), &[], pki::Usage::CLIENT, day).context("issue")?;
    let kubeconfig = |name: &str, path: &str| {
        let identity = pki::Identity::Certificate(&client);
        let server = format!("https://127.0.0.1:{port}{path}");
        write(dir, name, &pki::kubeconfig(&server, &ca.cert_pem(), "hooks", "server", &identity))
    };
    // For admission, users are found by the webhook's host.
    let host = format!("127.0.0.1:{port}");
    let credentials = pki::kubeconfig("https://unused", "", "unused", &host, &pki::Identity::Certificate(&client));
    let credentials = write(dir, "admission-users", &credentials)?;
    let plugin = |name: &str| {
        json!({"name": name, "configuration": {
            "apiVersion": "apiserver.config.k8s.io/v1", "kind": "WebhookAdmissionConfiguration", "kubeConfigFile": credentials,
        }})
    };
    let admission = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [plugin("MutatingAdmissionWebhook"), plugin("ValidatingAdmissionWebhook")],
    });
    let policy = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "resources": [{"group": "", "resources": ["configmaps"]}]}, {"level": "None"}],
    });
    Ok(vec![
        "--authorization-mode=RBAC,Webhook".into(),
        "--authorization-webhook-version=v1".into(),
        format!("--authorization-webhook-config-file={}", kubeconfig("authorization", "/authorize")?),
        "--authentication-token-webhook-version=v1".into(),
        format!("--authentication-token-webhook-config-file={}", kubeconfig("authentication", "/authenticate")?),
        format!("--admission-control-config-file={}", write(dir, "admission.json", &admission.to_string())?),
        format!("--audit-policy-file={}", write(dir, "policy.json", &policy.to_string())?),
        format!("--audit-webhook-config-file={}", kubeconfig("audit", "/audit")?),
        "--audit-webhook-batch-max-wait=1s".into(),
        format!("--token-auth-file={}", write(dir, "tokens", &format!("{TOKEN},static,1,\"system:masters\"\n"))?),
    ])
}

/// Runs the cases.
///
/// # Errors
/// What they need does not start.
pub async fn run(report: &Report, binary: &Path) -> Result<()> {
    let Some(program) = e2e::kubectl() else {
        report.skip("webhooks", "there is no kubectl");
        return Ok(());
    };
    let dir = tempfile::Builder::new().prefix("corten-webhooks-").tempdir().context("make a folder")?;
    let ca = pki::Pair::new_ca("hooks").context("make an authority")?;
    let shutdown = rt::Shutdown::new();
    let (memory, port) = hooks::start(&ca, &shutdown).await?;
    let (_etcd, url) = own_etcd(binary, &dir.path().join("etcd"))?;
    let server = ApiServer::start(binary, dir.path(), &url, &flags(dir.path(), &ca, port)?)?;
    let kubectl = Kubectl { program, kubeconfig: server.kubeconfig().to_owned() };
    let world = World { kubectl, server, ca, memory, port };
    let before = report.failures();
    report.note("webhooks::mutating", mutating(&world).await);
    report.note("webhooks::client_certificates", client_certificates(&world).await);
    report.note("webhooks::validating", validating(&world).await);
    report.note("webhooks::dry_run", dry_run(&world).await);
    report.note("webhooks::audit_webhook", audit_webhook(&world).await);
    report.note("webhooks::timeouts_and_failure_policy", timeouts_and_failure_policy(&world).await);
    report.note("webhooks::match_conditions", match_conditions(&world).await);
    report.note("webhooks::conversion", conversion(&world).await);
    report.note("webhooks::token_webhook", token_webhook(&world).await);
    report.note("webhooks::authorization_webhook", authorization_webhook(&world).await);
    report.note("webhooks::aggregation", aggregation(report, &world).await);
    if report.failures() > before {
        eprintln!("== API server\n{}", world.server.process.log());
    }
    shutdown.cancel();
    Ok(())
}
