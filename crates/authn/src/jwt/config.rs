//! The configuration of issuers: `--authentication-config`, or what `--oidc-*` says.

use serde::Deserialize;

use super::check::Findings;
use crate::Anonymous;

/// Upstream's limit.
const MOST_ISSUERS: usize = 64;

/// The algorithms that a configured issuer may sign with.
pub const ALGORITHMS: [&str; 8] = ["RS256", "RS384", "RS512", "ES256", "ES384", "PS256", "PS384", "PS512"];

/// An issuer.
#[derive(Debug, Clone, Default)]
pub struct Issuer {
    /// The `iss` of its tokens.
    pub url: String,
    /// Where its keys are found, when not below the URL.
    pub discovery_url: String,
    /// CAs that it is trusted by, in PEM; the system's when empty.
    pub ca_pem: String,
    /// Audiences, of which a token needs one.
    pub audiences: Vec<String>,
    /// Algorithms that it may sign with.
    pub algorithms: Vec<String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum From {
    /// From nowhere.
    #[default]
    Nothing,
    /// A claim, with something in front of it.
    Claim {
        /// The claim.
        name: String,
        /// The prefix.
        prefix: String,
    },
    /// A CEL expression over `claims`.
    Expression(String),
}

/// A rule on claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClaimRule {
    /// A claim has a value.
    Required {
        /// The claim.
        name: String,
        /// The value.
        value: String,
    },
    /// A CEL expression over `claims` is true.
    Expression(Rule),
}

/// An expression with what is said when it is false.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The expression.
    pub expression: String,
    /// The message.
    #[serde(default)]
    pub message: String,
}

/// A configured issuer.
#[derive(Debug, Clone, Default)]
pub struct Jwt {
    /// Who it is.
    pub issuer: Issuer,
    /// Rules on claims.
    pub claim_rules: Vec<ClaimRule>,
    /// The user's name.
    pub username: From,
    /// Groups.
    pub groups: From,
    /// The user's uid.
    pub uid: From,
    /// More facts: key and expression.
    pub extra: Vec<(String, String)>,
    /// Rules on the finished user.
    pub user_rules: Vec<Rule>,
}

/// What a file says.
pub struct Configuration {
    /// Issuers.
    pub jwt: Vec<Jwt>,
    /// Who may come without proof; `None` when the file does not say.
    pub anonymous: Option<Anonymous>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<FileJwt>,
    anonymous: Option<FileAnonymous>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAnonymous {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<FilePath>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilePath {
    path: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FileJwt {
    pub(super) issuer: FileIssuer,
    #[serde(default)]
    pub(super) claim_validation_rules: Vec<FileClaimRule>,
    pub(super) claim_mappings: FileMappings,
    #[serde(default)]
    pub(super) user_validation_rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FileIssuer {
    pub(super) url: String,
    #[serde(rename = "discoveryURL")]
    pub(super) discovery_url: Option<String>,
    #[serde(default)]
    pub(super) certificate_authority: String,
    #[serde(default)]
    pub(super) audiences: Vec<String>,
    #[serde(default)]
    pub(super) audience_match_policy: String,
    #[serde(default)]
    pub(super) egress_selector_type: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(super) struct FileClaimRule {
    pub(super) claim: String,
    pub(super) required_value: String,
    pub(super) expression: String,
    pub(super) message: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileMappings {
    pub(super) username: FileFrom,
    pub(super) groups: FileFrom,
    pub(super) uid: FileFrom,
    pub(super) extra: Vec<FileExtra>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileFrom {
    pub(super) claim: String,
    pub(super) prefix: Option<String>,
    pub(super) expression: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct FileExtra {
    pub(super) key: String,
    pub(super) value_expression: String,
}

/// Reads a file's text. `own` are the issuers of the server's own tokens, which nobody else may be.
///
/// # Errors
/// What is wrong, with its place.
pub fn parse(text: &str, own: &[String]) -> Result<Configuration, String> {
    let file: File = serde_yaml_ng::from_str(text).map_err(|e| e.to_string())?;
    let known = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
    if file.kind != "AuthenticationConfiguration" || !known.contains(&file.api_version) {
        return Err(format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version));
    }
    let anonymous = match file.anonymous {
        None => None,
        Some(given) if !given.enabled && !given.conditions.is_empty() => {
            return Err(
                "anonymous.conditions: Invalid value: enabled should be set to true when conditions are defined".into(),
            );
        }
        Some(given) if !given.enabled => Some(Anonymous::No),
        Some(given) if given.conditions.is_empty() => Some(Anonymous::Yes),
        Some(given) => Some(Anonymous::Paths(given.conditions.into_iter().map(|c| c.path).collect())),
    };
    let mut findings = Findings(Vec::new());
    if file.jwt.len() > MOST_ISSUERS {
        findings.0.push(format!("jwt: Too many: {}: must have at most {MOST_ISSUERS} items", file.jwt.len()));
    }
    for (i, one) in file.jwt.iter().enumerate() {
        findings.jwt(one, &format!("jwt[{i}]"), own);
        let earlier = |same: fn(&FileIssuer, &FileIssuer) -> bool| {
            file.jwt[..i].iter().any(|other| same(&other.issuer, &one.issuer))
        };
        if earlier(|a, b| a.url == b.url) {
            findings.0.push(format!("jwt[{i}].issuer.url: Duplicate value: {:?}", one.issuer.url));
        }
        if earlier(|a, b| a.discovery_url == b.discovery_url && a.discovery_url.as_ref().is_some_and(|u| !u.is_empty()))
        {
            let url = one.issuer.discovery_url.as_deref().unwrap_or_default();
            findings.0.push(format!("jwt[{i}].issuer.discoveryURL: Duplicate value: {url:?}"));
        }
    }
    match findings.0.len() {
        0 => {}
        1 => return Err(findings.0.remove(0)),
        _ => return Err(format!("[{}]", findings.0.join(", "))),
    }
    let jwt = file.jwt.into_iter().enumerate().map(|(i, one)| issuer(one, &format!("jwt[{i}]")));
    let jwt = jwt.collect::<Result<Vec<Jwt>, String>>()?;
    Ok(Configuration { jwt, anonymous })
}

fn issuer(file: FileJwt, at: &str) -> Result<Jwt, String> {
    let discovery_url = file.issuer.discovery_url.unwrap_or_default();
    let claim_rules = file
        .claim_validation_rules
        .into_iter()
        .map(|rule| match rule.expression.is_empty() {
            true => ClaimRule::Required { name: rule.claim, value: rule.required_value },
            false => ClaimRule::Expression(Rule { expression: rule.expression, message: rule.message }),
        })
        .collect();
    let mappings = file.claim_mappings;
    let username = from(mappings.username, &format!("{at}.claimMappings.username"), true)?;
    if username == From::Nothing {
        return Err(format!("{at}.claimMappings.username: Required value: claim or expression is required"));
    }
    Ok(Jwt {
        issuer: Issuer {
            url: file.issuer.url,
            discovery_url,
            ca_pem: file.issuer.certificate_authority,
            audiences: file.issuer.audiences,
            algorithms: ALGORITHMS.map(str::to_owned).to_vec(),
        },
        claim_rules,
        username,
        groups: from(mappings.groups, &format!("{at}.claimMappings.groups"), true)?,
        uid: from(mappings.uid, &format!("{at}.claimMappings.uid"), false)?,
        extra: mappings.extra.into_iter().map(|e| (e.key, e.value_expression)).collect(),
        user_rules: file.user_validation_rules,
    })
}

fn from(given: FileFrom, at: &str, prefixed: bool) -> Result<From, String> {
    match (given.claim.is_empty(), given.expression.is_empty(), given.prefix) {
        (false, false, _) => Err(format!("{at}: Invalid value: claim and expression can't both be set")),
        (true, true, None) => Ok(From::Nothing),
        (true, _, Some(_)) => Err(format!("{at}.prefix: Invalid value: prefix can't be set without claim")),
        (true, false, None) => Ok(From::Expression(given.expression)),
        (false, true, None) if prefixed => Err(format!(
            "{at}.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing"
        )),
        (false, true, prefix) => Ok(From::Claim { name: given.claim, prefix: prefix.unwrap_or_default() }),
    }
}
