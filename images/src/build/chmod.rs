//! `--chmod`: an octal mode, or changes in the words of chmod(1) (`u=rwX,go=rX`, `a+x`).

use crate::error::{Error, Result};

/// What becomes of a file's mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Chmod {
    Exactly(u32),
    Changes(Vec<Change>),
}

/// One clause: whose bits, how, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Every bit that belongs to them.
    who: u32,
    sign: char,
    /// In all three places.
    bits: u32,
    /// `X`: execution where it is a directory, or somebody may execute it already.
    searched: bool,
}

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHERS: u32 = 0o1007;

impl Chmod {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let changes = || text.split(',').map(clauses).collect::<Option<Vec<_>>>();
        let parsed = match u32::from_str_radix(text, 8) {
            Ok(mode) if mode <= 0o7777 => Some(Self::Exactly(mode)),
            Ok(_) => None,
            Err(_) => changes().map(|changes| Self::Changes(changes.concat())),
        };
        parsed.ok_or_else(|| {
            Error::invalid(format!(
                "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
            ))
        })
    }

    /// The mode that a file with this one gets.
    pub(crate) fn of(&self, mode: u32, is_dir: bool) -> u32 {
        match self {
            Self::Exactly(mode) => *mode,
            Self::Changes(changes) => changes.iter().fold(mode, |mode, change| change.of(mode, is_dir)),
        }
    }
}

impl Change {
    fn of(&self, mode: u32, is_dir: bool) -> u32 {
        let search = if self.searched && (is_dir || mode & 0o111 != 0) { 0o111 } else { 0 };
        let bits = (self.bits | search) & self.who;
        match self.sign {
            '+' => mode | bits,
            '-' => mode & !bits,
            // chmod(1) leaves the set-id bits of directories alone here.
            _ if is_dir => (mode & !(self.who & 0o777)) | bits,
            _ => (mode & !self.who) | bits,
        }
    }
}

/// `u+rw-x`: one set of people, one change or more.
fn clauses(text: &str) -> Option<Vec<Change>> {
    let start = text.find(['+', '-', '='])?;
    let (people, mut rest) = text.split_at(start);
    let who = people.chars().try_fold(0, |who, letter| match letter {
        'u' => Some(who | USER),
        'g' => Some(who | GROUP),
        'o' => Some(who | OTHERS),
        'a' => Some(who | USER | GROUP | OTHERS),
        _ => None,
    })?;
    let who = if people.is_empty() { USER | GROUP | OTHERS } else { who };
    let mut changes = Vec::new();
    while let Some(sign) = rest.chars().next() {
        let (letters, after) = rest[1..].split_at(rest[1..].find(['+', '-', '=']).unwrap_or(rest.len() - 1));
        rest = after;
        let mut change = Change { who, sign, bits: 0, searched: false };
        for letter in letters.chars() {
            match letter {
                'r' => change.bits |= 0o444,
                'w' => change.bits |= 0o222,
                'x' => change.bits |= 0o111,
                's' => change.bits |= 0o6000,
                't' => change.bits |= 0o1000,
                'X' => change.searched = true,
                _ => return None,
            }
        }
        changes.push(change);
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_chmod_does() {
        for (text, file, directory) in [
            ("0644", 0o644, 0o644),
            ("7777", 0o7777, 0o7777),
            ("u+x", 0o740, 0o750),
            ("a+x", 0o751, 0o751),
            ("+x", 0o751, 0o751),
            ("go-r", 0o600, 0o710),
            ("go=", 0o600, 0o700),
            ("u=rwX,go=rX", 0o644, 0o755),
            ("u=rw,g+w-r", 0o620, 0o630),
            ("u+s,+t", 0o5640, 0o5750),
        ] {
            let chmod = Chmod::parse(text).unwrap();
            assert_eq!(format!("{:o}", chmod.of(0o640, false)), format!("{file:o}"), "{text} of a file");
            assert_eq!(
                format!("{:o}", chmod.of(0o750, true)),
                format!("{directory:o}"),
                "{text} of a directory"
            );
        }
        for wrong in ["888", "", "u", "u+y", "z+x", "10000", "u+x,"] {
            assert!(Chmod::parse(wrong).is_err(), "{wrong}");
        }
    }
}
