//! A request's path segments and query parameters, percent-decoded.

/// Parameters in the order they came; a name may repeat (`command=ls&command=-l`).
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value.clone()).collect()
    }

    /// Any of these names is set, as Kubernetes reads booleans.
    pub(super) fn flag(&self, names: &[&str]) -> bool {
        let is_set = |value: &str| !matches!(value, "0" | "false" | "False" | "f" | "F" | "FALSE");
        names.iter().any(|name| self.get(name).is_some_and(is_set))
    }
}

/// The parts of a path, without empty ones.
pub(super) fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty()).map(|part| decode(part, false)).collect()
}

/// What is no valid escape stays as it is.
fn decode(text: &str, plus_is_space: bool) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escaped = after.first_chunk().filter(|_| *first == b'%').and_then(|digits| from_hex(*digits));
        match (first, escaped) {
            (_, Some(byte)) => {
                decoded.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', None) if plus_is_space => decoded.push(b' '),
            (byte, None) => decoded.push(*byte),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn from_hex([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%2Bb%26&tty=1&stdin=false&x=%zz%2");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a+b&"]);
        assert!(query.flag(&["tty"]) && !query.flag(&["input", "stdin"]) && !query.flag(&["absent"]));
        assert_eq!(query.get("x"), Some("%zz%2"));
        assert_eq!(segments("/exec//a%2Fb/c+d/"), ["exec", "a/b", "c+d"]);
    }
}
