//! Patterns: `*`, `?`, `[a-z]` and a backslash that takes the meaning away. In paths a star stops at a slash, and
//! `**` does not.

/// Matches a text in which a slash is nothing special.
pub(crate) fn matches_text(pattern: &str, text: &str) -> bool {
    matches(pattern.as_bytes(), text.as_bytes())
}

/// Matches a whole path, part by part; `**` spans any number of directories, none included (at the end: one at
/// least).
pub(crate) fn matches_path(pattern: &[u8], path: &[u8]) -> bool {
    let split = |text| <[u8]>::split(text, |byte: &u8| *byte == b'/').collect::<Vec<_>>();
    let (pattern, path) = (split(pattern), split(path));
    // After how many parts of the path the pattern may be where it is now.
    let mut reached = vec![false; path.len() + 1];
    reached[0] = true;
    for (index, part) in pattern.iter().enumerate() {
        let mut next = vec![false; path.len() + 1];
        let (deep, last) = (*part == b"**", index + 1 == pattern.len());
        for at in 0..=path.len() {
            let before = at.checked_sub(1);
            next[at] = match deep {
                true => (reached[at] && !last) || before.is_some_and(|b| next[b] || reached[b]),
                false => before.is_some_and(|b| reached[b] && matches(part, path[b])),
            };
        }
        reached = next;
    }
    reached[path.len()]
}

/// Whether it is a pattern at all.
pub(crate) fn is_pattern(text: &[u8]) -> bool {
    text.iter().any(|byte| b"*?[\\".contains(byte))
}

/// Greedy, with one star to go back to: at most (pattern x text) steps.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p += 1;
            star = Some((p, t));
            continue;
        }
        if p == pattern.len() && t == text.len() {
            return true;
        }
        if let Some(used) = text.get(t).and_then(|byte| one(&pattern[p..], *byte)) {
            (p, t) = (p + used, t + 1);
            continue;
        }
        match &mut star {
            Some((after, from)) if *from < text.len() => {
                *from += 1;
                (p, t) = (*after, *from);
            }
            _ => return false,
        }
    }
}

/// How many bytes of the pattern this byte uses up, if it fits.
fn one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'[', rest @ ..] => class(rest, byte).map(|used| used + 1),
        [b'\\', literal, ..] => (*literal == byte).then_some(2),
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// `[a-z]`, `[^a-z]`; how many bytes it is long, if the byte belongs to it.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.first(), Some(b'^' | b'!'));
    let mut at = usize::from(negated);
    let first = at;
    let mut found = false;
    loop {
        let low = match pattern.get(at)? {
            b']' if at > first => return (found != negated).then_some(at + 1),
            b'\\' => {
                at += 1;
                *pattern.get(at)?
            }
            byte => *byte,
        };
        at += 1;
        let mut high = low;
        if pattern.get(at) == Some(&b'-') && pattern.get(at + 1).is_some_and(|next| *next != b']') {
            high = *pattern.get(at + 1)?;
            at += 2;
        }
        found |= (low..=high).contains(&byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths() {
        for (pattern, path, expected) in [
            ("*.go", "a.go", true),
            ("*.go", "d/a.go", false),
            ("**/*.go", "a.go", true),
            ("**/*.go", "d/e/a.go", true),
            ("**/a", "ba", false),
            ("**/a", "b/a", true),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/d/c", true),
            ("a/**/c", "a/b/dc", false),
            ("**", "a/b", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("", "", true),
            ("[a", "a", false),
            ("foo**bar", "fooxbar", true),
            ("a/**", "a", false),
            ("**/x/**/y", "x/y", true),
            ("**/x/*/y", "a/x/b/x/c/y", true),
        ] {
            assert_eq!(matches_path(pattern.as_bytes(), path.as_bytes()), expected, "{pattern} {path}");
        }
        assert!(matches_text("*/b", "x/y/b"));
    }

    proptest! {
        #[test]
        fn never_panics(pattern in "[*?a/\\[\\]^\\\\-]{0,12}", text in "[a/b]{0,12}") {
            matches_path(pattern.as_bytes(), text.as_bytes());
            matches_text(&pattern, &text);
        }
    }
}
