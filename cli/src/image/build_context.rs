//! Where the files of a build come from: a directory, an archive or a Dockerfile on stdin or behind a URL, a git
//! repository; and what else `--build-context` gives a name.
//!
//! What must hold: a context that was brought here from somewhere else makes nobody read outside of it.

use crate::args::Build as Arguments;
use anyhow::{Context, anyhow, bail};
use knarr_images::{
    BuildContext, Files, GitAccess, GitReference, Image, ImageStore, Platform, git_context, scoped_open,
};
use rustix::fs::{OFlags, ResolveFlags};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};
use tokio::signal::unix::{SignalKind, signal};

/// What a build is lent that its contexts may need as well.
pub(super) struct Lent<'a> {
    pub(super) secrets: &'a BTreeMap<String, Vec<u8>>,
    pub(super) ssh: &'a BTreeMap<String, PathBuf>,
}

/// The main context.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) directory: PathBuf,
    /// It came from elsewhere: whoever made it is not trusted with this machine's files.
    brought: bool,
    /// A Dockerfile that came alone, in its place.
    alone: Option<String>,
}

/// A Dockerfile and what belongs to it.
pub(super) struct Dockerfile {
    pub(super) name: String,
    pub(super) text: String,
    /// Text of the `.dockerignore`.
    pub(super) ignore: String,
}

/// Brings the main context here; `aside` is an empty directory for what is not here yet.
pub(super) async fn place(
    store: &ImageStore,
    arguments: &Arguments,
    lent: &Lent<'_>,
    aside: &Path,
) -> anyhow::Result<Place> {
    let text = arguments.context.to_string_lossy();
    if text != "-" && arguments.context.is_dir() {
        return Ok(Place { directory: arguments.context.clone(), brought: false, alone: None });
    }
    let aside = aside.join("context");
    if text == "-" {
        return unpacked(std::io::stdin().lock(), &aside).context("the context on stdin");
    }
    let keep = arguments.build_arg.iter().any(|text| text == "BUILDKIT_CONTEXT_KEEP_GIT_DIR=1");
    if let Some(directory) = repository(&text, keep, lent, &aside).await? {
        return Ok(Place { directory, brought: true, alone: None });
    }
    if is_url(&text) {
        let file = unless_interrupted(async { Ok(store.download(&text).await?) }).await?;
        return unpacked(file, &aside).with_context(|| format!("the context {text}"));
    }
    check_directory(&arguments.context)?;
    Ok(Place { directory: arguments.context.clone(), brought: false, alone: None })
}

/// `NAME=DIRECTORY`, `NAME=REPOSITORY`, `NAME=URL` of an archive, `NAME=docker-image://IMAGE`,
/// `NAME=oci-layout://DIRECTORY[:TAG][@DIGEST]`.
pub(super) async fn named(
    store: &ImageStore,
    arguments: &Arguments,
    lent: &Lent<'_>,
    aside: &Path,
) -> anyhow::Result<BTreeMap<String, BuildContext>> {
    let mut contexts = BTreeMap::new();
    for (number, text) in arguments.build_context.iter().enumerate() {
        let layout = |place: &str| layout(store, place, arguments.platform.as_deref());
        let (name, place) = split(text)?;
        let aside = aside.join(number.to_string());
        let context = match image(place, layout).with_context(|| format!("--build-context {text}"))? {
            Some(image) => image,
            None => BuildContext::Directory(
                directory(store, place, lent, &aside)
                    .await
                    .with_context(|| format!("--build-context {text}"))?,
            ),
        };
        contexts.insert(name.to_owned(), context);
    }
    Ok(contexts)
}

async fn directory(
    store: &ImageStore,
    place: &str,
    lent: &Lent<'_>,
    aside: &Path,
) -> anyhow::Result<PathBuf> {
    if Path::new(place).is_dir() {
        return Ok(std::path::absolute(place)?);
    }
    if let Some(directory) = repository(place, false, lent, aside).await? {
        return Ok(directory);
    }
    if is_url(place) {
        let file = unless_interrupted(async { Ok(store.download(place).await?) }).await?;
        let found = unpacked(file, aside)?;
        anyhow::ensure!(found.alone.is_none(), "{place} is no archive");
        return Ok(found.directory);
    }
    check_directory(Path::new(place))?;
    Ok(std::path::absolute(place)?)
}

fn split(text: &str) -> anyhow::Result<(&str, &str)> {
    text.split_once('=').with_context(|| format!("invalid context value: {text}, expected key=value"))
}

/// None: it is no image that is meant.
fn image(
    place: &str,
    layout: impl FnOnce(&str) -> anyhow::Result<Image>,
) -> anyhow::Result<Option<BuildContext>> {
    if let Some(image) = place.strip_prefix("docker-image:") {
        return Ok(Some(BuildContext::Image(image.trim_start_matches('/').to_owned())));
    }
    let Some(place) = place.strip_prefix("oci-layout:") else { return Ok(None) };
    let image = layout(place.strip_prefix("//").unwrap_or(place))?;
    Ok(Some(BuildContext::Image(image.id)))
}

/// Takes the image in. A tag has neither a slash nor a colon.
fn layout(store: &ImageStore, place: &str, platform: Option<&str>) -> anyhow::Result<Image> {
    let (rest, digest) = place.split_once('@').map_or((place, None), |(rest, digest)| (rest, Some(digest)));
    let (directory, tag) = match rest.rsplit_once(':') {
        Some((directory, tag)) if !tag.contains('/') => (directory, Some(tag)),
        _ => (rest, None),
    };
    let platform = match platform {
        Some(text) if !text.contains(',') => Platform::parse(text)?,
        _ => Platform::host(),
    };
    Ok(store.load_layout(Path::new(directory), digest.or(tag), &platform)?)
}

/// Fetches a git repository, if that is what the text names. Over ssh with the agent that was lent, else the user's own: who
/// names a context wants it.
async fn repository(
    text: &str,
    keep: bool,
    lent: &Lent<'_>,
    aside: &Path,
) -> anyhow::Result<Option<PathBuf>> {
    let Some(reference) = GitReference::parse_context(text)? else { return Ok(None) };
    let own = std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from);
    let agent = lent.ssh.get("default").or(own.as_ref());
    let access = GitAccess::lent(&reference, &|name| lent.secrets.get(name).cloned(), agent);
    std::fs::create_dir_all(aside).with_context(|| format!("mkdir {}", aside.display()))?;
    let fetched = unless_interrupted(async { Ok(git_context(&reference, &access, keep, aside).await?) });
    fetched.await.map(Some)
}

/// What is fetched is given up by a signal.
async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => bail!("context canceled"),
        _ = terminate.recv() => bail!("context canceled"),
    }
}

fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
}

/// An archive is unpacked; everything else is a Dockerfile.
fn unpacked(stream: impl Read, aside: &Path) -> anyhow::Result<Place> {
    std::fs::create_dir_all(aside).with_context(|| format!("mkdir {}", aside.display()))?;
    let mut stream = BufReader::with_capacity(1 << 16, stream);
    let mut start = Vec::new();
    stream.by_ref().take(512).read_to_end(&mut start).context("read")?;
    let packed = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let is_archive =
        start.get(257..262) == Some(b"ustar") || packed.iter().any(|magic| start.starts_with(magic));
    let mut whole = std::io::Cursor::new(start).chain(stream);
    let mut alone = None;
    if is_archive {
        Files::open(aside)?.import(&mut whole)?;
    } else {
        whole.read_to_string(alone.insert(String::new())).context("read the Dockerfile")?;
    }
    Ok(Place { directory: aside.to_owned(), brought: true, alone })
}

fn check_directory(path: &Path) -> anyhow::Result<()> {
    let text = path.to_string_lossy();
    let found = std::fs::metadata(path);
    if !found.with_context(|| format!("unable to prepare context: path {text:?}"))?.is_dir() {
        bail!("unable to prepare context: {text:?} is not a directory");
    }
    Ok(())
}

impl Place {
    /// The Dockerfile: the one that came alone, `-` for stdin, a file of a context that was brought here or of this machine;
    /// without a name `Dockerfile`, else `dockerfile`, else `Containerfile` of the context.
    pub(super) fn dockerfile(self, file: Option<&Path>) -> anyhow::Result<(PathBuf, Dockerfile)> {
        let file = match file {
            _ if self.alone.is_some() => PathBuf::from("-"),
            Some(file) => file.to_owned(),
            None => self.default_file(),
        };
        let name = match file.file_name().unwrap_or_default().to_string_lossy() {
            name if name == "-" => "Dockerfile".to_owned(),
            name => name.into_owned(),
        };
        let ignore = self.ignore(&file)?;
        let text = match self.alone {
            Some(text) => text,
            None => self.text(&file)?,
        };
        Ok((self.directory, Dockerfile { name, text, ignore }))
    }

    fn default_file(&self) -> PathBuf {
        let names = ["Dockerfile", "dockerfile", "Containerfile"].map(|name| self.path(name));
        let missing = |file: &&PathBuf| self.read(file).is_err_and(|e| e.kind() == ErrorKind::NotFound);
        names.iter().find(|file| !missing(file)).unwrap_or(&names[0]).clone()
    }

    fn path(&self, name: &str) -> PathBuf {
        if self.brought { PathBuf::from(name) } else { self.directory.join(name) }
    }

    fn read(&self, file: &Path) -> std::io::Result<Vec<u8>> {
        if !self.brought {
            return std::fs::read(file);
        }
        let root = File::open(&self.directory)?;
        // Neither does a pipe make anybody wait.
        let opened = scoped_open(&root, file, OFlags::RDONLY | OFlags::NONBLOCK, ResolveFlags::IN_ROOT)?;
        let mut bytes = Vec::new();
        File::from(opened).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn text(&self, file: &Path) -> anyhow::Result<String> {
        let mut bytes = Vec::new();
        if file == Path::new("-") {
            std::io::stdin().read_to_end(&mut bytes).context("read the Dockerfile from stdin")?;
        } else {
            let read = self.read(file);
            bytes = read.with_context(|| format!("failed to read dockerfile: open {}", file.display()))?;
        }
        String::from_utf8(bytes).map_err(|_| anyhow!("{}: not UTF-8", file.display()))
    }

    /// `DOCKERFILE.dockerignore` wins over the context's own.
    fn ignore(&self, file: &Path) -> anyhow::Result<String> {
        let mut own = file.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [PathBuf::from(own), self.path(".dockerignore"), self.path(".containerignore")] {
            match self.read(&path) {
                Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
            }
        }
        Ok(String::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_of_contexts() {
        let image = |text| image(split(text).unwrap().1, |place| bail!("no layout {place}"));
        let base = image("base=docker-image://alpine:3").unwrap();
        assert_eq!(base, Some(BuildContext::Image("alpine:3".into())));
        assert_eq!(image("src=/").unwrap(), None);
        assert!(split("src").is_err());
        assert!(format!("{:#}", image("a=oci-layout:///b:c@d").unwrap_err()).contains("no layout /b:c@d"));
    }

    #[test]
    fn what_was_brought_reads_nothing_of_this_machine() {
        let (inside, outside) = (tempfile::tempdir().unwrap(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(outside.path(), "FROM secret").unwrap();
        std::fs::write(inside.path().join("Containerfile"), "FROM scratch").unwrap();
        symlink(outside.path(), inside.path().join("Dockerfile")).unwrap();
        symlink(outside.path(), inside.path().join(".dockerignore")).unwrap();
        let place = |brought| Place { directory: inside.path().to_owned(), brought, alone: None };
        let (_, found) = place(false).dockerfile(None).unwrap();
        assert_eq!((&*found.text, &*found.ignore), ("FROM secret", "FROM secret"));
        let (_, found) = place(true).dockerfile(None).unwrap();
        assert_eq!((&*found.text, &*found.ignore, &*found.name), ("FROM scratch", "", "Containerfile"));
        for outside in ["Dockerfile", "../../etc/hostname", "/etc/hostname"] {
            assert!(place(true).dockerfile(Some(Path::new(outside))).is_err(), "{outside}");
        }
    }

    #[test]
    fn a_stream_is_an_archive_or_a_dockerfile() {
        let aside = tempfile::tempdir().unwrap();
        let place = unpacked(&b"FROM scratch\n"[..], &aside.path().join("a")).unwrap();
        assert_eq!(place.dockerfile(None).unwrap().1.text, "FROM scratch\n");
        std::fs::write(aside.path().join("Dockerfile"), "FROM").unwrap();
        let mut tar = std::process::Command::new("tar");
        let archive = tar.arg("-C").arg(aside.path()).args(["-c", "Dockerfile"]).output().unwrap().stdout;
        let place = unpacked(&archive[..], &aside.path().join("b")).unwrap();
        assert_eq!(place.dockerfile(None).unwrap().1.text, "FROM");
        assert!(unpacked(&b"\x1f\x8bnot gzip"[..], &aside.path().join("c")).is_err());
    }
}
