//! What names a git repository, in an ADD or as a context: where it is, which commit, and which directory of it.
//!
//! `REMOTE[?QUERY][#COMMIT[:DIRECTORY]]`, in the forms and with the complaints of BuildKit (Dockerfile reference, "ADD" and
//! "Git contexts"). What must hold: nothing of it is ever an option of a command that git runs.

use crate::build::remote::{Kind, kind};
use crate::error::{Error, Result};
use crate::layer::entry::TreePath;
use crate::web_file::{percent_decode, split_user};
use std::collections::BTreeMap;

/// A repository and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitReference {
    /// As it was written, with its user.
    pub(crate) remote: String,
    /// A branch, a tag, a whole name (`refs/...`) or a commit; the server's default branch where empty.
    pub(crate) wanted: String,
    /// A directory below the root of the repository, which is the empty one.
    pub(crate) subdir: String,
    /// How the commit's id, or its tag's, must begin.
    pub(crate) checksum: Option<String>,
    /// Whether `.git` stays.
    pub(crate) keep_git_dir: Option<bool>,
    pub(crate) submodules: bool,
    /// The commit is `checksum`, and what the server calls `wanted` is not asked.
    pub(crate) fetch_by_commit: bool,
}

impl GitReference {
    /// None where the text names no repository.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if kind(text) != Kind::Git {
            return Ok(None);
        }
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        let (remote, query) = text.split_once('?').unwrap_or((text, ""));
        let (wanted, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
        let mut reference = Self {
            remote: remote.to_owned(),
            wanted: decoded(wanted),
            subdir: clean(&decoded(subdir)),
            checksum: None,
            keep_git_dir: None,
            submodules: true,
            fetch_by_commit: false,
        };
        reference.ask(query)?;
        reference.check().map(|()| Some(reference))
    }

    /// The same of a context, where `github.com/...` is a repository too.
    pub fn parse_context(text: &str) -> Result<Option<Self>> {
        let Some(path) = text.strip_prefix("github.com/") else { return Self::parse(text) };
        let end = path.find(['?', '#']).unwrap_or(path.len());
        let (path, rest) = path.split_at(end);
        let dot_git = if path.ends_with(".git") { "" } else { ".git" };
        Self::parse(&format!("https://github.com/{path}{dot_git}{rest}"))
    }

    /// The remote as git and others may read it: without a password.
    pub(crate) fn shown(&self) -> String {
        self.apart().map_or_else(|| self.remote.clone(), |(_, open)| open)
    }

    /// `user:password` of HTTP, and for which server.
    pub(crate) fn user(&self) -> Option<(String, String)> {
        let (user, open) = self.apart()?;
        let (scheme, rest) = open.split_once("://")?;
        let host = rest.split('/').next()?;
        Some((user, format!("{scheme}://{host}/")))
    }

    /// Who stands in a URL of HTTP, and the URL without him; the user of ssh is no secret.
    fn apart(&self) -> Option<(String, String)> {
        if self.remote.starts_with("http") { split_user(&self.remote) } else { None }
    }

    /// The server, for secrets that are called after it.
    pub(crate) fn host(&self) -> Option<&str> {
        let rest = self.remote.split_once("://").map_or(self.remote.as_str(), |(_, rest)| rest);
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let end = if host.starts_with('[') { host.find(']').map(|end| end + 1) } else { host.find(':') };
        host.get(..end.unwrap_or(host.len())).filter(|host| !host.is_empty())
    }

    /// Whether ssh is what git uses.
    pub(crate) fn is_ssh(&self) -> bool {
        self.remote.starts_with("ssh://") || !self.remote.contains("://")
    }

    fn ask(&mut self, query: &str) -> Result<()> {
        let fields = fields(query)?;
        for (name, value) in &fields {
            match (name.as_str(), value.as_str()) {
                ("ref", value) => same("ref", &mut self.wanted, value)?,
                ("subdir", value) => same("subdir", &mut self.subdir, &clean(value))?,
                ("tag" | "branch", _) => {}
                ("checksum" | "commit", value) => self.checksum = Some(value.to_owned()),
                ("keep-git-dir", value) => self.keep_git_dir = Some(truth(name, value)?),
                ("submodules", value) => self.submodules = truth(name, value)?,
                ("fetch-by-commit", value) => self.fetch_by_commit = truth(name, value)?,
                // Files are always as old as their commit: the same input gives the same image.
                ("mtime", "commit" | "checkout") => {}
                ("mtime", value) => {
                    let message =
                        format!("invalid mtime value: {value:?} (must be \"checkout\" or \"commit\")");
                    return Err(Error::invalid(message));
                }
                _ => return Err(Error::invalid(format!("unexpected query {name:?}"))),
            }
        }
        self.named(fields.get("tag"), fields.get("branch"))
    }

    /// `?tag=` and `?branch=` say what kind of name it is.
    fn named(&mut self, tag: Option<&String>, branch: Option<&String>) -> Result<()> {
        if tag.is_some() && branch.is_some() {
            return Err(Error::invalid("branch conflicts with tag"));
        }
        for (value, kind) in [(tag, "refs/tags/"), (branch, "refs/heads/")] {
            let Some(value) = value else { continue };
            let whole = if value.starts_with(kind) { value.clone() } else { format!("{kind}{value}") };
            same("ref", &mut self.wanted, &whole)?;
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let odd = |c: char| c.is_control() || " ~^:*[\\".contains(c);
        if self.wanted.starts_with('-') || self.wanted.contains(odd) || self.wanted.contains("..") {
            return Err(Error::invalid(format!("invalid git ref {:?}", self.wanted)));
        }
        let host = self.host().unwrap_or_default();
        if host.is_empty() || host.starts_with('-') || self.remote.chars().any(|c| c.is_control() || c == ' ')
        {
            return Err(Error::invalid(format!("invalid git URL {:?}", self.shown())));
        }
        if let Some(sum) = self.checksum.as_ref().filter(|sum| !is_hex(sum)) {
            let message = format!("invalid checksum {sum} for Git URL, expected hex commit hash");
            return Err(Error::invalid(message));
        }
        match (self.fetch_by_commit, &self.checksum) {
            (true, None) if !is_commit(&self.wanted) => {
                Err(Error::invalid("fetch-by-commit requires a checksum or a commit SHA ref"))
            }
            (true, Some(sum)) if !is_commit(sum) => {
                let message = format!("fetch-by-commit requires a full commit SHA checksum, got {sum:?}");
                Err(Error::invalid(message))
            }
            _ => Ok(()),
        }
    }
}

/// A whole id: of SHA-1 or SHA-256.
pub(crate) fn is_commit(text: &str) -> bool {
    [40, 64].contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// The beginning of one.
pub(crate) fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// `NAME=VALUE&NAME`: each once.
fn fields(query: &str) -> Result<BTreeMap<String, String>> {
    let mut fields = BTreeMap::new();
    for field in query.split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let (name, value) = (decoded(&name.replace('+', " ")), decoded(&value.replace('+', " ")));
        if value.is_empty() && !["submodules", "keep-git-dir", "fetch-by-commit"].contains(&name.as_str()) {
            return Err(Error::invalid(format!("query {name:?} has no value")));
        }
        if fields.insert(name.clone(), value).is_some() {
            return Err(Error::invalid(format!("query {name:?} has multiple values")));
        }
    }
    Ok(fields)
}

/// What is said twice must be the same.
fn same(name: &str, known: &mut String, value: &str) -> Result<()> {
    if !known.is_empty() && known != value {
        return Err(Error::invalid(format!("{name} conflicts: {known:?} vs {value:?}")));
    }
    value.clone_into(known);
    Ok(())
}

/// A flag without a value is meant.
fn truth(name: &str, value: &str) -> Result<bool> {
    match value {
        "" | "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
        _ => Err(Error::invalid(format!("invalid {name} value: {value:?}"))),
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8_lossy(&percent_decode(text)).into_owned()
}

/// Without a slash at its ends, and not above the root.
fn clean(path: &str) -> String {
    TreePath::clean(path.as_bytes()).to_string().trim_start_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> GitReference {
        GitReference::parse(text).unwrap().unwrap()
    }

    #[test]
    fn what_a_reference_says() {
        for (text, remote, wanted, subdir) in [
            ("https://h/a.git", "https://h/a.git", "", ""),
            ("https://h/a.git#main", "https://h/a.git", "main", ""),
            ("https://h/a.git#feature/x:docs/../src/", "https://h/a.git", "feature/x", "src"),
            ("git://h/a#:/src/", "git://h/a", "", "src"),
            ("git@h:a/b.git#v1:../..", "git@h:a/b.git", "v1", ""),
            ("ssh://git@h:22/a?tag=v1&subdir=x", "ssh://git@h:22/a", "refs/tags/v1", "x"),
            ("https://u:p@h/a.git?branch=b#refs/heads/b", "https://u:p@h/a.git", "refs/heads/b", ""),
            ("https://h/a.git?ref=x%2Fy", "https://h/a.git", "x/y", ""),
        ] {
            let found = parsed(text);
            assert_eq!((&*found.remote, &*found.wanted, &*found.subdir), (remote, wanted, subdir), "{text}");
        }
        let full = parsed("https://h/a.git?keep-git-dir&submodules=0&commit=abc123&mtime=commit");
        assert_eq!(
            (full.keep_git_dir, full.submodules, full.checksum),
            (Some(true), false, Some("abc123".into()))
        );
    }

    #[test]
    fn what_is_no_repository() {
        for text in ["a/b.git", "https://h/a", "./git@h:x", "ftp://h/a.git", ""] {
            assert_eq!(GitReference::parse(text).unwrap(), None, "{text}");
        }
        assert_eq!(GitReference::parse("github.com/a/b").unwrap(), None);
        let context = |text| GitReference::parse_context(text).unwrap().unwrap();
        assert_eq!(context("github.com/a/b#main:x").remote, "https://github.com/a/b.git");
        assert_eq!(context("github.com/a/b#main:x").subdir, "x");
        assert_eq!(context("github.com/a/b.git").remote, "https://github.com/a/b.git");
    }

    #[test]
    fn what_is_refused() {
        for (text, words) in [
            ("https://h/a.git#-x", "invalid git ref \"-x\""),
            ("https://h/a.git#--upload-pack=x", "invalid git ref"),
            ("https://h/a.git#a..b", "invalid git ref"),
            ("https://h/a.git#a%0ab", "invalid git ref"),
            ("https://h/a.git?ref=a+", "invalid git ref \"a \""),
            ("ssh://-oProxyCommand=x/a", "invalid git URL"),
            ("ssh://u@-x/a", "invalid git URL"),
            ("git:///a", "invalid git URL"),
            ("https://h/a b.git", "invalid git URL"),
            ("https://h/a.git?ref=a#b", "ref conflicts: \"b\" vs \"a\""),
            ("https://h/a.git?subdir=a#b:c", "subdir conflicts: \"c\" vs \"a\""),
            ("https://h/a.git?tag=a&branch=b", "branch conflicts with tag"),
            ("https://h/a.git?tag=", "query \"tag\" has no value"),
            ("https://h/a.git?tag=a&tag=b", "query \"tag\" has multiple values"),
            ("https://h/a.git?x=1", "unexpected query \"x\""),
            ("https://h/a.git?keep-git-dir=maybe", "invalid keep-git-dir value: \"maybe\""),
            ("https://h/a.git?mtime=now", "invalid mtime value: \"now\""),
            ("https://h/a.git?checksum=xyz", "invalid checksum xyz for Git URL"),
            ("https://h/a.git?fetch-by-commit", "fetch-by-commit requires a checksum"),
            ("https://h/a.git?fetch-by-commit&commit=ab", "requires a full commit SHA"),
        ] {
            let error = GitReference::parse(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn hosts_and_words_for_others() {
        for (text, host, shown) in [
            ("https://u:p@h:8443/a.git", "h", "https://h:8443/a.git"),
            ("git@h:a.git", "h", "git@h:a.git"),
            ("ssh://git@h:22/a", "h", "ssh://git@h:22/a"),
            ("git://h/a", "h", "git://h/a"),
            ("git://[::1]:9/a", "[::1]", "git://[::1]:9/a"),
        ] {
            let found = parsed(text);
            assert_eq!((found.host(), &*found.shown()), (Some(host), shown), "{text}");
        }
        let user = parsed("https://u:p@h:8443/a.git").user();
        assert_eq!(user, Some(("u:p".to_owned(), "https://h:8443/".to_owned())));
        assert_eq!((parsed("https://h/a.git").user(), parsed("ssh://git@h/a").user()), (None, None));
        assert!(parsed("git@h:a.git").is_ssh() && !parsed("git://h/a").is_ssh());
    }
}
