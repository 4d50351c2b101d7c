//! CertificateSigningRequest.

use crate::{C, Rules};

use base64::Engine as _;

/// Rules of the kind; it has no defaults.
pub const RULES: Rules = Rules { validate, validate_status: status, ..Rules::NONE };

/// What a certificate may be used for.
const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

fn validate(request: &C) {
    let spec = request.get("spec");
    let text = base64::engine::general_purpose::STANDARD.decode(spec.get("request").str()).unwrap_or_default();
    let pem = String::from_utf8_lossy(&text);
    if !pem.contains("-----BEGIN CERTIFICATE REQUEST-----") {
        spec.get("request").invalid("PEM block type must be CERTIFICATE REQUEST");
    }
    let usages = spec.get("usages");
    usages.required();
    let mut seen: Vec<&str> = Vec::new();
    for usage in usages.items() {
        if !USAGES.contains(&usage.str()) {
            usage.not_supported(&USAGES);
        }
        if seen.contains(&usage.str()) {
            usage.duplicate();
        }
        seen.push(usage.str());
    }
    let signer = spec.get("signerName");
    if signer.str() == "kubernetes.io/legacy-unknown" {
        signer.invalid("the legacy signerName is not allowed via this API version");
    }
    if signer.required() {
        match signer.str().split_once('/') {
            Some((domain, path)) if !path.is_empty() => {
                for finding in meta::names::dns1123_subdomain(domain) {
                    signer.invalid(format!("validating label {domain:?}: {finding}"));
                }
                if !domain.contains('.') {
                    signer.invalid("should be a domain with at least two segments separated by dots");
                }
            }
            _ => signer.invalid("must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        }
    }
    let seconds = spec.get("expirationSeconds");
    if seconds.exists() && seconds.int() < 600 {
        seconds.invalid("may not specify a duration less than 600 seconds (10 minutes)");
    }
    conditions(request);
}

fn conditions(request: &C) {
    let list = request.get("status.conditions");
    let mut seen: Vec<&str> = Vec::new();
    for condition in list.items() {
        let (kind, status) = (condition.get("type"), condition.get("status"));
        kind.required();
        match (kind.str(), status.str()) {
            (_, "") => status.missing(""),
            ("Approved" | "Denied" | "Failed", "True") => {}
            ("Approved" | "Denied" | "Failed", _) => status.not_supported(&["True"]),
            (_, "True" | "False" | "Unknown") => {}
            _ => status.not_supported(&["False", "True", "Unknown"]),
        }
        let other = match kind.str() {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(&other) {
            list.invalid_value(kind.str(), "Approved and Denied conditions are mutually exclusive");
        }
        if seen.contains(&kind.str()) {
            kind.duplicate();
        }
        seen.push(kind.str());
    }
}

/// Decisions stay, and an issued certificate does too.
fn status(new: &C, old: &C) {
    conditions(new);
    let (now, then) = (new.get("status.conditions"), old.get("status.conditions"));
    for kind in ["Approved", "Denied", "Failed"] {
        let has = |list: &C| list.items().any(|c| c.get("type").str() == kind);
        if has(&then) && !has(&now) {
            now.forbidden(format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    let certificate = new.get("status.certificate");
    if !old.get("status.certificate").is_zero() && !certificate.same(&old.get("status.certificate")) {
        certificate.forbidden("updates may not set certificate content");
    }
}
