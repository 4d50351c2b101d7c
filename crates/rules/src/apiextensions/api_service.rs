//! APIService.

use crate::{C, Defaults, Rules, Tree};

/// Rules of the kind.
pub const RULES: Rules = Rules { default, validate, ..Rules::NONE };

fn default(body: &mut Tree) {
    if let Some(service) = body.descend(&["spec", "service"]) {
        service.default_value("port", 443);
    }
}

fn validate(service: &C) {
    let spec = service.get("spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let expected = format!("{}.{}", version.str(), group.str());
    if service.get("metadata.name").str() != expected {
        let word = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
        service.get("metadata.name").invalid(word);
    }
    if !group.is_zero() {
        group.check(meta::names::dns1123_subdomain);
    } else if version.str() != "v1" {
        group.missing("only v1 may have an empty group and it better be legacy kube");
    }
    let findings = meta::names::dns1035_label(version.str());
    for finding in findings {
        version.invalid_value(version.str(), finding);
    }
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let value = spec.get(field);
        if value.int() <= 0 || value.int() > most {
            value.invalid_value(value.int(), format!("must be positive and less than {most}"));
        }
    }
    let backend = spec.get("service");
    if !backend.exists() {
        if !spec.get("caBundle").is_zero() {
            spec.get("caBundle").invalid("local APIServices may not have a caBundle");
        }
        if spec.get("insecureSkipTLSVerify").is_true() {
            spec.get("insecureSkipTLSVerify").invalid("local APIServices may not have insecureSkipTLSVerify");
        }
        return;
    }
    backend.get("namespace").required();
    backend.get("name").required();
    if spec.get("insecureSkipTLSVerify").is_true() && !spec.get("caBundle").is_zero() {
        spec.get("insecureSkipTLSVerify").invalid("may not be true if caBundle is present");
    }
}
