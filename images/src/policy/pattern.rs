//! Patterns of repositories: `*` is anything within one part of a name, `**` anything at all.

/// Whether a pattern names a repository, `registry/path`. Linear in the name per star: patterns are not hostile, but
/// names are.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    at(pattern.as_bytes(), name.as_bytes())
}

/// Greedy with one way back per kind of star: the last `*` is tried first, then the last `**`.
fn at(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let (mut star, mut double) = (None, None);
    while n < name.len() || p < pattern.len() {
        match pattern.get(p..).unwrap_or_default() {
            [b'*', b'*', ..] => {
                (double, star) = (Some((p + 2, n)), None);
                p += 2;
                continue;
            }
            [b'*', ..] => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            [byte, ..] if name.get(n) == Some(byte) => {
                (p, n) = (p + 1, n + 1);
                continue;
            }
            _ => {}
        }
        match (star, double) {
            (Some((after, from)), _) if name.get(from).is_some_and(|byte| *byte != b'/') => {
                star = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
            (_, Some((after, from))) if from < name.len() => {
                (star, double) = (None, Some((after, from + 1)));
                (p, n) = (after, from + 1);
            }
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars() {
        let cases = [
            ("docker.io/library/busybox", "docker.io/library/busybox", true),
            ("docker.io/library/busybox", "docker.io/library/busybox2", false),
            ("docker.io/library/*", "docker.io/library/busybox", true),
            ("docker.io/*", "docker.io/library/busybox", false),
            ("docker.io/**", "docker.io/library/busybox", true),
            ("**", "r.io:5000/a", true),
            ("*.io/a", "r.io/a", true),
            ("*.io/a", "evil.com/r.io/a", false),
            ("r.io/*/app-*", "r.io/team/app-one", true),
            ("r.io/*/app-*", "r.io/team/x/app-one", false),
            ("r.io/**/app", "r.io/a/b/app", true),
            ("r.io/**/*x*y", "r.io/a/x/b/xzy", true),
            ("", "r.io/a", false),
            ("r.io", "r.io/a", false),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
        let long = "a".repeat(255);
        assert!(!matches(&"*a".repeat(40).repeat(2), &format!("{long}b")), "ends soon");
    }
}
