//! `linux.resources.devices`: which device nodes may be opened or made, as one ordered list of rules.
//!
//! Version 1 takes the rules one by one; version 2 takes a program made from them (`device_filter`).

use super::Write;
use crate::error::{Error, Result};
use crate::spec::DeviceRule;
use serde::Serialize;

/// A rule with everything decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Rule {
    /// Allow or deny.
    pub(crate) allow: bool,
    /// `a` (both), `b` or `c`.
    pub(crate) kind: char,
    /// Any where absent.
    pub(crate) major: Option<u32>,
    /// Any where absent.
    pub(crate) minor: Option<u32>,
    /// `r`, `w` and `m`.
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) mknod: bool,
}

/// Devices every container gets: any node may be made, these may be used.
const DEFAULTS: &[(char, Option<u32>, Option<u32>, &str)] = &[
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(136), None, "rwm"),
    ('c', Some(5), Some(2), "rwm"),
];

/// The rules of the configuration followed by those every container needs to work.
pub(crate) fn rules(given: &[DeviceRule]) -> Result<Vec<Rule>> {
    let mut rules = Vec::with_capacity(given.len() + DEFAULTS.len());
    for (index, rule) in given.iter().enumerate() {
        let parsed = parse(rule);
        rules.push(parsed.map_err(|why| Error::invalid(format!("linux.resources.devices[{index}]: {why}")))?);
    }
    rules.extend(DEFAULTS.iter().map(|(kind, major, minor, access)| {
        let (read, write, mknod) = letters(access);
        Rule { allow: true, kind: *kind, major: *major, minor: *minor, read, write, mknod }
    }));
    Ok(rules)
}

fn parse(rule: &DeviceRule) -> std::result::Result<Rule, String> {
    let kind = match rule.kind.as_str() {
        "" | "a" => 'a',
        "b" => 'b',
        "c" | "u" => 'c',
        other => return Err(format!("invalid device type {other:?}")),
    };
    let unknown = rule.access.chars().find(|letter| !"rwm".contains(*letter));
    let access = match unknown {
        Some(letter) if rule.allow => return Err(format!("invalid access {letter:?}")),
        // Whatever else is meant to be denied, all is.
        Some(_) => "rwm",
        None if rule.access.is_empty() => "rwm",
        None => rule.access.as_str(),
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => u32::try_from(value).map(Some).map_err(|_| format!("invalid {name} {value}")),
    };
    let (major, minor) = (number("major", rule.major)?, number("minor", rule.minor)?);
    let (read, write, mknod) = letters(access);
    Ok(Rule { allow: rule.allow, kind, major, minor, read, write, mknod })
}

fn letters(access: &str) -> (bool, bool, bool) {
    (access.contains('r'), access.contains('w'), access.contains('m'))
}

impl Rule {
    /// Matches every device in every way, so rules before it have no effect.
    pub(crate) fn is_everything(&self) -> bool {
        self.kind == 'a' && self.major.is_none() && self.minor.is_none()
    }

    fn v1_value(&self) -> String {
        if self.is_everything() {
            return "a".into();
        }
        let number = |value: Option<u32>| value.map_or("*".into(), |n| n.to_string());
        let mut access = String::new();
        for (set, letter) in [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')] {
            if set {
                access.push(letter);
            }
        }
        format!("{} {}:{} {access}", self.kind, number(self.major), number(self.minor))
    }
}

/// The list as version 1 takes it; nothing where it denies nothing, as a new cgroup may do what its parent may.
pub(crate) fn v1_writes(rules: &[Rule]) -> Vec<Write> {
    if rules.iter().all(|rule| rule.allow) {
        return vec![];
    }
    let start = rules.iter().rposition(Rule::is_everything).unwrap_or(0);
    let rest = rules.iter().skip(start);
    let mut writes = Vec::new();
    for rule in rest {
        // Version 1 has no `a` rule with numbers: it is one for each kind.
        let kinds: &[char] =
            if rule.kind == 'a' && !rule.is_everything() { &['b', 'c'] } else { &[rule.kind] };
        let file = if rule.allow { "devices.allow" } else { "devices.deny" };
        writes.extend(
            kinds.iter().map(|kind| Write::new("devices", file, Rule { kind: *kind, ..*rule }.v1_value())),
        );
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(json: serde_json::Value) -> Vec<DeviceRule> {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_usual_list_starts_by_denying_all() {
        let rules = rules(&given(serde_json::json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}])))
        .unwrap();
        let writes = v1_writes(&rules);
        assert_eq!((writes[0].file.as_str(), writes[0].value.as_str()), ("devices.deny", "a"));
        assert_eq!((writes[1].file.as_str(), writes[1].value.as_str()), ("devices.allow", "c 10:229 rw"));
        assert!(writes.iter().any(|w| w.value == "c 136:* rwm"));
    }

    #[test]
    fn a_list_without_denials_writes_nothing() {
        assert_eq!(v1_writes(&rules(&[]).unwrap()), []);
    }

    #[test]
    fn a_denial_that_is_not_understood_denies_all() {
        let rules = rules(&given(serde_json::json!([
            {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "rwa"}])))
        .unwrap();
        assert_eq!(v1_writes(&rules)[0].value, "c 1:11 rwm");
    }

    #[test]
    fn bad_rules_name_their_place() {
        for bad in [
            serde_json::json!([{"allow": true, "type": "x"}]),
            serde_json::json!([{"allow": true, "access": "rx"}]),
            serde_json::json!([{"allow": true, "major": -2}]),
        ] {
            let error = rules(&given(bad)).unwrap_err();
            assert!(error.to_string().starts_with("linux.resources.devices[0]: invalid"), "{error}");
        }
    }
}
