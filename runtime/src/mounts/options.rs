//! Mount options as people write them (`rbind`, `nosuid`, `rro`, `size=64k`) sorted into what the kernel takes.

use super::{Attributes, Propagation};
use knarr_sys::mount::attr;

/// A parsed option list.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Options {
    pub(crate) bind: bool,
    pub(crate) recursive_bind: bool,
    pub(crate) flags: Flags,
    pub(crate) recursive_attributes: Attributes,
    pub(crate) propagation: Vec<Propagation>,
    pub(crate) tmpcopyup: bool,
    pub(crate) idmap: Option<IdmapOption>,
    /// What is left is for the file system.
    pub(crate) data: Vec<String>,
}

impl Options {
    /// What is left and means nothing for a bind mount: its file system exists and keeps its own settings.
    pub(crate) fn foreign_to_bind(&self) -> Vec<&str> {
        let passes = |word: &str| SUPERBLOCK.contains(&word) || CALLERS.contains(&word);
        self.data.iter().map(String::as_str).filter(|word| !passes(word)).collect()
    }
}

/// Words for this mount alone, each set or cleared by name, as `MS_*` of mount(2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    /// Set by name.
    pub(crate) set: u64,
    /// Cleared by name.
    pub(crate) cleared: u64,
}

/// The access-time modes of mount(2).
const ACCESS_TIME: u64 = libc::MS_NOATIME | libc::MS_NODIRATIME | libc::MS_RELATIME | libc::MS_STRICTATIME;

/// What a bind mount does not take from its source once any word is given.
const REPLACED: u64 = attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC | attr::NOSYMFOLLOW;

impl Flags {
    /// Of a new mount, as mount(2) takes them: access times are relative unless something stronger is asked for.
    pub(crate) fn attributes(self) -> Attributes {
        let clear = if self.set & ACCESS_TIME == 0 { 0 } else { attr::ATIME_MASK };
        Attributes { set: attributes(self.set), clear }
    }

    /// Of a bind mount, as a remount by mount(2) takes them: those of the source are replaced, only its access-time mode
    /// stays where none is asked for; without any word all is as on the source.
    pub(crate) fn replacing(self) -> Attributes {
        if self == Flags::default() {
            return Attributes::default();
        }
        let Attributes { set, clear } = self.attributes();
        let access_time = if clear == 0 { 0 } else { attr::ATIME_MASK | attr::NODIRATIME };
        Attributes { set, clear: REPLACED & !set | access_time & !(set & attr::NODIRATIME) }
    }

    /// What is cleared by name, as attributes.
    pub(crate) fn cleared_attributes(self) -> u64 {
        attributes(self.cleared)
    }
}

/// The attributes of these flags; of the access-time modes the strongest.
fn attributes(flags: u64) -> u64 {
    let named = ATTRIBUTES.iter().filter(|(_, flag, ..)| flags & flag != 0);
    let bits = named.fold(0, |bits, (_, _, bit, _)| bits | bit);
    if bits & attr::STRICTATIME == 0 { bits } else { bits & !attr::NOATIME }
}

/// Which of the two words was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdmapOption {
    ThisMount,
    Recursive,
}

/// Flags of mount(2) and attributes of mount_setattr(2) by name; `true` sets them, `false` clears them.
const ATTRIBUTES: &[(&str, u64, u64, bool)] = &[
    ("ro", libc::MS_RDONLY, attr::RDONLY, true),
    ("rw", libc::MS_RDONLY, attr::RDONLY, false),
    ("nosuid", libc::MS_NOSUID, attr::NOSUID, true),
    ("suid", libc::MS_NOSUID, attr::NOSUID, false),
    ("nodev", libc::MS_NODEV, attr::NODEV, true),
    ("dev", libc::MS_NODEV, attr::NODEV, false),
    ("noexec", libc::MS_NOEXEC, attr::NOEXEC, true),
    ("exec", libc::MS_NOEXEC, attr::NOEXEC, false),
    ("nosymfollow", MS_NOSYMFOLLOW, attr::NOSYMFOLLOW, true),
    ("symfollow", MS_NOSYMFOLLOW, attr::NOSYMFOLLOW, false),
    ("nodiratime", libc::MS_NODIRATIME, attr::NODIRATIME, true),
    ("diratime", libc::MS_NODIRATIME, attr::NODIRATIME, false),
    ("noatime", libc::MS_NOATIME, attr::NOATIME, true),
    ("atime", libc::MS_NOATIME, attr::NOATIME, false),
    ("strictatime", libc::MS_STRICTATIME, attr::STRICTATIME, true),
    ("nostrictatime", libc::MS_STRICTATIME, attr::STRICTATIME, false),
    ("relatime", libc::MS_RELATIME, 0, true),
    ("norelatime", libc::MS_RELATIME, 0, false),
];

/// `linux/mount.h`
const MS_NOSYMFOLLOW: u64 = 256;

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

/// Requests to the caller (a label, other owners), which some pass on when they have fulfilled them.
const CALLERS: &[&str] = &["z", "Z", "U"];

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
        _ if option.is_empty() || NOTHING.contains(&option) => {}
        _ if flag(option, &mut parsed.flags) => {}
        _ if option
            .strip_prefix('r')
            .is_some_and(|name| recursive_attribute(name, &mut parsed.recursive_attributes)) => {}
        _ => match propagation(option) {
            Some(propagation) => parsed.propagation.push(propagation),
            None => parsed.data.push(option.to_string()),
        },
    }
}

fn flag(name: &str, into: &mut Flags) -> bool {
    let Some((_, flag, _, set)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) else { return false };
    let (gains, loses) =
        if *set { (&mut into.set, &mut into.cleared) } else { (&mut into.cleared, &mut into.set) };
    *gains |= flag;
    *loses &= !flag;
    true
}

/// An access-time mode also clears the other modes.
fn recursive_attribute(name: &str, into: &mut Attributes) -> bool {
    let Some((_, _, bits, set)) = ATTRIBUTES.iter().find(|(known, ..)| *known == name) else { return false };
    let access_time = bits & (attr::ATIME_MASK | attr::STRICTATIME) != 0 || *bits == 0;
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
        for (words, set, clear) in [
            ("ro nosuid nodev", attr::RDONLY | attr::NOSUID | attr::NODEV, 0),
            ("ro rw", 0, 0),
            ("rw ro", attr::RDONLY, 0),
            ("noatime", attr::NOATIME, attr::ATIME_MASK),
            ("noatime strictatime", attr::STRICTATIME, attr::ATIME_MASK),
            ("relatime", 0, attr::ATIME_MASK),
            ("noatime relatime", attr::NOATIME, attr::ATIME_MASK),
            ("noatime atime", 0, 0),
            ("nodiratime", attr::NODIRATIME, attr::ATIME_MASK),
        ] {
            assert_eq!(parse_words(words).flags.attributes(), Attributes { set, clear }, "{words}");
        }
    }

    #[test]
    fn words_of_a_bind_mount_replace_what_the_source_has() {
        let times = attr::ATIME_MASK | attr::NODIRATIME;
        for (words, set, clear) in [
            ("bind rprivate", 0, 0),
            ("bind ro", attr::RDONLY, REPLACED & !attr::RDONLY),
            ("bind dev", 0, REPLACED),
            ("bind atime norelatime", 0, REPLACED),
            ("bind relatime", 0, REPLACED | times),
            ("bind nodiratime", attr::NODIRATIME, REPLACED | attr::ATIME_MASK),
            (
                "bind nodiratime strictatime",
                attr::NODIRATIME | attr::STRICTATIME,
                REPLACED | attr::ATIME_MASK,
            ),
        ] {
            assert_eq!(parse_words(words).flags.replacing(), Attributes { set, clear }, "{words}");
        }
    }

    #[test]
    fn recursive_words_are_kept_apart() {
        let options = parse_words("rbind rro rnosuid rprivate size=64k mode=1777");
        assert!(options.bind && options.recursive_bind);
        assert_eq!(options.flags, Flags::default());
        assert_eq!(options.recursive_attributes.set, attr::RDONLY | attr::NOSUID);
        assert_eq!(options.propagation, [Propagation { flag: libc::MS_PRIVATE, recursive: true }]);
        assert_eq!(options.data, ["size=64k", "mode=1777"]);
    }

    #[test]
    fn a_bind_mount_refuses_only_what_its_file_system_would_have_to_do() {
        let foreign = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(ToString::to_string).collect();
            parse(&words).foreign_to_bind().join(" ")
        };
        assert_eq!(foreign(&["bind", "", "z", "U", "sync", "dirsync", "defaults", "ro"]), "");
        assert_eq!(foreign(&["rbind", "Z", "size=64k", "foo"]), "size=64k foo");
    }

    #[test]
    fn relatime_is_not_a_recursive_elatime() {
        assert_eq!(parse_words("relatime").recursive_attributes, Attributes::default());
        assert_eq!(parse_words("rrelatime").recursive_attributes.clear, attr::ATIME_MASK);
    }
}
