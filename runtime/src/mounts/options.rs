//! Mount options as people write them (`rbind`, `nosuid`, `rro`, `size=64k`) sorted into what the kernel takes.

use super::{Attributes, Propagation};
use knarr_sys::mount::attr;

/// A parsed option list.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) bind: bool,
    pub(crate) recursive_bind: bool,
    pub(crate) attributes: Attributes,
    pub(crate) recursive_attributes: Attributes,
    pub(crate) propagation: Vec<Propagation>,
    pub(crate) tmpcopyup: bool,
    pub(crate) idmap: Option<IdmapOption>,
    /// What is left is for the file system.
    pub(crate) data: Vec<String>,
}

/// Which of the two words was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdmapOption {
    ThisMount,
    Recursive,
}

/// Attributes by name; `true` sets the bits, `false` clears them. An access-time mode also clears the other modes.
const ATTRIBUTES: &[(&str, u64, bool)] = &[
    ("ro", attr::RDONLY, true),
    ("rw", attr::RDONLY, false),
    ("nosuid", attr::NOSUID, true),
    ("suid", attr::NOSUID, false),
    ("nodev", attr::NODEV, true),
    ("dev", attr::NODEV, false),
    ("noexec", attr::NOEXEC, true),
    ("exec", attr::NOEXEC, false),
    ("nosymfollow", attr::NOSYMFOLLOW, true),
    ("symfollow", attr::NOSYMFOLLOW, false),
    ("nodiratime", attr::NODIRATIME, true),
    ("diratime", attr::NODIRATIME, false),
    ("noatime", attr::NOATIME, true),
    ("atime", attr::NOATIME, false),
    ("strictatime", attr::STRICTATIME, true),
    ("nostrictatime", attr::STRICTATIME, false),
    ("relatime", 0, true),
    ("norelatime", 0, false),
];

/// Propagation by name.
const PROPAGATION: &[(&str, u64)] = &[
    ("shared", libc::MS_SHARED),
    ("slave", libc::MS_SLAVE),
    ("private", libc::MS_PRIVATE),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Flags of the whole file system, which its own parser takes by the same name.
const SUPERBLOCK: &[&str] = &[
    "async",
    "dirsync",
    "iversion",
    "lazytime",
    "loud",
    "mand",
    "noiversion",
    "nolazytime",
    "nomand",
    "silent",
    "sync",
];

/// Words that mean "as it is".
const NOTHING: &[&str] = &["defaults", "remount", "acl", "noacl"];

/// Sorts the options.
pub(crate) fn parse(options: &[String]) -> Options {
    let mut parsed = Options::default();
    for option in options {
        parse_one(option, &mut parsed);
    }
    parsed
}

fn parse_one(option: &str, parsed: &mut Options) {
    match option {
        "bind" => parsed.bind = true,
        "rbind" => (parsed.bind, parsed.recursive_bind) = (true, true),
        "tmpcopyup" => parsed.tmpcopyup = true,
        "idmap" => parsed.idmap = Some(IdmapOption::ThisMount),
        "ridmap" => parsed.idmap = Some(IdmapOption::Recursive),
        _ if NOTHING.contains(&option) => {}
        _ if attribute(option, &mut parsed.attributes) => {}
        _ if option
            .strip_prefix('r')
            .is_some_and(|name| attribute(name, &mut parsed.recursive_attributes)) => {}
        _ => match propagation(option) {
            Some(propagation) => parsed.propagation.push(propagation),
            None => parsed.data.push(option.to_string()),
        },
    }
}

fn attribute(name: &str, into: &mut Attributes) -> bool {
    let Some((_, bits, set)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) else { return false };
    let access_time = bits & (attr::ATIME_MASK | attr::STRICTATIME) != 0 || *bits == 0;
    // As for mount(2): relatime is what remains when nothing stronger is asked for, whatever the order.
    if *bits == 0 && into.set & attr::ATIME_MASK != 0 {
        return true;
    }
    let mask = if access_time { attr::ATIME_MASK } else { *bits };
    into.set = into.set & !mask | if *set { *bits } else { 0 };
    into.clear = if *set && !access_time { into.clear & !mask } else { into.clear | mask };
    true
}

fn propagation(option: &str) -> Option<Propagation> {
    let find = |name: &str| PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, flag)| *flag);
    if let Some(flag) = find(option) {
        return Some(Propagation { flag, recursive: false });
    }
    let flag = find(option.strip_prefix('r')?)?;
    Some(Propagation { flag, recursive: true })
}

/// The value of `linux.rootfsPropagation`.
pub(crate) fn root_propagation(word: &str) -> Option<Propagation> {
    propagation(word)
}

/// Every word that is not an option of a particular file system, for `features`.
pub(crate) fn known() -> Vec<String> {
    let words = ["bind", "rbind", "tmpcopyup", "idmap", "ridmap"].iter().copied();
    let attributes = ATTRIBUTES.iter().map(|(name, ..)| *name);
    let plain =
        words.chain(attributes.clone()).chain(SUPERBLOCK.iter().copied()).chain(NOTHING.iter().copied());
    let propagation = PROPAGATION.iter().map(|(name, _)| *name);
    let recursive = attributes.chain(propagation.clone()).map(|name| format!("r{name}"));
    let mut all: Vec<String> = plain.chain(propagation).map(String::from).chain(recursive).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Options {
        parse(&words.split_whitespace().map(String::from).collect::<Vec<_>>())
    }

    #[test]
    fn words_become_bits() {
        let set = |set| Attributes { set, clear: 0 };
        for (words, expected) in [
            ("ro nosuid nodev", set(attr::RDONLY | attr::NOSUID | attr::NODEV)),
            ("ro rw", Attributes { set: 0, clear: attr::RDONLY }),
            ("rw ro", set(attr::RDONLY)),
            ("noatime", Attributes { set: attr::NOATIME, clear: attr::ATIME_MASK }),
            ("noatime strictatime", Attributes { set: attr::STRICTATIME, clear: attr::ATIME_MASK }),
            ("relatime", Attributes { set: 0, clear: attr::ATIME_MASK }),
            ("noatime relatime", Attributes { set: attr::NOATIME, clear: attr::ATIME_MASK }),
            ("nodiratime", set(attr::NODIRATIME)),
        ] {
            assert_eq!(parse_words(words).attributes, expected, "{words}");
        }
    }

    #[test]
    fn recursive_words_are_kept_apart() {
        let options = parse_words("rbind rro rnosuid rprivate size=64k mode=1777");
        assert!(options.bind && options.recursive_bind);
        assert_eq!(options.attributes, Attributes::default());
        assert_eq!(options.recursive_attributes.set, attr::RDONLY | attr::NOSUID);
        assert_eq!(options.propagation, [Propagation { flag: libc::MS_PRIVATE, recursive: true }]);
        assert_eq!(options.data, ["size=64k", "mode=1777"]);
    }

    #[test]
    fn relatime_is_not_a_recursive_elatime() {
        assert_eq!(parse_words("relatime").recursive_attributes, Attributes::default());
        assert_eq!(parse_words("rrelatime").recursive_attributes.clear, attr::ATIME_MASK);
    }
}
