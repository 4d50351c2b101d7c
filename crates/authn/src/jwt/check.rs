//! What is wrong with a configured issuer, in upstream's words.

use std::collections::BTreeSet;

use super::config::{FileClaimRule, FileExtra, FileIssuer, FileJwt, FileMappings, Rule};

/// Everything that is wrong, found in one walk.
pub(super) struct Findings(pub(super) Vec<String>);

impl Findings {
    fn invalid(&mut self, at: &str, value: &str, why: &str) {
        self.0.push(format!("{at}: Invalid value: {value:?}: {why}"));
    }

    fn required(&mut self, at: &str, why: &str) {
        self.0.push(if why.is_empty() {
            format!("{at}: Required value")
        } else {
            format!("{at}: Required value: {why}")
        });
    }

    fn duplicate(&mut self, at: &str, value: &str) {
        self.0.push(format!("{at}: Duplicate value: {value:?}"));
    }

    /// Looks at one issuer. `own` are the issuers of the server's own tokens.
    pub(super) fn jwt(&mut self, jwt: &FileJwt, at: &str, own: &[String]) {
        self.issuer(&jwt.issuer, &format!("{at}.issuer"), own);
        self.claim_rules(&jwt.claim_validation_rules, &format!("{at}.claimValidationRules"));
        self.mappings(&jwt.claim_mappings, &jwt.claim_validation_rules, &format!("{at}.claimMappings"));
        self.user_rules(&jwt.user_validation_rules, &format!("{at}.userValidationRules"));
    }

    fn issuer(&mut self, issuer: &FileIssuer, at: &str, own: &[String]) {
        if issuer.url.is_empty() {
            self.required(&format!("{at}.url"), "");
        } else {
            if own.contains(&issuer.url) {
                let all: BTreeSet<&str> = own.iter().map(String::as_str).collect();
                let all: Vec<&str> = all.into_iter().collect();
                let why = format!("URL must not overlap with disallowed issuers: [{}]", all.join(" "));
                self.invalid(&format!("{at}.url"), &issuer.url, &why);
            }
            self.url(&issuer.url, &format!("{at}.url"));
        }
        if let Some(discovery) = issuer.discovery_url.as_deref().filter(|url| !url.is_empty()) {
            let at = format!("{at}.discoveryURL");
            if discovery.trim_end_matches('/') == issuer.url.trim_end_matches('/') {
                self.invalid(&at, discovery, "discoveryURL must be different from URL");
            }
            self.url(discovery, &at);
        }
        self.audiences(issuer, at);
        if !issuer.certificate_authority.is_empty() && pki::pem::certificates(&issuer.certificate_authority).is_empty()
        {
            let why = "data does not contain any valid RSA or ECDSA certificates";
            self.invalid(&format!("{at}.certificateAuthority"), "<omitted>", why);
        }
        let egress = format!("{at}.egressSelectorType");
        match issuer.egress_selector_type.as_str() {
            "" => {}
            kind @ ("controlplane" | "cluster") => {
                self.invalid(&egress, kind, "no egress selector is configured for it, and none can be");
            }
            other => self.invalid(&egress, other, "egress selector must be either controlplane or cluster"),
        }
    }

    fn url(&mut self, url: &str, at: &str) {
        let Some((scheme, rest)) = url.split_once("://") else {
            self.invalid(at, url, "URL scheme must be https");
            return;
        };
        if scheme != "https" {
            self.invalid(at, url, "URL scheme must be https");
        }
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let host = rest.split('/').next().unwrap_or("");
        if host.contains('@') {
            self.invalid(at, url, "URL must not contain a username or password");
        }
        if !query.is_empty() {
            self.invalid(at, url, "URL must not contain a query");
        }
        if !fragment.is_empty() {
            self.invalid(at, url, "URL must not contain a fragment");
        }
    }

    fn audiences(&mut self, issuer: &FileIssuer, at: &str) {
        let all = &issuer.audiences;
        let path = format!("{at}.audiences");
        if all.is_empty() {
            self.required(&path, &format!("at least one {path} is required"));
            return;
        }
        for (i, audience) in all.iter().enumerate() {
            if audience.is_empty() {
                self.required(&format!("{path}[{i}]"), "");
            }
            if all[..i].contains(audience) {
                self.duplicate(&format!("{path}[{i}]"), audience);
            }
        }
        let (policy, path) = (issuer.audience_match_policy.as_str(), format!("{at}.audienceMatchPolicy"));
        if all.len() > 1 && policy != "MatchAny" {
            self.invalid(&path, policy, "audienceMatchPolicy must be MatchAny for multiple audiences");
        }
        if all.len() == 1 && !matches!(policy, "" | "MatchAny") {
            self.invalid(&path, policy, "audienceMatchPolicy must be empty or MatchAny for single audience");
        }
    }

    fn claim_rules(&mut self, rules: &[FileClaimRule], at: &str) {
        for (i, rule) in rules.iter().enumerate() {
            let at = format!("{at}[{i}]");
            match (rule.claim.is_empty(), rule.expression.is_empty()) {
                (false, false) => self.invalid(&at, &rule.claim, "claim and expression can't both be set"),
                (true, true) => self.required(&at, "claim or expression is required"),
                (false, true) => {
                    if !rule.message.is_empty() {
                        let why = "may not be specified when claim is set";
                        self.invalid(&format!("{at}.message"), &rule.message, why);
                    }
                    if rules[..i].iter().any(|other| other.claim == rule.claim) {
                        self.duplicate(&format!("{at}.claim"), &rule.claim);
                    }
                }
                (true, false) => {
                    if !rule.required_value.is_empty() {
                        let why = "may not be specified when expression is set";
                        self.invalid(&format!("{at}.requiredValue"), &rule.required_value, why);
                    }
                    if rules[..i].iter().any(|other| other.expression == rule.expression) {
                        self.duplicate(&format!("{at}.expression"), &rule.expression);
                    }
                }
            }
        }
    }

    fn mappings(&mut self, mappings: &FileMappings, rules: &[FileClaimRule], at: &str) {
        for (i, extra) in mappings.extra.iter().enumerate() {
            let earlier = mappings.extra[..i].iter().any(|other| other.key == extra.key);
            self.extra(extra, earlier, &format!("{at}.extra[{i}]"));
        }
        let username = &mappings.username.expression;
        let verified = |text: &String| names(text, "email_verified");
        let checked = verified(username)
            || mappings.extra.iter().any(|extra| verified(&extra.value_expression))
            || rules.iter().any(|rule| verified(&rule.expression));
        if names(username, "email") && !checked {
            let why = "claims.email_verified must be used in claimMappings.username.expression or \
                       claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used \
                       in claimMappings.username.expression";
            self.invalid(&format!("{at}.username.expression"), username, why);
        }
    }

    fn extra(&mut self, extra: &FileExtra, earlier: bool, at: &str) {
        let (key, path) = (extra.key.as_str(), format!("{at}.key"));
        match key.split_once('/') {
            _ if key.is_empty() => self.required(&path, ""),
            Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
                for wrong in meta::names::dns1123_subdomain(domain) {
                    self.invalid(&path, domain, &wrong);
                }
                let reserved = |root: &str| domain == root || domain.ends_with(&format!(".{root}"));
                if reserved("kubernetes.io") || reserved("k8s.io") {
                    let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
                    self.invalid(&path, key, why);
                }
            }
            _ => self.invalid(&path, key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
        }
        if key != key.to_lowercase() {
            self.invalid(&path, key, "must be lowercase");
        }
        if earlier {
            self.duplicate(&path, key);
        } else if extra.value_expression.is_empty() {
            self.required(&format!("{at}.valueExpression"), "");
        }
    }

    fn user_rules(&mut self, rules: &[Rule], at: &str) {
        for (i, rule) in rules.iter().enumerate() {
            let path = format!("{at}[{i}].expression");
            if rule.expression.is_empty() {
                self.required(&path, "");
            } else if rules[..i].iter().any(|other| other.expression == rule.expression) {
                self.duplicate(&path, &rule.expression);
            }
        }
    }
}

/// Whether an expression names a claim, as `claims.x` or `claims.?x`.
fn names(expression: &str, claim: &str) -> bool {
    ["claims.", "claims.?"].iter().any(|start| {
        expression.match_indices(&format!("{start}{claim}")).any(|(at, found)| {
            let next = expression[at + found.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    })
}
