//! `knarr cp`: files between a container, running or not, and this machine, by Docker's rules.
//!
//! - A file goes into the target where that is a directory, else it becomes the target, whose parent must exist.
//! - A directory becomes the target where nothing is, else goes into it; `SOURCE/.` means its contents.
//! - `-` is a tar archive on stdin or stdout.

use super::Standalone;
use crate::args::Cp;
use crate::settings::Settings;
use anyhow::{Context, bail};
use knarr_images::{FileKind, Files};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// One side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Side {
    Container { name: String, path: String },
    Here(String),
    Stream,
}

/// `CONTAINER:PATH`, unless it is evidently a path of this machine.
fn side(text: &str) -> Side {
    if text == "-" {
        return Side::Stream;
    }
    match text.split_once(':') {
        Some((name, path)) if !name.is_empty() && !name.starts_with(['.', '/']) && !name.contains('/') => {
            Side::Container { name: name.to_owned(), path: path.to_owned() }
        }
        _ => Side::Here(text.to_owned()),
    }
}

/// Copies.
pub(crate) async fn run(settings: Settings, arguments: Cp) -> anyhow::Result<()> {
    let (archive, follow) = (arguments.archive, arguments.follow_link);
    match (side(&arguments.source), side(&arguments.target)) {
        (Side::Container { name, path }, target @ (Side::Here(_) | Side::Stream)) => {
            let (_place, root) = root(&settings, &name).await?;
            blocking(move || outwards((&root, &name), &path, &target, follow, archive)).await
        }
        (source @ (Side::Here(_) | Side::Stream), Side::Container { name, path }) => {
            let (_place, root) = root(&settings, &name).await?;
            blocking(move || inwards(&source, &root, &path, follow, archive)).await
        }
        (Side::Container { .. }, Side::Container { .. }) => {
            bail!("copying between containers is not supported")
        }
        _ => bail!("must specify at least one container source"),
    }
}

async fn blocking(work: impl FnOnce() -> anyhow::Result<()> + Send + 'static) -> anyhow::Result<()> {
    tokio::task::spawn_blocking(work).await?
}

async fn root(settings: &Settings, name: &str) -> anyhow::Result<(Standalone, PathBuf)> {
    let place = Standalone::find(settings, name).await?;
    let root = place.engine.root_of(&place.expect().await?.id)?;
    Ok((place, root))
}

/// A file system and a path in it, as a side of a copy names it.
struct End {
    files: Files,
    path: PathBuf,
    /// It was written with a slash at its end.
    slash: bool,
    /// It was written with `/.` at its end.
    contents: bool,
    /// Whose it is; none where it is this machine's.
    container: Option<String>,
}

impl End {
    fn inside(root: &Path, path: &str) -> anyhow::Result<Self> {
        Ok(Self {
            files: Files::open(root)?,
            path: Path::new("/").join(path),
            slash: path.ends_with('/'),
            contents: path.ends_with("/.") || path == ".",
            container: None,
        })
    }

    fn here(path: &str) -> anyhow::Result<Self> {
        let place = std::path::absolute(path)?;
        Ok(Self { path: place, ..Self::inside(Path::new("/"), path)? })
    }

    fn kind(&self, follow: bool) -> anyhow::Result<Option<FileKind>> {
        Ok(self.files.kind(&self.path, follow)?)
    }
}

fn outwards(
    (root, name): (&Path, &str),
    path: &str,
    target: &Side,
    follow: bool,
    archive: bool,
) -> anyhow::Result<()> {
    let source = End { container: Some(name.to_owned()), ..End::inside(root, path)? };
    match target {
        Side::Here(target) => {
            let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            copy(&source, End::here(target)?, follow, (!archive).then_some(own))
        }
        _ if std::io::stdout().is_terminal() => bail!("refusing to write a tar archive to a terminal"),
        _ => {
            let name = source.path.file_name().map_or_else(|| ".".into(), |name| name.to_string_lossy());
            let name = if source.contents { "." } else { &*name };
            let mut out = std::io::BufWriter::new(std::io::stdout());
            expect(&source, follow, path)?;
            source.files.write_tar(&source.path, follow, name, &mut out)?;
            Ok(out.flush()?)
        }
    }
}

fn inwards(source: &Side, root: &Path, path: &str, follow: bool, archive: bool) -> anyhow::Result<()> {
    let target = End::inside(root, path)?;
    match source {
        Side::Here(source) => copy(&End::here(source)?, target, follow, (!archive).then_some((0, 0))),
        _ => {
            if target.kind(true)? != Some(FileKind::Directory) {
                bail!("destination \"{path}\" must be a directory");
            }
            Ok(target.files.read_tar(&target.path, &mut std::io::stdin().lock(), None)?)
        }
    }
}

fn expect(end: &End, follow: bool, shown: &str) -> anyhow::Result<FileKind> {
    let follow = follow || end.slash || end.contents;
    end.kind(follow)?.with_context(|| match &end.container {
        Some(name) => format!("Could not find the file {shown} in container {name}"),
        None => format!("lstat {shown}: no such file or directory"),
    })
}

fn copy(source: &End, mut target: End, follow: bool, owner: Option<(u32, u32)>) -> anyhow::Result<()> {
    let shown = source.path.display().to_string();
    // A link that is written to stays, whatever it leads to.
    target.path = target.files.destination(&target.path)?;
    let (from, to) = (expect(source, follow, &shown)?, target.kind(true)?);
    let follow = follow || source.slash || source.contents;
    let path = place(source, from, &target, to)?;
    source.files.copy(&source.path, follow, &target.files, &path, owner)?;
    Ok(())
}

/// Where the source goes.
fn place(source: &End, from: FileKind, target: &End, to: Option<FileKind>) -> anyhow::Result<PathBuf> {
    use FileKind::{Directory, Other};
    let within = || match source.path.file_name() {
        Some(name) if !source.contents => target.path.join(name),
        _ => target.path.clone(),
    };
    match (from, to) {
        (Other, Some(Directory)) => Ok(within()),
        (Other, Some(Other)) if target.slash => bail!("{}: not a directory", target.path.display()),
        (Directory, Some(Directory)) => Ok(within()),
        (Directory, Some(Other)) => bail!("cannot copy directory to a file: {}", target.path.display()),
        (Other, None) if target.slash => {
            bail!("destination directory {} does not exist", target.path.display())
        }
        (_, Some(Other)) | (_, None) => {
            let parent = target.path.parent().unwrap_or(Path::new("/"));
            if target.files.kind(parent, true)? != Some(Directory) {
                bail!("directory {} does not exist", parent.display());
            }
            Ok(target.path.clone())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_told_apart() {
        let inside = |name: &str, path: &str| Side::Container { name: name.into(), path: path.into() };
        assert_eq!(side("c:/etc"), inside("c", "/etc"));
        assert_eq!(side("c:relative"), inside("c", "relative"));
        assert_eq!(side("-"), Side::Stream);
        for here in ["/a:b", "./a:b", "a/b:c", "plain", ":x"] {
            assert_eq!(side(here), Side::Here(here.into()), "{here}");
        }
    }

    #[test]
    fn places_are_dockers() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("there/sub")).unwrap();
        std::fs::write(root.path().join("file"), "x").unwrap();
        let placed = |source: &str, target: &str| {
            let source = End::inside(root.path(), source).unwrap();
            let target = End::inside(root.path(), target).unwrap();
            let (from, to) = (source.kind(true).unwrap().unwrap(), target.kind(true).unwrap());
            place(&source, from, &target, to).map(|path| path.display().to_string())
        };
        assert_eq!(placed("/file", "/there").unwrap(), "/there/file");
        assert_eq!(placed("/file", "/there/new").unwrap(), "/there/new");
        assert_eq!(placed("/there", "/new").unwrap(), "/new");
        assert_eq!(placed("/there/sub", "/there").unwrap(), "/there/sub");
        assert_eq!(placed("/there/sub/.", "/there").unwrap(), "/there");
        assert!(placed("/there", "/file").is_err() && placed("/file", "/file/").is_err());
        assert!(placed("/file", "/none/").is_err() && placed("/file", "/none/x").is_err());
    }
}
