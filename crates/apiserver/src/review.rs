//! Create-only reviews: TokenReview, SubjectAccessReview and its kin, SelfSubjectReview, SelfSubjectRulesReview.

use auth_api::{Attributes, Decision, NonResourceRule, ResourceRule, UserInfo};
use http::{Response, StatusCode};
use meta::selector::{FieldRequirement, FieldSelector, LabelSelector, Operator, Requirement};
use meta::{Object, Status};
use serde_json::{Map, Value, json};
use wire::Body;

use crate::chain::Call;
use crate::decode::{self, FieldValidation};
use crate::respond;
use crate::route::Target;
use crate::server::State;

/// POST of a review: the same object with its status.
pub(crate) async fn create(call: &mut Call, target: &Target) -> Result<Response<Body>, Status> {
    // Reviews are no tables, and have no metadata worth showing alone: such a wish is a 406, as upstream.
    let negotiated = crate::negotiate::Negotiated::choose(call.headers(), false, true)?;
    let request = target.request(call, "CreateOptions")?;
    let validation = FieldValidation::parse(call.query.get("fieldValidation"), "CreateOptions")?;
    let bytes = decode::read(call.take_body()).await?;
    let mut object = decode::object(target.row(), &target.gvk, call.headers(), &bytes, validation, &request.warnings)?;
    let status = match target.row().kind.as_str() {
        "TokenReview" => token_review(&call.state, &object).await?,
        "SelfSubjectReview" => json!({ "userInfo": user_value(&call.user) }),
        "SelfSubjectRulesReview" => rules_review(call, &object).await?,
        "SelfSubjectAccessReview" => access_review(&call.state, &object, (*call.user).clone()).await?,
        kind => {
            check_subject(kind, &object, &target.namespace)?;
            access_review(&call.state, &object, subject(&object)).await?
        }
    };
    object.body.insert("status".into(), status);
    schema::codec::normalize(&mut object).map_err(Status::internal)?;
    let mut response = respond::tree_response(call.headers(), StatusCode::CREATED, &negotiated, &object)?;
    respond::add_warnings(&mut response, request.warnings.take());
    Ok(response)
}

/// `authentication/v1 UserInfo`.
fn user_value(user: &UserInfo) -> Value {
    let mut value = json!({ "username": user.name });
    if !user.uid.is_empty() {
        value["uid"] = user.uid.as_str().into();
    }
    if !user.groups.is_empty() {
        value["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        value["extra"] = json!(user.extra);
    }
    value
}

async fn token_review(state: &State, object: &Object) -> Result<Value, Status> {
    let token = object.get_str(&["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences: Vec<String> = strings(object.get(&["spec", "audiences"]));
    Ok(match state.config.authenticator.authenticate_token(token, &audiences).await {
        Ok(Some(found)) => {
            let mut status = json!({ "authenticated": true, "user": user_value(&found.user) });
            if !found.audiences.is_empty() {
                status["audiences"] = json!(found.audiences);
            }
            status
        }
        Ok(None) => json!({ "authenticated": false, "user": {} }),
        Err(error) => json!({ "authenticated": false, "user": {}, "error": error.message }),
    })
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default()
}

fn subject(object: &Object) -> UserInfo {
    let mut user = UserInfo {
        name: object.get_str(&["spec", "user"]).to_owned(),
        uid: object.get_str(&["spec", "uid"]).to_owned(),
        groups: strings(object.get(&["spec", "groups"])),
        ..UserInfo::default()
    };
    if let Some(extra) = object.get(&["spec", "extra"]).and_then(Value::as_object) {
        user.extra = extra.iter().map(|(k, v)| (k.to_lowercase(), strings(Some(v)))).collect();
    }
    user
}

fn check_subject(kind: &str, object: &Object, namespace: &str) -> Result<(), Status> {
    let spec = meta::field::Path::new("spec");
    let mut errors = Vec::new();
    let nobody = object.get_str(&["spec", "user"]).is_empty() && strings(object.get(&["spec", "groups"])).is_empty();
    if nobody {
        errors.push(meta::field::Error::invalid(
            &spec.child("user"),
            "",
            "at least one of user or group must be specified",
        ));
    }
    let has = |field: &str| object.get(&["spec", field]).is_some_and(|v| !v.is_null());
    if has("resourceAttributes") && has("nonResourceAttributes") {
        let field = spec.child("nonResourceAttributes");
        errors.push(meta::field::Error::invalid(
            &field,
            Value::Null,
            "cannot be specified in combination with resourceAttributes",
        ));
    }
    if !has("resourceAttributes") && !has("nonResourceAttributes") {
        let field = spec.child("resourceAttributes");
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        errors.push(meta::field::Error::invalid(&field, Value::Null, detail));
    }
    if !errors.is_empty() {
        return Err(Status::invalid(&meta::GroupKind::new("authorization.k8s.io", kind), "", &errors));
    }
    if kind == "LocalSubjectAccessReview" && object.get_str(&["spec", "resourceAttributes", "namespace"]) != namespace {
        return Err(Status::bad_request(format!(
            "spec.resourceAttributes.namespace must match namespace: {namespace}"
        )));
    }
    Ok(())
}

async fn access_review(state: &State, object: &Object, user: UserInfo) -> Result<Value, Status> {
    let mut attributes = Attributes { user, ..Attributes::default() };
    let resource = |field: &str| object.get_str(&["spec", "resourceAttributes", field]).to_owned();
    if object.get(&["spec", "resourceAttributes"]).is_some_and(Value::is_object) {
        attributes.resource_request = true;
        attributes.verb = resource("verb");
        attributes.namespace = resource("namespace");
        attributes.api_group = resource("group");
        attributes.api_version = resource("version");
        attributes.resource = resource("resource");
        attributes.subresource = resource("subresource");
        attributes.name = resource("name");
        let part = |kind: &str| object.get(&["spec", "resourceAttributes", kind]);
        attributes.field_selector = part("fieldSelector").and_then(field_selector);
        attributes.label_selector = part("labelSelector").and_then(label_selector);
    } else if object.get(&["spec", "nonResourceAttributes"]).is_some_and(Value::is_object) {
        attributes.path = object.get_str(&["spec", "nonResourceAttributes", "path"]).to_owned();
        attributes.verb = object.get_str(&["spec", "nonResourceAttributes", "verb"]).to_owned();
    } else {
        let kind = meta::GroupKind::new("authorization.k8s.io", object.kind());
        let field = meta::field::Path::new("spec").child("resourceAttributes");
        let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
        return Err(Status::invalid(&kind, "", &[meta::field::Error::invalid(&field, Value::Null, detail)]));
    }
    let (decision, reason, error) = match state.config.authorizer.authorize(&attributes).await {
        Ok((decision, reason)) => (decision, reason, String::new()),
        Err(error) => (Decision::NoOpinion, String::new(), error.message),
    };
    let mut status = Map::new();
    status.insert("allowed".into(), (decision == Decision::Allow).into());
    if decision == Decision::Deny {
        status.insert("denied".into(), true.into());
    }
    if !reason.is_empty() {
        status.insert("reason".into(), reason.into());
    }
    if !error.is_empty() {
        status.insert("evaluationError".into(), error.into());
    }
    Ok(status.into())
}

fn raw_selector(part: &Value) -> Option<&str> {
    part.get("rawSelector").and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn requirements(part: &Value) -> impl Iterator<Item = (&str, &str, Vec<String>)> {
    let text = |value: &'_ Value| -> Option<String> { value.as_str().map(str::to_owned) };
    part.get("requirements").and_then(Value::as_array).into_iter().flatten().filter_map(move |one| {
        let values = one.get("values").and_then(Value::as_array).into_iter().flatten().filter_map(text).collect();
        Some((one.get("key")?.as_str()?, one.get("operator")?.as_str()?, values))
    })
}

/// A field selector, raw or by requirements; what cannot be said is left out, because requirements only narrow.
fn field_selector(part: &Value) -> Option<FieldSelector> {
    if let Some(text) = raw_selector(part) {
        return FieldSelector::parse(text).ok();
    }
    let all = requirements(part).filter_map(|(key, operator, values)| {
        let [value] = values.as_slice() else { return None };
        let equal = match operator {
            "In" => true,
            "NotIn" => false,
            _ => return None,
        };
        Some(FieldRequirement { field: key.to_owned(), equal, value: value.clone() })
    });
    let requirements: Vec<FieldRequirement> = all.collect();
    (!requirements.is_empty()).then_some(FieldSelector { requirements })
}

fn label_selector(part: &Value) -> Option<LabelSelector> {
    if let Some(text) = raw_selector(part) {
        return LabelSelector::parse(text).ok();
    }
    let all = requirements(part).filter_map(|(key, operator, values)| {
        let operator = match operator {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return None,
        };
        Requirement::new(key, operator, values).ok()
    });
    let requirements: Vec<Requirement> = all.collect();
    (!requirements.is_empty()).then(|| LabelSelector { requirements, ..LabelSelector::everything() })
}

async fn rules_review(call: &Call, object: &Object) -> Result<Value, Status> {
    let namespace = object.get_str(&["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let rules = call.state.config.authorizer.rules_for(&call.user, namespace).await;
    let resource = |rule: &ResourceRule| {
        let mut value = json!({"verbs": rule.verbs, "apiGroups": rule.api_groups, "resources": rule.resources});
        if !rule.resource_names.is_empty() {
            value["resourceNames"] = json!(rule.resource_names);
        }
        value
    };
    let path = |rule: &NonResourceRule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.urls});
    let mut status = json!({
        "resourceRules": rules.resource_rules.iter().map(resource).collect::<Vec<_>>(),
        "nonResourceRules": rules.non_resource_rules.iter().map(path).collect::<Vec<_>>(),
        "incomplete": rules.incomplete,
    });
    if !rules.evaluation_error.is_empty() {
        status["evaluationError"] = rules.evaluation_error.into();
    }
    Ok(status)
}
