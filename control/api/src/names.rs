//! Syntax of names, label keys and label values. Every check gives Kubernetes' own sentences (empty = valid), which
//! become the messages of validation causes.

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const WILDCARD: &str = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

fn is_lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn framed(text: &str, edge: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let edges = bytes.first().is_some_and(|byte| edge(*byte)) && bytes.last().is_some_and(|byte| edge(*byte));
    edges && bytes.iter().all(|byte| edge(*byte) || inner.contains(byte))
}

/// `example.com`: most object names.
pub fn dns1123_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    if !value.split('.').all(|part| framed(part, is_lower, b"-")) {
        faults.push(SUBDOMAIN.to_owned());
    }
    faults
}

/// `*.example.com`: the hosts of a TLS certificate or a route.
pub fn wildcard_subdomain(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 253 {
        faults.push(too_long(253));
    }
    let domain = value.strip_prefix("*.").unwrap_or_default();
    if !domain.split('.').all(|part| framed(part, is_lower, b"-")) {
        faults.push(WILDCARD.to_owned());
    }
    faults
}

/// `my-name`: namespaces, container names.
pub fn dns1123_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !framed(value, is_lower, b"-") {
        let only_dots = value.split('.').all(|part| framed(part, is_lower, b"-"));
        faults.push(if only_dots { "must not contain dots".to_owned() } else { LABEL.to_owned() });
    }
    faults
}

/// `my-name` starting with a letter: services.
pub fn dns1035_label(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !framed(value, is_lower, b"-") || value.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        faults.push(LABEL_1035.to_owned());
    }
    faults
}

/// What any name must fulfil to stand in a URL path.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"]
        .iter()
        .filter(|bad| value.contains(**bad))
        .map(|bad| format!("may not contain '{bad}'"))
        .collect()
}

/// `example.com/MyName`: keys of labels and annotations, finalizers, resource names.
pub fn qualified_name(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            if prefix.is_empty() {
                faults.push("prefix part must be non-empty".to_owned());
            } else {
                faults.extend(
                    dns1123_subdomain(prefix).into_iter().map(|fault| format!("prefix part {fault}")),
                );
            }
            *name
        }
        _ => {
            let prefix = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a qualified name {QUALIFIED} {prefix}")];
        }
    };
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        faults.push(format!("name part {}", too_long(63)));
    }
    if !framed(name, |byte| byte.is_ascii_alphanumeric(), b"-_.") {
        faults.push(format!("name part {QUALIFIED}"));
    }
    faults
}

/// `example.com/what`, or one of the few finalizers that Kubernetes itself knows.
pub fn finalizer(value: &str) -> Vec<String> {
    let mut faults = qualified_name(value);
    if !value.contains('/') && !matches!(value, "kubernetes" | "orphan" | "foregroundDeletion") {
        faults.push("name is neither a standard finalizer name nor is it fully qualified".to_owned());
    }
    faults
}

/// The value of a label.
pub fn label_value(value: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if value.len() > 63 {
        faults.push(too_long(63));
    }
    if !value.is_empty() && !framed(value, |byte| byte.is_ascii_alphanumeric(), b"-_.") {
        faults.push(LABEL_VALUE.to_owned());
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_accepts_and_refuses() {
        type Check = fn(&str) -> Vec<String>;
        let cases: [(Check, &[&str], &[&str]); 5] = [
            (dns1123_subdomain, &["a", "a-b.c", "0"], &["", "A", "a..b", "-a", "a.", "a_b"]),
            (dns1123_label, &["a", "0-b"], &["a.b", "-", "a-", ""]),
            (dns1035_label, &["a", "a0"], &["0a", "a.b", ""]),
            (
                qualified_name,
                &["a", "A_b.c", "example.com/Name"],
                &["", "/a", "a/", "a/b/c", "A.com/b", "a b"],
            ),
            (label_value, &["", "a", "1_2.3-4"], &["-a", "a b", "a/"]),
        ];
        for (check, good, bad) in cases {
            good.iter().for_each(|value| assert!(check(value).is_empty(), "{value:?} is valid"));
            bad.iter().for_each(|value| assert!(!check(value).is_empty(), "{value:?} is invalid"));
        }
        assert_eq!(label_value(&"a".repeat(64)), ["must be no more than 63 characters"]);
    }
}
