//! Names of images, normalised as Docker does: `busybox` is `docker.io/library/busybox:latest`.
//!
//! Grammar: `[REGISTRY[:PORT]/]PATH[:TAG][@DIGEST]`. The first part is a registry only if it holds a dot, a colon
//! or an upper-case letter, or is `localhost`. What parses here is safe in a URL and in a header.

use crate::digest::Digest;
use crate::error::{Error, Result};

const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
const MAX_NAME: usize = 255;

/// A parsed name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`, `127.0.0.1:5000`.
    pub registry: String,
    /// `library/busybox`.
    pub repository: String,
    /// Absent only where a digest was given.
    pub tag: Option<String>,
    /// Decides over the tag where both are given.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Parses and normalises.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = |why: &str| Error::invalid(format!("invalid image name {text:?}: {why}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (name, tag) = split_tag(rest);
        if let Some(tag) = tag
            && !valid_tag(tag)
        {
            return Err(invalid("invalid tag"));
        }
        if name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid("cannot specify 64-byte hexadecimal strings"));
        }
        let (registry, repository) = split_registry(name);
        if !valid_registry(&registry) {
            return Err(invalid("invalid registry"));
        }
        if registry.len() + repository.len() > MAX_NAME || !repository.split('/').all(valid_component) {
            let why = if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
                "repository name must be lowercase"
            } else {
                "invalid reference format"
            };
            return Err(invalid(why));
        }
        let tag = match (tag, &digest) {
            (Some(tag), _) => Some(tag.to_owned()),
            (None, Some(_)) => None,
            (None, None) => Some(DEFAULT_TAG.to_owned()),
        };
        Ok(Self { registry, repository, tag, digest })
    }

    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// `registry/repository:tag`, where there is a tag and no digest decides over it.
    pub fn tagged(&self) -> Option<String> {
        let tag = self.tag.as_ref().filter(|_| self.digest.is_none())?;
        Some(format!("{}:{tag}", self.name()))
    }

    /// What the registry's manifest endpoint wants: the digest, or the tag.
    pub fn selector(&self) -> &str {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag,
            (None, None) => DEFAULT_TAG,
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.registry, self.repository)?;
        match (&self.tag, &self.digest) {
            (_, Some(digest)) => write!(out, "@{digest}"),
            (Some(tag), None) => write!(out, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// A colon after the last slash starts the tag; an earlier one belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (text, None),
    }
}

fn split_registry(name: &str) -> (String, String) {
    let (registry, repository) = match name.split_once('/') {
        Some((first, rest)) if is_registry(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if registry == DEFAULT_REGISTRY && !repository.contains('/') {
        return (registry.to_owned(), format!("library/{repository}"));
    }
    (registry.to_owned(), repository.to_owned())
}

fn is_registry(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// `host`, `host:port`, `[v6]:port`.
fn valid_registry(registry: &str) -> bool {
    if let Some(rest) = registry.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(valid_port));
    }
    let (host, port) = match registry.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (registry, None),
    };
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.split('.').all(label) && port.is_none_or(valid_port)
}

fn valid_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn valid_component(component: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [component.bytes().next(), component.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(alphanumeric))
        && component.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
        })
}

fn valid_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= 128
        && tag.bytes().next().is_some_and(word)
        && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normalises_as_docker_does() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("quay.io/a/b@{digest}");
        let both = format!("quay.io/a/b:1@{digest}");
        let cases = [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("user/app", "docker.io/user/app:latest"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/a/b:c", "docker.io/a/b:c"),
            ("localhost/a", "localhost/a:latest"),
            ("127.0.0.1:5000/busybox:1", "127.0.0.1:5000/busybox:1"),
            ("[::1]:5000/a/b", "[::1]:5000/a/b:latest"),
            ("Host/app", "Host/app:latest"),
            ("a__b/c-d--e.f", "docker.io/a__b/c-d--e.f:latest"),
            (with_digest.as_str(), with_digest.as_str()),
            (both.as_str(), with_digest.as_str()),
        ];
        for (given, expected) in cases {
            assert_eq!(Reference::parse(given).unwrap().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn refuses_what_is_not_a_name() {
        let long = "a".repeat(256);
        let hex = "a".repeat(64);
        let bad = [
            "",
            ":",
            "a:",
            "/a",
            "a/",
            "a//b",
            "A/b/../c",
            "a/../b",
            "UPPER",
            "a:b:c",
            "a@b",
            "a b",
            "a\n",
            "-a",
            "a-",
            "a._b",
            "host:99999/a",
            "host:x/a",
            "a:-t",
            "x.y/",
            "[::1/a",
            "é",
            &long,
            &hex,
        ];
        for name in bad {
            assert!(Reference::parse(name).is_err(), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn never_panics_and_is_stable(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                let again = Reference::parse(&reference.to_string()).unwrap();
                prop_assert_eq!(again.to_string(), reference.to_string());
            }
        }
    }
}
