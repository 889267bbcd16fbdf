//! Names of images as people write them: `busybox:1` is `docker.io/library/busybox:1`.

use knarr_images::Reference;

/// The whole name that a user means: with its registry and its tag.
pub(crate) fn whole(name: &str) -> anyhow::Result<String> {
    Ok(Reference::parse(name)?.to_string())
}

/// The short form of a whole name.
pub(crate) fn short(name: &str) -> &str {
    let rest = name.strip_prefix("docker.io/").unwrap_or(name);
    rest.strip_prefix("library/").filter(|rest| !rest.contains('/')).unwrap_or(rest)
}

/// The short name without its tag.
pub(crate) fn repository(name: &str) -> anyhow::Result<String> {
    let whole = whole(name)?;
    Ok(split(short(&whole)).0.to_owned())
}

/// `NAME:TAG` or `NAME@DIGEST` in its two parts.
pub(crate) fn split(name: &str) -> (&str, &str) {
    if let Some(parts) = name.split_once('@') {
        return parts;
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, ""),
    }
}

/// Whether a name (in its short form) matches what the user wrote: a repository, with or without its tag, `*` and `?`
/// standing for anything within a part of the path.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let pattern = short(pattern);
    is_like(pattern.as_bytes(), name.as_bytes()) || is_like(pattern.as_bytes(), split(name).0.as_bytes())
}

fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => is_like(rest, text),
        (Some((b'*', rest)), Some((next, after))) => {
            is_like(rest, text) || (*next != b'/' && is_like(pattern, after))
        }
        (Some((b'?', rest)), Some((next, after))) => *next != b'/' && is_like(rest, after),
        (Some((wanted, rest)), Some((next, after))) => wanted == next && is_like(rest, after),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_for_people() {
        assert_eq!(short("docker.io/library/busybox:1"), "busybox:1");
        assert_eq!(short("docker.io/team/app"), "team/app");
        assert_eq!(short("127.0.0.1:5000/library/x:1"), "127.0.0.1:5000/library/x:1");
        assert_eq!(split("127.0.0.1:5000/x"), ("127.0.0.1:5000/x", ""));
        assert_eq!(split("127.0.0.1:5000/x:1"), ("127.0.0.1:5000/x", "1"));
        assert_eq!(split("x@sha256:12"), ("x", "sha256:12"));
    }

    #[test]
    fn patterns_stop_at_slashes() {
        for (pattern, name, expected) in [
            ("busybox", "busybox:1", true),
            ("busybox:1", "busybox:1", true),
            ("docker.io/library/busybox", "busybox:1", true),
            ("busy*", "busybox:1", true),
            ("*:1", "busybox:1", true),
            ("b?sybox", "busybox:1", true),
            ("*/app", "team/app:2", true),
            ("*", "team/app:2", false),
            ("busy", "busybox:1", false),
            ("busybox:2", "busybox:1", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
