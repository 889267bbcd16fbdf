//! What a COPY or ADD says, with variables replaced: what is copied, where to, and how it looks there.

use crate::build::chmod::Chmod;
use crate::build::copy::Copier;
use crate::build::ignore::Ignore;
use crate::build::instruction::Transfer;
use crate::build::remote::{Kind, file_name, kind};
use crate::build::repositories::{Repository, repository};
use crate::build::source::mark;
use crate::build::stage_run::StageRun;
use crate::build::tree::{Named, Tree};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::git::{GitReference, is_hex};
use crate::layer::entry::TreePath;
use crate::web_file::Wanted;
use std::path::PathBuf;

/// What to do.
pub(crate) struct Plan {
    /// Archives of the context are unpacked; those of the web.
    pub(crate) unpack: (bool, bool),
    /// In the order of the instruction.
    pub(crate) sources: Vec<Origin>,
    /// Contents that stand in the Dockerfile: name and bytes.
    pub(crate) inline: Vec<(String, Vec<u8>)>,
    pub(crate) target: TreePath,
    /// The target must be a directory.
    pub(crate) into: bool,
    pub(crate) chown: Option<String>,
    pub(crate) mode: Option<Chmod>,
    pub(crate) exclude: Vec<String>,
    pub(crate) parents: bool,
}

/// Where one source is.
pub(crate) enum Origin {
    /// In the context, stage or image: a path or a pattern.
    Here(String),
    Web(Remote),
    Git(Box<Repository>),
}

/// A file of the web.
pub(crate) struct Remote {
    pub(crate) wanted: Wanted,
    pub(crate) name: String,
    /// `--checksum`
    pub(crate) checksum: Option<Digest>,
}

/// One thing that was found.
pub(crate) enum Item<'p> {
    /// Files of a tree, and how many parts of their path `--parents` leaves out.
    Files(Named, usize),
    Web(&'p Remote),
    Git(&'p Repository),
}

/// Understands an instruction where it stands.
pub(crate) fn plan(stage: &StageRun<'_>, transfer: &Transfer) -> Result<Plan> {
    let scope = stage.scope();
    let flags = transfer.flags.expanded(scope.escape, &scope)?;
    flags.is_set("link")?;
    let keep_git_dir = flags.get("keep-git-dir").map(|_| flags.is_set("keep-git-dir")).transpose()?;
    let target = scope.expand(&transfer.target)?;
    let unpack = flags.get("unpack").map(|_| flags.is_set("unpack")).transpose()?;
    let mut plan = Plan {
        unpack: (transfer.add && unpack != Some(false), unpack == Some(true)),
        sources: Vec::new(),
        inline: Vec::new(),
        target: stage.absolute(&target),
        into: target.ends_with('/') || target == "." || target.ends_with("/."),
        chown: flags.get("chown").map(str::to_owned),
        mode: flags.get("chmod").map(Chmod::parse).transpose()?,
        exclude: flags.all("exclude").map(str::to_owned).collect(),
        parents: flags.is_set("parents")?,
    };
    let mut paths = Vec::new();
    let mut heredocs = transfer.heredocs.iter();
    for source in &transfer.sources {
        match mark(source).and_then(|_| heredocs.next()) {
            Some(heredoc) => {
                let content = match heredoc.expand {
                    true => scope.expand_document(&heredoc.content)?,
                    false => heredoc.content.clone(),
                };
                plan.inline.push((heredoc.name.clone(), content.into_bytes()));
            }
            None => paths.push(scope.expand(source)?),
        }
    }
    let checksum = flags.get("checksum").filter(|text| !text.is_empty());
    checksum.map(|text| check_checksum(text, &paths)).transpose()?;
    let request = &stage.job.build.request;
    let said = Said {
        add: transfer.add,
        checksum,
        keep_git_dir,
        secret: &|name| request.secrets.get(name).cloned(),
        agent: request.ssh.get("default"),
    };
    for path in paths {
        plan.sources.push(said.origin(path)?);
    }
    if plan.sources.len() + plan.inline.len() > 1 && !plan.into {
        let name = if transfer.add { "ADD" } else { "COPY" };
        return Err(Error::invalid(format!(
            "When using {name} with more than one source file, the destination must be a directory and end with a /"
        )));
    }
    Ok(plan)
}

/// `--checksum` of these sources.
fn check_checksum(text: &str, sources: &[String]) -> Result<()> {
    match sources {
        [one] if kind(one) == Kind::Git && is_hex(text) => Ok(()),
        [one] if kind(one) == Kind::Git => {
            Err(Error::invalid(format!("invalid checksum {text} for Git URL, expected hex commit hash")))
        }
        [one] if kind(one) == Kind::Web => digest(text).map(drop),
        [_] => Err(Error::invalid("checksum requires HTTP(S) or Git sources")),
        _ => Err(Error::invalid("checksum can't be specified for multiple sources")),
    }
}

fn digest(text: &str) -> Result<Digest> {
    let words = match text.split_once(':') {
        None => "invalid checksum digest format",
        Some(("sha256", _)) => "invalid checksum digest length",
        Some(_) => "unsupported digest algorithm",
    };
    Digest::parse(text).map_err(|_| Error::invalid(format!("{words}: {text:?}")))
}

/// What an instruction says of all its sources.
struct Said<'s> {
    add: bool,
    checksum: Option<&'s str>,
    keep_git_dir: Option<bool>,
    secret: &'s dyn Fn(&str) -> Option<Vec<u8>>,
    agent: Option<&'s PathBuf>,
}

impl Said<'_> {
    fn origin(&self, source: String) -> Result<Origin> {
        match (kind(&source), self.add) {
            (Kind::Path, _) => Ok(Origin::Here(source)),
            (Kind::Web, false) => Err(Error::invalid("source can't be a URL for COPY")),
            (Kind::Git, false) => Err(Error::invalid("source can't be a git ref for COPY")),
            (Kind::Git, true) => {
                let unknown = || Error::invalid(format!("invalid git URL {source:?}"));
                let reference = GitReference::parse(&source)?.ok_or_else(unknown)?;
                let said = (self.keep_git_dir, self.checksum);
                repository(reference, said, self.secret, self.agent).map(|found| Origin::Git(Box::new(found)))
            }
            (Kind::Web, true) => {
                let authorization = authorization(&source, self.secret);
                let wanted = Wanted { authorization, ..Wanted::new(&source) };
                let checksum = self.checksum.map(digest).transpose()?;
                Ok(Origin::Web(Remote { name: file_name(&source), checksum, wanted }))
            }
        }
    }
}

/// Secrets of these names are what BuildKit shows to the host too: a whole header, or the token of one.
fn authorization(url: &str, secret: &dyn Fn(&str) -> Option<Vec<u8>>) -> Option<String> {
    let uri: http::Uri = url.parse().ok()?;
    let told = |kind: &str| {
        let bytes = secret(&format!("HTTP_AUTH_{kind}_{}", uri.host()?))?;
        Some(String::from_utf8_lossy(&bytes).trim_end().to_owned())
    };
    told("TOKEN").map(|token| format!("Bearer {token}")).or_else(|| told("HEADER"))
}

impl Plan {
    pub(crate) fn remotes(&self) -> impl Iterator<Item = &Remote> {
        self.sources.iter().filter_map(|source| match source {
            Origin::Web(remote) => Some(remote),
            Origin::Here(_) | Origin::Git(_) => None,
        })
    }

    /// Everything that is said but for what the files are; of a file of the web only its name, of a
    /// repository nothing.
    pub(crate) fn words(&self) -> String {
        let sources = self.sources.iter().map(|source| match source {
            Origin::Here(path) => ("here", path.as_str()),
            Origin::Web(remote) => ("web", remote.name.as_str()),
            Origin::Git(_) => ("git", ""),
        });
        format!(
            "{:?} {:?} {:?} {:?} {} {:?} {:?} {:?} {}",
            self.unpack,
            sources.collect::<Vec<_>>(),
            self.inline,
            self.target,
            self.into,
            self.chown,
            self.mode,
            self.exclude,
            self.parents
        )
    }

    /// What there is to be copied from a tree and the web.
    pub(crate) fn find(&self, tree: &Tree) -> Result<Vec<Item<'_>>> {
        let exclude = Ignore::of(self.exclude.iter().map(String::as_str));
        let mut all = Vec::new();
        for source in &self.sources {
            match source {
                Origin::Web(remote) => all.push(Item::Web(remote)),
                Origin::Git(repository) => all.push(Item::Git(repository)),
                Origin::Here(path) => {
                    let above = above_pivot(path);
                    let found = tree.find_as(path, &exclude, self.parents)?;
                    all.extend(found.into_iter().map(|named| Item::Files(named, above)));
                }
            }
        }
        Ok(all)
    }

    /// Where one source goes. Links on the way to the target are followed, none below it.
    pub(crate) fn target_of(
        &self,
        copier: &Copier,
        source: &TreePath,
        is_dir: bool,
        above: usize,
    ) -> Result<TreePath> {
        let mut target = copier.destination(&self.target)?;
        match source.split() {
            _ if self.parents => {
                for part in source.parts().skip(above) {
                    if target != self.target {
                        copier.refuse_other(&target)?;
                    }
                    target = target.join(part);
                }
                Ok(target)
            }
            Some((_, name)) if !is_dir && (self.into || copier.is_dir(&target)) => Ok(target.join(name)),
            _ => Ok(target),
        }
    }
}

/// `--parents` keeps only what comes after a `/./` of the source: how many parts come before it.
fn above_pivot(source: &str) -> usize {
    let inside = source.strip_prefix("./").unwrap_or(source);
    inside.split_once("/./").map_or(0, |(above, _)| TreePath::clean(above.as_bytes()).parts().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_that_are_somewhere_else() {
        let refused = |source: &str, add| {
            let said = Said { add, checksum: None, keep_git_dir: None, secret: &|_| None, agent: None };
            said.origin(source.to_owned()).map(drop).unwrap_err().to_string()
        };
        assert_eq!(refused("https://h/x", false), "source can't be a URL for COPY");
        assert_eq!(refused("git@h:x", false), "source can't be a git ref for COPY");
        assert!(refused("https://h/x.git#-main", true).contains("invalid git ref \"-main\""));
        let header = |name: &str| (name == "HTTP_AUTH_HEADER_h").then(|| b"Basic x\n".to_vec());
        let token = |name: &str| (name == "HTTP_AUTH_TOKEN_h").then(|| b"y".to_vec());
        assert_eq!(authorization("https://h:1/x", &header).as_deref(), Some("Basic x"));
        assert_eq!(authorization("https://h:1/x", &token).as_deref(), Some("Bearer y"));
        assert_eq!(authorization("https://other/x", &token), None);
    }

    #[test]
    fn checksums_are_of_one_remote_file() {
        let sum = Digest::of(b"x").to_string();
        let words = |text: &str, sources: &[&str]| {
            let sources: Vec<String> = sources.iter().map(ToString::to_string).collect();
            check_checksum(text, &sources).map(|()| String::new()).unwrap_or_else(|e| e.to_string())
        };
        let (url, git) = ("http://h/x", "http://h/x.git");
        assert_eq!((words(&sum, &[url]), words("ab12", &[git])), Default::default());
        assert!(words("main", &[git]).starts_with("invalid checksum main for Git URL"));
        assert_eq!(words(&sum, &["x"]), "checksum requires HTTP(S) or Git sources");
        assert_eq!(words(&sum, &[url, url]), "checksum can't be specified for multiple sources");
        assert!(words("md5:00", &[url]).starts_with("unsupported digest algorithm"));
        assert!(words("00", &[url]).starts_with("invalid checksum digest format"));
        assert!(words("sha256:00", &[url]).starts_with("invalid checksum digest length"));
    }
}
