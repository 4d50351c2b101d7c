//! Name validators for [`crate::Strategy::validate_name`]: with `prefix`, a trailing dash is masked as for generateName.

/// `NameIsDNSSubdomain`.
pub fn dns1123_subdomain(name: &str, prefix: bool) -> Vec<String> {
    meta::names::dns1123_subdomain(&masked(name, prefix))
}

/// `NameIsDNSLabel`.
pub fn dns1123_label(name: &str, prefix: bool) -> Vec<String> {
    meta::names::dns1123_label(&masked(name, prefix))
}

/// `NameIsDNS1035Label`.
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    meta::names::dns1035_label(&masked(name, prefix))
}

/// `ValidatePathSegmentName`: RBAC names and the like.
pub fn path_segment(name: &str, _prefix: bool) -> Vec<String> {
    meta::names::path_segment(name)
}

fn masked(name: &str, prefix: bool) -> String {
    if prefix { meta::names::mask_trailing_dash(name) } else { name.to_owned() }
}
