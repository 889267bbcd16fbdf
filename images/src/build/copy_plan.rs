//! What a COPY or ADD says, with variables replaced: what is copied, where to, and how it looks there.

use crate::build::chmod::Chmod;
use crate::build::copy::Copier;
use crate::build::ignore::Ignore;
use crate::build::instruction::Transfer;
use crate::build::remote::{Kind, file_name, kind};
use crate::build::source::mark;
use crate::build::stage_run::StageRun;
use crate::build::tree::{Named, Tree};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::layer::entry::TreePath;
use crate::web_file::Wanted;

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
}

/// Understands an instruction where it stands.
pub(crate) fn plan(stage: &StageRun<'_>, transfer: &Transfer) -> Result<Plan> {
    let scope = stage.scope();
    let flags = transfer.flags.expanded(scope.escape, &scope)?;
    for flag in ["link", "keep-git-dir"] {
        flags.is_set(flag)?;
    }
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
    let checksum = checksum.map(|text| checked(text, &paths)).transpose()?;
    let secrets = &stage.job.build.request.secrets;
    for path in paths {
        plan.sources.push(origin(path, transfer.add, &checksum, &|name| secrets.get(name).cloned())?);
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
fn checked(text: &str, sources: &[String]) -> Result<Digest> {
    match sources {
        [one] if kind(one) != Kind::Path => {}
        [_] => return Err(Error::invalid("checksum requires HTTP(S) or Git sources")),
        _ => return Err(Error::invalid("checksum can't be specified for multiple sources")),
    }
    let words = match text.split_once(':') {
        None => "invalid checksum digest format",
        Some(("sha256", _)) => "invalid checksum digest length",
        Some(_) => "unsupported digest algorithm",
    };
    Digest::parse(text).map_err(|_| Error::invalid(format!("{words}: {text:?}")))
}

fn origin(
    source: String,
    add: bool,
    checksum: &Option<Digest>,
    secret: &dyn Fn(&str) -> Option<Vec<u8>>,
) -> Result<Origin> {
    match (kind(&source), add) {
        (Kind::Path, _) => Ok(Origin::Here(source)),
        (Kind::Web, false) => Err(Error::invalid("source can't be a URL for COPY")),
        (Kind::Git, false) => Err(Error::invalid("source can't be a git ref for COPY")),
        (Kind::Git, true) => {
            let message =
                format!("{source}: git repositories are not fetched; clone it and COPY the directory");
            Err(Error::new(ErrorKind::Unsupported, message))
        }
        (Kind::Web, true) => {
            let authorization = authorization(&source, secret);
            let wanted = Wanted { authorization, ..Wanted::new(&source) };
            Ok(Origin::Web(Remote { name: file_name(&source), checksum: checksum.clone(), wanted }))
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
            Origin::Here(_) => None,
        })
    }

    /// Everything that is said but for what the files are; of a file of the web only its name.
    pub(crate) fn words(&self) -> String {
        let sources = self.sources.iter().map(|source| match source {
            Origin::Here(path) => ("here", path),
            Origin::Web(remote) => ("web", &remote.name),
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
        let none = |_: &str| None;
        let refused = |source: &str, add| {
            origin(source.to_owned(), add, &None, &none).map(drop).unwrap_err().to_string()
        };
        assert_eq!(refused("https://h/x", false), "source can't be a URL for COPY");
        assert_eq!(refused("git@h:x", false), "source can't be a git ref for COPY");
        assert!(refused("https://h/x.git#main", true).contains("git repositories are not fetched"));
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
            checked(text, &sources).map(|digest| digest.to_string()).unwrap_or_else(|e| e.to_string())
        };
        let url = "http://h/x";
        assert_eq!(words(&sum, &[url]), sum);
        assert_eq!(words(&sum, &["x"]), "checksum requires HTTP(S) or Git sources");
        assert_eq!(words(&sum, &[url, url]), "checksum can't be specified for multiple sources");
        assert!(words("md5:00", &[url]).starts_with("unsupported digest algorithm"));
        assert!(words("00", &[url]).starts_with("invalid checksum digest format"));
        assert!(words("sha256:00", &[url]).starts_with("invalid checksum digest length"));
    }
}
