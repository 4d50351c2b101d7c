//! Configuration and mapping; signatures are tested with a key of ours.

use serde_json::json;

use super::config::{From, parse};
use super::*;

const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
const ISSUER: &str = "issuer: {url: 'https://issuer.example.com', audiences: [me]}";

fn jwt(rest: &str) -> String {
    format!("{HEAD}jwt:\n- {{{ISSUER}, {rest}}}\n")
}

fn map(rest: &str, claims: Value) -> Result<auth_api::UserInfo, String> {
    let configuration = parse(&jwt(rest), &[])?.jwt.remove(0);
    Mapping::new(&configuration)?.user(claims.as_object().expect("an object"))
}

#[test]
fn claims_become_users() {
    let user = map(
        "claimMappings: {username: {claim: sub, prefix: 'o:'}, groups: {claim: groups, prefix: ''}}",
        json!({"sub": "jane", "groups": ["a", "b"]}),
    )
    .expect("a user");
    assert_eq!((user.name.as_str(), user.groups.join(",")), ("o:jane", "a,b".into()));
    let cel = "claimMappings: {username: {expression: 'claims.name + \"@\" + claims.org.id'}, \
               groups: {expression: 'claims.roles.split(\",\")'}, uid: {expression: 'claims.sub'}, \
               extra: [{key: example.org/tier, valueExpression: 'claims.tier'}]}, \
               claimValidationRules: [{expression: 'claims.exp - claims.iat <= 3600', message: too long}], \
               userValidationRules: [{expression: '!user.username.startsWith(\"system:\")', message: no system users}]";
    let claims =
        json!({"name": "jane", "org": {"id": "x"}, "roles": "r,s", "sub": "1", "tier": "gold", "iat": 0, "exp": 60});
    let user = map(cel, claims.clone()).expect("a user");
    assert_eq!((user.name.as_str(), user.uid.as_str(), user.groups.join(",")), ("jane@x", "1", "r,s".into()));
    assert_eq!(user.extra["example.org/tier"], ["gold"]);
    for (field, value, wanted) in
        [("exp", json!(7200), "too long"), ("name", json!("system:jane"), "no system users"), ("roles", json!(1), "")]
    {
        let mut other = claims.clone();
        other[field] = value;
        let error = map(cel, other).expect_err("refused");
        assert!(error.contains(wanted), "{error}");
    }
    let email = "claimMappings: {username: {claim: email, prefix: ''}}";
    assert!(map(email, json!({"email": "a@b", "email_verified": false})).is_err());
    assert!(map(email, json!({"email": "a@b", "email_verified": true})).is_ok());
    let required =
        "claimValidationRules: [{claim: hd, requiredValue: x}], claimMappings: {username: {claim: sub, prefix: ''}}";
    assert!(map(required, json!({"sub": "a", "hd": "x"})).is_ok());
    assert!(map(required, json!({"sub": "a"})).expect_err("refused").contains("not present"));
}

#[test]
fn files_are_checked() {
    let anonymous =
        parse(&format!("{HEAD}anonymous: {{enabled: true, conditions: [{{path: /livez}}]}}"), &[]).expect("valid");
    assert_eq!(anonymous.anonymous, Some(crate::Anonymous::Paths(vec!["/livez".into()])));
    let by_claim = parse(&jwt("claimMappings: {username: {claim: sub, prefix: ''}}"), &[]).expect("valid");
    assert!(matches!(by_claim.jwt[0].username, From::Claim { .. }));
    for (text, wanted) in [
        (format!("{HEAD}what: 1"), "unknown field"),
        (format!("{HEAD}anonymous: {{enabled: false, conditions: [{{path: /x}}]}}"), "enabled should be set to true"),
        (jwt("claimMappings: {}"), "username: Required value"),
        (jwt("claimMappings: {username: {claim: sub}}"), "prefix is required"),
        (jwt("claimMappings: {username: {claim: sub, prefix: '', expression: x}}"), "can't both be set"),
        (jwt("claimMappings: {username: {claim: a, prefix: ''}}").replace("https:", "http:"), "scheme must be https"),
        (jwt("claimMappings: {username: {claim: a, prefix: ''}}").replace("[me]", "[a, b]"), "MatchAny"),
        (
            jwt("claimMappings: {username: {claim: a, prefix: ''}}").replace("issuer.example", "own.example"),
            "URL must not overlap with disallowed issuers: [https://own.example.com]",
        ),
        (jwt("claimMappings: {username: {expression: claims.email}}"), "claims.email_verified must be used"),
        (
            jwt("claimMappings: {username: {claim: a, prefix: ''}, extra: [{key: k8s.io/a, valueExpression: x}]}"),
            "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        ),
        (
            jwt("claimMappings: {username: {claim: a, prefix: ''}}").replace("[me]", "[me], egressSelectorType: x"),
            "egress selector must be either controlplane or cluster",
        ),
    ] {
        let error =
            parse(&text, &["https://own.example.com".into()]).err().unwrap_or_else(|| panic!("accepted {text}"));
        assert!(error.contains(wanted), "{error} is not {wanted}");
    }
    let bad =
        parse(&jwt("claimMappings: {username: {expression: 'claims.'}}"), &[]).expect("not compiled yet").jwt.remove(0);
    assert!(Mapping::new(&bad).is_err());
}
