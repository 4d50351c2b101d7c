//! Names of images: Docker's short forms made whole.

use oci_client::Reference;

use crate::{Error, Result};

const NAME_MAX: usize = 255;
const TAG_MAX: usize = 128;
const HUB: &str = "docker.io";

/// Parses a name as Docker and containerd do: `nginx` is `docker.io/library/nginx:latest`. By hand: the client
/// library's expression for it takes 6 MB and 50 ms.
pub(crate) fn parse(name: &str) -> Result<Reference> {
    let bad = |message: &str| Error::Name { name: name.to_owned(), message: message.to_owned() };
    let format = || bad("invalid reference format");
    let (rest, digest) = match name.split_once('@') {
        None => (name, None),
        Some((rest, digest)) => (rest, Some(digest)),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        // A colon before a slash is a port's.
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) || digest.is_some_and(|digest| !is_digest(digest)) {
        return Err(format());
    }
    let (registry, repository) = match path.split_once('/') {
        Some((first, rest)) if names_registry(first) => (first, rest.to_owned()),
        _ => (HUB, path.to_owned()),
    };
    let registry = if registry == "index.docker.io" { HUB } else { registry };
    if repository.chars().any(|c| c.is_ascii_uppercase()) {
        return Err(bad("invalid reference format: repository name must be lowercase"));
    }
    if !is_registry(registry) || !repository.split('/').all(is_component) {
        return Err(format());
    }
    if repository.len() > NAME_MAX {
        return Err(bad("repository name must not be more than 255 characters"));
    }
    let official = registry == HUB && !repository.contains('/');
    let repository = if official { format!("library/{repository}") } else { repository };
    let registry = registry.to_owned();
    Ok(match (tag, digest) {
        (Some(tag), Some(digest)) => {
            Reference::with_tag_and_digest(registry, repository, tag.to_owned(), digest.to_owned())
        }
        (None, Some(digest)) => Reference::with_digest(registry, repository, digest.to_owned()),
        (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
    })
}

/// Whether what stands before the first slash is a host and not the beginning of a repository at Docker's.
fn names_registry(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost" || first.chars().any(|c| c.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let host = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            host
        }
        _ => text,
    };
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let part = |part: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = part.as_bytes();
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    host.split('.').all(part)
}

/// Lower-case letters and digits; between them a dot, one or two underscores, or any number of dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |text: &str| matches!(text, "" | "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    text.starts_with(alphanumeric) && text.ends_with(alphanumeric) && text.split(alphanumeric).all(separator)
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = text.bytes().next().is_some_and(word);
    first && text.len() <= TAG_MAX && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    let Some((algorithm, hex)) = text.split_once(':') else { return false };
    let length = match algorithm {
        "sha256" => 64,
        "sha384" => 96,
        "sha512" => 128,
        _ => return false,
    };
    hex.len() == length && hex.bytes().all(|b| b.is_ascii_hexdigit())
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
            ("localhost:5000", "docker.io/library/localhost:5000".to_owned()),
            ("index.docker.io/a__b--c.d", "docker.io/library/a__b--c.d:latest".to_owned()),
            ("[::1]:5000/a:1", "[::1]:5000/a:1".to_owned()),
        ];
        for (name, expect) in cases {
            assert_eq!(canonical_name(name).unwrap(), expect, "{name}");
        }
        for bad in
            ["", "a/UPPER", "a b", "nginx:", "a//b", "a..b", "-a/b.c", "x.y:z/a", "a@sha256:12", "a:b/c/", ":tag"]
        {
            assert!(canonical_name(bad).is_err(), "{bad}");
        }
    }
}
