//! Reads `WWW-Authenticate`: what a registry wants to see before it answers.

/// One way to authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Fetch a token from `realm` first.
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
    /// Name and password with every request.
    Basic,
}

/// All challenges of one header, in order. What is not understood is left out.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    let mut challenges = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            break;
        }
        let (parameters, after) = parameters(after);
        let get = |name: &str| {
            parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            challenges.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            challenges.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope") });
        }
        rest = after;
    }
    challenges
}

fn token(text: &str) -> (&str, &str) {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let end =
        text.find(|char: char| char.is_whitespace() || matches!(char, '=' | ',' | '"')).unwrap_or(text.len());
    text.split_at(end)
}

/// `key=value` and `key="value"` up to the next scheme, which is a word without `=`.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let (key, after) = token(rest);
        let Some(value) = after.trim_start().strip_prefix('=') else {
            return (found, rest.trim_start_matches([' ', ',']));
        };
        if key.is_empty() {
            return (found, "");
        }
        let (value, after) = value_of(value.trim_start());
        found.push((key.to_owned(), value));
        rest = after;
    }
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            char => value.push(char),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_what_registries_send() {
        let header = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge::Bearer {
            realm: "https://auth.docker.io/token".into(),
            service: Some("registry.docker.io".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(parse(header), std::slice::from_ref(&expected));
        assert_eq!(parse(r#"Basic realm="Registry Realm""#), [Challenge::Basic]);
        let both = format!(r#"Basic realm="x, y", {header}"#);
        assert_eq!(parse(&both), [Challenge::Basic, expected]);
        let bare = Challenge::Bearer { realm: "r".into(), service: None, scope: None };
        assert_eq!(parse("bearer REALM=r"), [bare]);
        assert_eq!(parse("Negotiate, Basic"), [Challenge::Basic]);
        assert!(parse("Bearer service=x").is_empty());
    }

    proptest! {
        #[test]
        fn always_ends(text in "\\PC{0,60}") {
            let _ = parse(&text);
        }

        #[test]
        fn always_ends_on_punctuation(text in "[Bb =\",\\\\]{0,40}") {
            let _ = parse(&text);
        }
    }
}
