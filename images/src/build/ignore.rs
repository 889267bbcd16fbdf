//! `.dockerignore`: which files of the context a build does not see.
//!
//! Docker's rules: one pattern per line, `#` comments, paths relative to the context whatever slash they begin with,
//! `**` for any number of directories, `!` takes back; the last line that says something about a path decides, and
//! what is said about a directory is said about everything in it.

use crate::build::glob;
use crate::error::{Error, Result};
use crate::layer::entry::TreePath;

/// The patterns of one file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    pattern: Vec<u8>,
    keep: bool,
}

impl Ignore {
    pub(crate) fn parse(text: &str) -> Self {
        let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
        Self::of(lines.filter(|line| !line.starts_with('#')))
    }

    /// The same from patterns (`COPY --exclude`).
    pub(crate) fn of<'a>(patterns: impl Iterator<Item = &'a str>) -> Self {
        let rule = |line: &str| {
            let line = line.trim();
            let (keep, pattern) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
            let clean = TreePath::clean(pattern.as_bytes());
            (!clean.is_root()).then(|| Rule { pattern: clean.as_bytes().to_vec(), keep })
        };
        Self { rules: patterns.filter_map(rule).collect() }
    }

    /// Fails on a line that hides nothing and keeps nothing, as Docker does.
    pub(crate) fn check(text: &str) -> Result<()> {
        match text.lines().any(|line| line.trim() == "!") {
            true => Err(Error::invalid("failed to parse .dockerignore: illegal exclusion pattern: \"!\"")),
            false => Ok(()),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the build does not see this path.
    pub(crate) fn hides(&self, path: &TreePath) -> bool {
        let about =
            |rule: &&Rule| prefixes(path.as_bytes()).any(|prefix| glob::matches_path(&rule.pattern, prefix));
        !path.is_root() && self.rules.iter().rev().find(about).is_some_and(|rule| !rule.keep)
    }

    /// Whether a pattern stands for all that there can be.
    pub(crate) fn hides_everything(&self) -> bool {
        let all: [&[u8]; 3] = [b"*", b"**", b"**/*"];
        self.rules.iter().any(|rule| !rule.keep && all.contains(&rule.pattern.as_slice()))
    }

    /// Whether something inside a hidden directory may be seen all the same.
    pub(crate) fn may_keep_inside(&self) -> bool {
        self.rules.iter().any(|rule| rule.keep)
    }
}

/// The path and every directory above it.
fn prefixes(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    slashes.chain([path.len()]).map(|end| &path[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_rules() {
        let ignore = Ignore::parse(
            "# comment\n*.md\n!README.md\n/build\n**/node_modules\n docs/*.txt \n!docs/keep.txt\n\ntemp?\n./x/../y\n",
        );
        for (path, hidden) in [
            ("a.md", true),
            ("README.md", false),
            ("sub/a.md", false),
            ("build", true),
            ("build/deep/file", true),
            ("sub/build", false),
            ("a/b/node_modules/c", true),
            ("node_modules", true),
            ("docs/a.txt", true),
            ("docs/keep.txt", false),
            ("docs/sub/a.txt", false),
            ("temp1", true),
            ("temp10", false),
            ("y", true),
            ("# comment", false),
        ] {
            assert_eq!(ignore.hides(&TreePath::clean(path.as_bytes())), hidden, "{path}");
        }
        assert!(Ignore::check("a\n! b\n").is_ok() && Ignore::check("a\n!\n").is_err());
        let all_but = Ignore::parse("*\n!src\nsrc/*.o");
        for (path, hidden) in [("a", true), ("src", false), ("src/a.c", false), ("src/a.o", true)] {
            assert_eq!(all_but.hides(&TreePath::clean(path.as_bytes())), hidden, "{path}");
        }
        assert!(all_but.may_keep_inside() && !Ignore::parse("a").may_keep_inside());
    }
}
