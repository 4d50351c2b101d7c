//! From claims to a user.

use auth_api::UserInfo;
use celx::{CALL_LIMIT, Env, Meter, Program, Type, from_json};
use serde_json::{Value, json};

use super::Claims;
use super::config::{self, ClaimRule, From, Rule};

enum Source {
    Nothing,
    Claim { name: String, prefix: String },
    Expression(Program),
}

struct Check {
    program: Program,
    rule: Rule,
}

enum ClaimCheck {
    Required { name: String, value: String },
    Expression(Check),
}

pub(super) struct Mapping {
    claim_checks: Vec<ClaimCheck>,
    username: Source,
    groups: Source,
    uid: Source,
    extra: Vec<(String, Program)>,
    user_checks: Vec<Check>,
    claims_type: Type,
    user_type: Type,
}

fn user_type() -> Type {
    let texts = || Type::list(Type::STR);
    Type::record(
        "kubernetes.UserInfo",
        &[("username", Type::STR), ("uid", Type::STR), ("groups", texts()), ("extra", Type::map(Type::STR, texts()))],
    )
}

fn compile(env: &Env, source: &str) -> Result<Program, String> {
    env.compile(source).map_err(|e| format!("compilation failed: {e}"))
}

/// Evaluates over one variable, to JSON.
fn evaluate(program: &Program, variable: &Value, ty: &Type) -> Result<Value, String> {
    let value = from_json(variable, ty).map_err(|e| e.to_string())?;
    let mut meter = Meter::new(CALL_LIMIT);
    let result = program.eval(&vec![value], &mut meter).map_err(|e| e.to_string())?;
    result.to_json().map_err(|e| e.to_string())
}

fn source(env: &Env, given: &From) -> Result<Source, String> {
    Ok(match given {
        From::Nothing => Source::Nothing,
        From::Claim { name, prefix } => Source::Claim { name: name.clone(), prefix: prefix.clone() },
        From::Expression(text) => Source::Expression(compile(env, text)?),
    })
}

/// A text, or a list of texts; nothing for what is null or empty.
fn texts(value: &Value, what: &str) -> Result<Vec<String>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::String(one) if one.is_empty() => Ok(Vec::new()),
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(all) => {
            let each = all.iter().map(|v| v.as_str().map(str::to_owned));
            each.collect::<Option<Vec<_>>>().ok_or_else(|| format!("oidc: {what} is no list of strings"))
        }
        _ => Err(format!("oidc: {what} is neither a string nor a list of strings")),
    }
}

impl Mapping {
    pub fn new(from: &config::Jwt) -> Result<Self, String> {
        let claims_type = Type::map(Type::STR, Type::DYN);
        let env = Env::new().with("claims", claims_type.clone());
        let users = Env::new().with("user", user_type());
        let check = |env: &Env, rule: &Rule| -> Result<Check, String> {
            Ok(Check { program: compile(env, &rule.expression)?, rule: rule.clone() })
        };
        let claim_checks = from.claim_rules.iter().map(|rule| -> Result<ClaimCheck, String> {
            Ok(match rule {
                ClaimRule::Required { name, value } => {
                    ClaimCheck::Required { name: name.clone(), value: value.clone() }
                }
                ClaimRule::Expression(rule) => ClaimCheck::Expression(check(&env, rule)?),
            })
        });
        let extra = from
            .extra
            .iter()
            .map(|(key, text)| -> Result<(String, Program), String> { Ok((key.clone(), compile(&env, text)?)) });
        Ok(Self {
            claim_checks: claim_checks.collect::<Result<_, String>>()?,
            username: source(&env, &from.username)?,
            groups: source(&env, &from.groups)?,
            uid: source(&env, &from.uid)?,
            extra: extra.collect::<Result<_, String>>()?,
            user_checks: from.user_rules.iter().map(|r| check(&users, r)).collect::<Result<_, _>>()?,
            claims_type,
            user_type: user_type(),
        })
    }

    /// The user that claims make, if all rules hold.
    pub fn user(&self, claims: &Claims) -> Result<UserInfo, String> {
        let tree = Value::Object(claims.clone());
        for check in &self.claim_checks {
            match check {
                ClaimCheck::Required { name, value } => {
                    let Some(given) = claims.get(name) else {
                        return Err(format!("oidc: required claim {name} not present in ID token"));
                    };
                    if given.as_str() != Some(value) {
                        return Err(format!(
                            "oidc: required claim {name} value does not match. Got = {given}, want = {value}"
                        ));
                    }
                }
                ClaimCheck::Expression(check) => self.holds(check, &tree, &self.claims_type)?,
            }
        }
        let name = self.username(claims, &tree)?;
        let groups = match &self.groups {
            Source::Claim { name, prefix } => {
                let all = texts(claims.get(name).unwrap_or(&Value::Null), &format!("parse groups claim {name:?}"))?;
                all.into_iter().map(|g| format!("{prefix}{g}")).collect()
            }
            Source::Expression(program) => texts(&evaluate(program, &tree, &self.claims_type)?, "groups expression")?,
            Source::Nothing => Vec::new(),
        };
        let uid = match &self.uid {
            Source::Claim { name, .. } => claims.get(name).and_then(Value::as_str).unwrap_or("").to_owned(),
            Source::Expression(program) => {
                evaluate(program, &tree, &self.claims_type)?.as_str().unwrap_or("").to_owned()
            }
            Source::Nothing => String::new(),
        };
        let mut user = UserInfo { name, uid, groups, ..UserInfo::default() };
        for (key, program) in &self.extra {
            let values = texts(&evaluate(program, &tree, &self.claims_type)?, "extra expression")?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        let shown = json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra});
        for check in &self.user_checks {
            self.holds(check, &shown, &self.user_type)?;
        }
        Ok(user)
    }

    fn username(&self, claims: &Claims, tree: &Value) -> Result<String, String> {
        let name = match &self.username {
            Source::Claim { name, prefix } => {
                let given = claims.get(name).and_then(Value::as_str);
                let given = given.ok_or_else(|| format!("oidc: parse username claims {name:?}: claim not present"))?;
                // An address counts only when its owner proved it, where the issuer says so at all.
                if name == "email" && claims.get("email_verified").is_some_and(|v| v != true) {
                    return Err(format!("oidc: email not verified: {given}"));
                }
                format!("{prefix}{given}")
            }
            Source::Expression(program) => {
                let value = evaluate(program, tree, &self.claims_type)?;
                value.as_str().ok_or("oidc: error evaluating username claim expression: not a string")?.to_owned()
            }
            Source::Nothing => String::new(),
        };
        if name.is_empty() { Err("oidc: username claim is empty".into()) } else { Ok(name) }
    }

    fn holds(&self, check: &Check, variable: &Value, ty: &Type) -> Result<(), String> {
        let value = evaluate(&check.program, variable, ty)?;
        if value == true {
            return Ok(());
        }
        let message = if check.rule.message.is_empty() {
            format!("expression {:?} resulted in false", check.rule.expression)
        } else {
            check.rule.message.clone()
        };
        Err(format!("oidc: validation expression failed: {message}"))
    }
}
