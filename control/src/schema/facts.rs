//! The facts about fields that the generated Rust types lack: `facts.txt`, in memory as the text it is.

use std::sync::OnceLock;

static TEXT: &str = include_str!("facts.txt");

/// What is known about one field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fact {
    /// JSON name; that of a message starts with `@` when JSON shows its fields among those of the parent.
    pub(crate) name: &'static str,
    /// Protobuf field number.
    pub(crate) number: u32,
    /// `merge`, `replace`, `retainKeys` or a comma separated list of them; empty for the default.
    pub(crate) patch_strategy: &'static str,
    /// Key of the elements of a merged list; may be empty.
    pub(crate) merge_key: &'static str,
    /// `atomic`, `set`, `map`, `granular`; empty for the default.
    pub(crate) list_type: &'static str,
    /// Comma separated keys of a list of type `map`.
    pub(crate) map_keys: &'static str,
    /// An empty object has it too.
    pub(crate) always: bool,
}

/// Stands before the fields of a type whose values are owned as a whole.
const ATOMIC: &str = "!atomic";

/// Whether a value of the type is owned as a whole.
pub(crate) fn is_atomic(type_name: &str) -> bool {
    line(type_name).is_some_and(|fields| fields.starts_with(ATOMIC))
}

/// The fields of a type in wire order, read once: for bodies, where a type comes up a thousand times.
pub(crate) fn wire_layout(type_name: &str) -> &'static [Fact] {
    let lines = lines();
    match lines.binary_search_by(|line| line.name.cmp(type_name)) {
        Ok(at) => lines[at].layout.get_or_init(|| tokens(lines[at].fields).collect()),
        Err(_) => &[],
    }
}

fn tokens(fields: &'static str) -> impl Iterator<Item = Fact> {
    fields.split(' ').filter(|token| !token.is_empty() && *token != ATOMIC).map(parse)
}

/// What is known about one field of a type, also of one that the type takes over from an embedded message. Only the
/// field's own words are read: every write asks for hundreds of fields.
pub(crate) fn fact(type_name: &str, field: &str) -> Option<Fact> {
    let is_it =
        |token: &str| token.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('='));
    line(type_name).unwrap_or_default().split(' ').find_map(|token| match token.strip_prefix('@') {
        Some(_) => self::fact(&sibling(type_name, parse(token).name.trim_start_matches('@'))?, field),
        None => (!token.is_empty() && is_it(token)).then(|| parse(token)),
    })
}

/// The full name of a message that a type embeds: of the same package, or of the one that has it.
pub(crate) fn sibling(type_name: &str, embedded: &str) -> Option<String> {
    let package = type_name.rsplit_once('.').map(|(package, _)| package).unwrap_or_default();
    let same = format!("{package}.{embedded}");
    if line(&same).is_some() {
        return Some(same);
    }
    let suffix = format!(".{embedded}");
    lines().iter().find(|line| line.name.ends_with(&suffix)).map(|line| line.name.to_owned())
}

fn line(type_name: &str) -> Option<&'static str> {
    let lines = lines();
    let at = lines.binary_search_by(|line| line.name.cmp(type_name)).ok()?;
    lines.get(at).map(|line| line.fields)
}

/// A type, its fields as the text says them, and as they are once somebody needed them.
struct Line {
    name: &'static str,
    fields: &'static str,
    layout: OnceLock<Box<[Fact]>>,
}

/// Sorted by name.
fn lines() -> &'static [Line] {
    static LINES: OnceLock<Vec<Line>> = OnceLock::new();
    LINES.get_or_init(|| {
        let types = TEXT.lines().filter(|line| !line.starts_with('#'));
        let split = |line: &'static str| line.split_once(' ').unwrap_or((line, ""));
        let line = |(name, fields)| Line { name, fields, layout: OnceLock::new() };
        let mut lines: Vec<_> = types.map(split).map(line).collect();
        lines.sort_unstable_by_key(|line| line.name);
        lines
    })
}

/// `ports=6+merge(containerPort)*map(containerPort,protocol)`
fn parse(token: &'static str) -> Fact {
    let (name, rest) = token.split_once('=').unwrap_or((token, ""));
    let (rest, always) = rest.strip_suffix('~').map_or((rest, false), |rest| (rest, true));
    let (rest, list) = rest.split_once('*').unwrap_or((rest, ""));
    let (number, patch) = rest.split_once('+').unwrap_or((rest, ""));
    let (patch_strategy, merge_key) = with_argument(patch);
    let (list_type, map_keys) = with_argument(list);
    Fact { name, number: number.parse().unwrap_or(0), patch_strategy, merge_key, list_type, map_keys, always }
}

fn with_argument(text: &'static str) -> (&'static str, &'static str) {
    let (name, argument) = text.split_once('(').unwrap_or((text, ""));
    (name, argument.trim_end_matches(')'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_has_number_merge_key_and_list_type() {
        let ports = fact("io.k8s.api.core.v1.Container", "ports").unwrap();
        assert_eq!((ports.number, ports.patch_strategy, ports.merge_key), (6, "merge", "containerPort"));
        assert_eq!((ports.list_type, ports.map_keys), ("map", "containerPort,protocol"));
        assert_eq!(fact("io.k8s.api.core.v1.PodSpec", "volumes").unwrap().patch_strategy, "merge,retainKeys");
    }

    #[test]
    fn what_is_owned_as_a_whole_and_what_is_always_there() {
        assert!(is_atomic("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector"));
        assert!(!is_atomic("io.k8s.api.core.v1.PodSpec"));
        let always = |name: &str| fact("io.k8s.api.apps.v1.DeploymentSpec", name).unwrap().always;
        assert!(always("template") && always("strategy") && !always("selector"));
    }

    #[test]
    fn embedded_messages_lend_their_fields() {
        assert_eq!(fact("io.k8s.api.core.v1.Volume", "hostPath").unwrap().number, 1);
        assert_eq!(fact("io.k8s.api.core.v1.EphemeralContainer", "env").unwrap().merge_key, "name");
        assert_eq!(fact("io.k8s.api.core.v1.Volume", "gone"), None);
    }

    #[test]
    fn every_line_is_well_formed() {
        for Line { name, .. } in lines() {
            for field in wire_layout(name) {
                assert!(field.number > 0, "{name} {field:?}");
                if let Some(embedded) = field.name.strip_prefix('@') {
                    assert!(sibling(name, embedded).is_some(), "{name} embeds {embedded}");
                }
            }
        }
    }
}
