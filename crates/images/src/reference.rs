//! Names of images: Docker's short forms made whole.

use oci_client::Reference;

use crate::{Error, Result};

/// Parses a name as Docker and containerd do: `nginx` is `docker.io/library/nginx:latest`.
pub(crate) fn parse(name: &str) -> Result<Reference> {
    let bad = |message: String| Error::Name { name: name.to_owned(), message };
    let reference: Reference = name.parse().map_err(|e: oci_client::ParseError| bad(e.to_string()))?;
    if reference.tag().is_none() && reference.digest().is_none() {
        let (registry, repository) = (reference.registry().to_owned(), reference.repository().to_owned());
        return Ok(Reference::with_tag(registry, repository, "latest".to_owned()));
    }
    Ok(reference)
}

/// The whole form of a name, `registry/repository:tag` or `registry/repository@digest`. A tag beside a digest is left
/// out, since the digest alone decides.
///
/// # Errors
/// A name that does not parse.
pub fn canonical_name(name: &str) -> Result<String> {
    Ok(canonical(&parse(name)?))
}

pub(crate) fn canonical(reference: &Reference) -> String {
    let repository = repository_name(reference);
    match (reference.digest(), reference.tag()) {
        (Some(digest), _) => format!("{repository}@{digest}"),
        (None, Some(tag)) => format!("{repository}:{tag}"),
        (None, None) => repository,
    }
}

/// `registry/repository`.
pub(crate) fn repository_name(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// The hexadecimal part of an id given as `sha256:<hex>` or `<hex>`; `None` for a name.
pub(crate) fn as_id(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    (hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit())).then_some(hex)
}

#[cfg(test)]
mod tests {
    use super::canonical_name;

    #[test]
    fn names_are_made_whole() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let cases = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("user/app:1", "docker.io/user/app:1".to_owned()),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".to_owned()),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest".to_owned()),
            (&format!("nginx:1@{digest}"), format!("docker.io/library/nginx@{digest}")),
        ];
        for (name, expect) in cases {
            assert_eq!(canonical_name(name).unwrap(), expect, "{name}");
        }
        for bad in ["", "a/UPPER", "a b", "nginx:"] {
            assert!(canonical_name(bad).is_err(), "{bad}");
        }
    }
}
