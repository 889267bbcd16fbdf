//! Which commit a name stands for now, by the server's own list.

use crate::error::{Error, ErrorKind, Result};
use crate::git::command::Git;
use crate::git::reference::is_commit;

/// A commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) id: String,
    /// What the name stands for: the commit, or the annotated tag that names it.
    pub(crate) object: String,
    /// The whole name (`refs/...`); the id where there is none.
    pub(crate) name: String,
}

impl Commit {
    fn unnamed(id: &str) -> Self {
        Self { id: id.to_owned(), object: id.to_owned(), name: id.to_owned() }
    }
}

/// Asks the server, unless the commit is said already.
pub(crate) async fn resolve(git: &Git<'_>) -> Result<Commit> {
    let reference = git.reference;
    let commit = match (&reference.checksum, reference.wanted.as_str()) {
        (Some(sum), _) if reference.fetch_by_commit => Commit::unnamed(sum),
        (_, wanted) if is_commit(wanted) => Commit::unnamed(wanted),
        (_, wanted) => ask(git, wanted).await?,
    };
    verify(&commit, reference.checksum.as_deref())?;
    Ok(commit)
}

async fn ask(git: &Git<'_>, wanted: &str) -> Result<Commit> {
    let (name, tag) =
        if wanted.is_empty() { ("HEAD", String::new()) } else { (wanted, format!("{wanted}^{{}}")) };
    let remote = git.reference.shown();
    let mut arguments = vec!["ls-remote", "--symref", "--", &remote, name];
    arguments.extend(Some(tag.as_str()).filter(|tag| !tag.is_empty()));
    let list = git.run(&arguments).await?;
    pick(&list, wanted).ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("repository does not contain ref {name}, output: {list:?}"))
    })
}

/// Whole names first, then branches, then tags, as git itself prefers them.
fn pick(list: &str, wanted: &str) -> Option<Commit> {
    let named = |name: &str| {
        let mut lines = list.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(id, found)| *found == name && is_commit(id)).map(|(id, _)| id.to_owned())
    };
    if wanted.is_empty() {
        let id = named("HEAD")?;
        let branch = list.lines().find_map(|line| line.strip_prefix("ref: ")?.strip_suffix("\tHEAD"));
        return Some(Commit { name: branch.unwrap_or("HEAD").to_owned(), object: id.clone(), id });
    }
    let below = |kind: &str| format!("{kind}{}", wanted.strip_prefix(kind).unwrap_or(wanted));
    ["refs/", "refs/heads/", "refs/tags/"].into_iter().map(below).find_map(|name| {
        let object = named(&name)?;
        let id = named(&format!("{name}^{{}}")).unwrap_or_else(|| object.clone());
        Some(Commit { id, object, name })
    })
}

/// `--checksum`: the beginning of the commit's id, or of its tag's.
pub(crate) fn verify(commit: &Commit, expected: Option<&str>) -> Result<()> {
    let Some(expected) = expected.map(str::to_ascii_lowercase) else { return Ok(()) };
    if [&commit.id, &commit.object].iter().any(|id| id.starts_with(&expected)) {
        return Ok(());
    }
    let got = if commit.id == commit.object { "" } else { &format!(" or {}", commit.id) };
    let message = format!("expected checksum to match {expected}, got {}{got}", commit.object);
    Err(Error::new(ErrorKind::Mismatch, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: char) -> String {
        digit.to_string().repeat(40)
    }

    #[test]
    fn names_and_what_they_stand_for() {
        let list = format!(
            "ref: refs/heads/main\tHEAD\n{a}\tHEAD\n{a}\trefs/heads/main\n{b}\trefs/heads/v1\n{c}\trefs/tags/v1\n\
             {d}\trefs/tags/v1^{{}}\n{e}\trefs/pull/7/head\n{e}\trefs/remotes/main\n{f}\trefs/tags/plain\n",
            a = id('a'),
            b = id('b'),
            c = id('c'),
            d = id('d'),
            e = id('e'),
            f = id('f'),
        );
        for (wanted, found, object, name) in [
            ("", 'a', 'a', "refs/heads/main"),
            ("main", 'a', 'a', "refs/heads/main"),
            ("v1", 'b', 'b', "refs/heads/v1"),
            ("refs/tags/v1", 'd', 'c', "refs/tags/v1"),
            ("tags/v1", 'd', 'c', "refs/tags/v1"),
            ("plain", 'f', 'f', "refs/tags/plain"),
            ("refs/pull/7/head", 'e', 'e', "refs/pull/7/head"),
            ("pull/7/head", 'e', 'e', "refs/pull/7/head"),
        ] {
            let expected = Commit { id: id(found), object: id(object), name: name.to_owned() };
            assert_eq!(pick(&list, wanted), Some(expected), "{wanted}");
        }
        assert_eq!((pick(&list, "none"), pick("", ""), pick("x\trefs/heads/a\n", "a")), (None, None, None));
    }

    #[test]
    fn checksums() {
        let commit = Commit { id: id('a'), object: id('b'), name: "refs/tags/x".into() };
        for good in ["aaa", "BBBB", &id('a')] {
            verify(&commit, Some(good)).unwrap();
        }
        verify(&commit, None).unwrap();
        let error = verify(&commit, Some("abc")).unwrap_err().to_string();
        assert!(error.contains(&format!("expected checksum to match abc, got {} or {}", id('b'), id('a'))));
        let error = verify(&Commit::unnamed(&id('c')), Some("abc")).unwrap_err().to_string();
        assert!(error.ends_with(&id('c')), "{error}");
    }
}
