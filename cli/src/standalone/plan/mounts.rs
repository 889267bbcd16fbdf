//! `--volume`, `--mount` and `--tmpfs` as wishes; what has to exist for them is made later.

use crate::args::CreateOptions;
use anyhow::{Context, bail};
use knarr_agent::cri::v1::MountPropagation;
use std::path::{Component, Path, PathBuf};

/// Something to be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::standalone) enum Wish {
    /// A path of this machine; `--volume` makes a directory where nothing is, `--mount` if it is told to.
    Path { source: PathBuf, make: bool, at: At },
    /// A volume by name, or a new one without.
    Volume { name: Option<String>, fill: bool, at: At },
    /// A file system in memory.
    Memory { target: String, options: Vec<String> },
    /// What an image holds, or a directory of it.
    Image { image: String, sub_path: String, at: At },
}

/// Where and how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::standalone) struct At {
    pub(in crate::standalone) target: String,
    pub(in crate::standalone) read_only: bool,
    /// Read-only itself alone, not what is mounted below it.
    pub(in crate::standalone) writable_below: bool,
    /// Read-only with what is mounted below it, or not at all.
    pub(in crate::standalone) read_only_below: bool,
    /// Without what is mounted below it.
    pub(in crate::standalone) alone: bool,
    /// As CRI numbers it.
    pub(in crate::standalone) propagation: i32,
    /// The part of the volume that is shown; all of it where empty.
    pub(in crate::standalone) sub_path: String,
}

pub(in crate::standalone) const PRIVATE: i32 = MountPropagation::PropagationPrivate as i32;

/// Everything that the options ask for.
pub(super) fn wishes(options: &CreateOptions) -> anyhow::Result<Vec<Wish>> {
    let mut all = Vec::new();
    for text in &options.volume {
        all.push(volume(text).with_context(|| format!("invalid volume specification: '{text}'"))?);
    }
    for text in &options.mount {
        all.push(mount(text).with_context(|| format!("invalid argument \"{text}\" for \"--mount\" flag"))?);
    }
    for text in &options.tmpfs {
        all.push(tmpfs(text).with_context(|| format!("--tmpfs {text}"))?);
    }
    let mut targets: Vec<&str> = all.iter().map(Wish::target).collect();
    targets.sort_unstable();
    if let Some(pair) = targets.windows(2).find(|pair| pair[0] == pair[1]) {
        bail!("Duplicate mount point: {}", pair[0]);
    }
    Ok(all)
}

/// What `--volumes-from` brings besides them; the user's own mounts, and the first container's, come first.
pub(super) fn with_inherited(mut wishes: Vec<Wish>, inherited: Vec<Wish>) -> Vec<Wish> {
    for wish in inherited {
        if !wishes.iter().any(|known| known.target() == wish.target()) {
            wishes.push(wish);
        }
    }
    wishes
}

/// `CONTAINER[:MODE]`; answers whether it is to be read only.
pub(in crate::standalone) fn volumes_from(text: &str) -> anyhow::Result<(&str, bool)> {
    match text.split_once(':') {
        _ if text.is_empty() => bail!("invalid empty volume spec: '{text}'"),
        None => Ok((text, false)),
        Some((name, "ro")) => Ok((name, true)),
        Some((name, "rw" | "z" | "Z")) => Ok((name, false)),
        Some((_, mode)) => bail!("invalid mode: {mode}"),
    }
}

/// The image's volumes besides them: new ones, filled from the image, where the user has put nothing.
pub(super) fn with_volumes(mut wishes: Vec<Wish>, image: &[String]) -> Vec<Wish> {
    for target in image {
        let taken =
            wishes.iter().any(|wish| wish.target().trim_end_matches('/') == target.trim_end_matches('/'));
        if !taken && target.starts_with('/') && target != "/" {
            let at = At { target: target.clone(), ..At::default() };
            wishes.push(Wish::Volume { name: None, fill: true, at });
        }
    }
    wishes
}

impl Wish {
    /// Its place, and the part of the volume that is shown there.
    pub(in crate::standalone) fn sub_path(&self) -> Option<(String, String)> {
        let (Self::Path { at, .. } | Self::Volume { at, .. }) = self else { return None };
        (!at.sub_path.is_empty()).then(|| (at.target.clone(), at.sub_path.clone()))
    }

    pub(in crate::standalone) fn target(&self) -> &str {
        match self {
            Self::Path { at, .. } | Self::Volume { at, .. } | Self::Image { at, .. } => &at.target,
            Self::Memory { target, .. } => target,
        }
    }
}

/// `[SOURCE:]TARGET[:OPTIONS]`. A source that begins with a slash or a point is a path, else a volume's name.
fn volume(text: &str) -> anyhow::Result<Wish> {
    let fields: Vec<&str> = text.split(':').collect();
    if text.is_empty() {
        bail!("invalid empty volume spec");
    }
    if fields.contains(&"") {
        bail!("invalid spec: {text}: empty section between colons");
    }
    let (source, target, options) = match fields[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => bail!("invalid mount config: too many colons"),
    };
    let mut at = At { target: absolute(target)?, ..At::default() };
    let mut fill = true;
    for option in options.split(',') {
        match option {
            "ro" => at.read_only = true,
            "nocopy" => fill = false,
            // Labels of a security module that is not used here, and hints of other systems.
            "rw" | "" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            other => {
                at.propagation = propagation(other).with_context(|| format!("invalid mode: {options}"))?
            }
        }
    }
    if fields.len() == 1 {
        return Ok(Wish::Volume { name: None, fill, at });
    }
    if source.starts_with(['/', '.']) {
        return Ok(Wish::Path { source: std::path::absolute(source)?, make: true, at });
    }
    check_name(source)?;
    Ok(Wish::Volume { name: Some(source.to_owned()), fill, at })
}

/// The fields of `--mount` besides those of its place.
#[derive(Default)]
struct Fields {
    kind: String,
    source: String,
    /// Of a file system in memory.
    memory: Vec<String>,
    /// Of a volume.
    keep_empty: bool,
    /// Of an image.
    sub_path: String,
    /// Of a path: a directory is made where nothing is.
    make: bool,
    at: At,
}

fn mount(text: &str) -> anyhow::Result<Wish> {
    let mut fields = Fields { kind: "volume".to_owned(), ..Fields::default() };
    for field in text.split(',') {
        let (key, value) = field.split_once('=').unwrap_or((field, ""));
        if !fields.set(key, value)? {
            bail!("unexpected key '{key}' in '{field}'");
        }
    }
    let Fields { kind, source, mut memory, keep_empty, sub_path, make, at } = fields;
    check_recursion(&at)?;
    check_kind(&kind, text)?;
    match kind.as_str() {
        "bind" if source.is_empty() => bail!("source is required for a bind mount"),
        "bind" => Ok(Wish::Path { source: std::path::absolute(source)?, make, at }),
        "volume" if source.is_empty() => Ok(Wish::Volume { name: None, fill: !keep_empty, at }),
        "volume" => {
            check_name(&source)?;
            Ok(Wish::Volume { name: Some(source), fill: !keep_empty, at })
        }
        "image" if source.is_empty() => bail!("source is required for an image mount"),
        "image" => Ok(Wish::Image { image: source, sub_path, at }),
        "tmpfs" => {
            memory.extend(at.read_only.then(|| "ro".to_owned()));
            Ok(Wish::Memory { target: at.target, options: memory })
        }
        other => bail!("invalid mount type '{other}': bind, image, volume or tmpfs"),
    }
}

impl Fields {
    /// Answers whether there is such a field.
    fn set(&mut self, key: &str, value: &str) -> anyhow::Result<bool> {
        let flag = || match value {
            "" | "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            other => bail!("invalid value for {key}: {other}"),
        };
        match (key, value) {
            ("type", _) => value.clone_into(&mut self.kind),
            ("source" | "src", _) => value.clone_into(&mut self.source),
            ("target" | "destination" | "dst", _) => self.at.target = absolute(value)?,
            ("readonly" | "ro", _) => self.at.read_only = flag()?,
            ("volume-nocopy", _) => self.keep_empty = flag()?,
            ("bind-create-src", _) => self.make = flag()?,
            ("bind-propagation", _) => self.at.propagation = propagation(value)?,
            ("tmpfs-size", _) => self.memory.push(format!("size={value}")),
            ("tmpfs-mode", _) => self.memory.push(format!("mode={value}")),
            ("volume-subpath", _) => self.at.sub_path = inside(value)?,
            ("image-subpath", _) => value.clone_into(&mut self.sub_path),
            ("bind-recursive", "disabled") => self.at.alone = true,
            ("bind-recursive", "writable") => self.at.writable_below = true,
            ("bind-recursive", "readonly") => self.at.read_only_below = true,
            // Kernels that can do it do it, and volumes are directories of this machine.
            ("consistency", _) | ("bind-recursive", "enabled") | ("volume-driver", "local") => {}
            ("bind-nonrecursive", _) => self.at.alone = flag()?,
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Beneath the volume, whatever is there when it is mounted.
fn inside(sub_path: &str) -> anyhow::Result<String> {
    let stays = |part: Component| matches!(part, Component::Normal(_) | Component::CurDir);
    if !Path::new(sub_path).components().all(stays) {
        bail!("subpath must be a relative path within the volume");
    }
    Ok(sub_path.to_owned())
}

/// Fields whose names begin with a kind of mount are about that kind.
fn check_kind(kind: &str, text: &str) -> anyhow::Result<()> {
    for other in ["bind", "volume", "image", "tmpfs"].into_iter().filter(|other| *other != kind) {
        if text.split(',').any(|field| field.strip_prefix(other).is_some_and(|rest| rest.starts_with('-'))) {
            bail!("cannot mix '{other}-*' options with mount type '{kind}'");
        }
    }
    Ok(())
}

fn check_recursion(at: &At) -> anyhow::Result<()> {
    if at.target.is_empty() {
        bail!("target is required");
    }
    if at.read_only_below && !at.read_only {
        bail!("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction");
    }
    if at.read_only_below && at.propagation != PRIVATE {
        bail!(
            "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction"
        );
    }
    Ok(())
}

fn tmpfs(text: &str) -> anyhow::Result<Wish> {
    let (target, options) = text.split_once(':').unwrap_or((text, ""));
    let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
    Ok(Wish::Memory { target: absolute(target)?, options })
}

fn absolute(target: &str) -> anyhow::Result<String> {
    if !target.starts_with('/') {
        bail!("invalid mount path: '{target}' mount path must be absolute");
    }
    if target.trim_matches('/').is_empty() {
        bail!("invalid specification: destination can't be '/'");
    }
    Ok(target.to_owned())
}

fn propagation(word: &str) -> anyhow::Result<i32> {
    Ok(match word {
        "rprivate" | "private" => MountPropagation::PropagationPrivate,
        "rslave" | "slave" => MountPropagation::PropagationHostToContainer,
        "rshared" | "shared" => MountPropagation::PropagationBidirectional,
        other => bail!("option {other} is not known"),
    } as i32)
}

/// Docker's rule for names of volumes.
pub(in crate::standalone) fn check_name(name: &str) -> anyhow::Result<()> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    if name.len() < 2
        || name.len() > 200
        || !name.chars().all(legal)
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        bail!(
            "{name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_read_like_docker() {
        let at = |target: &str| At { target: target.into(), ..At::default() };
        assert_eq!(volume("/a:/b").unwrap(), Wish::Path { source: "/a".into(), make: true, at: at("/b") });
        let named = volume("data:/b:ro,z").unwrap();
        let read_only = At { read_only: true, ..at("/b") };
        assert_eq!(named, Wish::Volume { name: Some("data".into()), fill: true, at: read_only });
        assert_eq!(volume("/b").unwrap(), Wish::Volume { name: None, fill: true, at: at("/b") });
        assert!(matches!(volume("./x:/b").unwrap(), Wish::Path { .. }));
        for wrong in ["a:b", "x:/", "/a:/b:nope", "!x:/b", ":/b", "a:b:c:d", ""] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_inherited_stands_behind() {
        let user = vec![volume("/own:/data").unwrap()];
        let inherited =
            [volume("/a:/data").unwrap(), volume("/b:/more").unwrap(), volume("/c:/more").unwrap()];
        let all = with_inherited(user.clone(), inherited.to_vec());
        assert_eq!(all, [user[0].clone(), inherited[1].clone()]);
        assert_eq!(volumes_from("a").unwrap(), ("a", false));
        assert_eq!(volumes_from("a:ro").unwrap(), ("a", true));
        for wrong in ["", "a:", "a:rx"] {
            assert!(volumes_from(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn mounts_read_like_docker() {
        let made = mount("type=bind,src=/a,dst=/b,readonly,bind-propagation=rslave").unwrap();
        let Wish::Path { make: false, at, .. } = made else { panic!("{made:?}") };
        assert!(at.read_only && at.propagation == MountPropagation::PropagationHostToContainer as i32);
        let memory = mount("type=tmpfs,target=/t,tmpfs-size=1m").unwrap();
        assert_eq!(memory, Wish::Memory { target: "/t".into(), options: vec!["size=1m".into()] });
        let made = mount("type=bind,src=/a,dst=/b,bind-create-src").unwrap();
        assert!(matches!(made, Wish::Path { make: true, .. }));
        let writable = mount("type=bind,src=/a,dst=/b,ro,bind-recursive=writable").unwrap();
        assert!(matches!(writable, Wish::Path { at: At { writable_below: true, read_only: true, .. }, .. }));
        assert!(mount("type=bind,src=/a,dst=/b,bind-recursive=readonly").is_err());
        let alone = mount("type=bind,src=/a,dst=/b,bind-recursive=disabled").unwrap();
        assert!(matches!(alone, Wish::Path { at: At { alone: true, .. }, .. }));
        let image = mount("type=image,source=base:1,target=/i,image-subpath=bin").unwrap();
        let at = At { target: "/i".into(), ..At::default() };
        assert_eq!(image, Wish::Image { image: "base:1".into(), sub_path: "bin".into(), at });
        let part = mount("type=volume,src=data,dst=/b,volume-subpath=a/b").unwrap();
        assert!(matches!(part, Wish::Volume { at: At { sub_path, .. }, .. } if sub_path == "a/b"));
        for wrong in [
            "type=volume,src=data,dst=/b,volume-subpath=/a",
            "type=volume,src=data,dst=/b,volume-subpath=a/../../b",
            "type=bind,src=/a,dst=/b,volume-subpath=a",
            "src=data,dst=/b,bind-recursive=disabled",
            "type=bind,target=/x",
            "type=image,target=/x",
            "type=bind,src=/a,dst=/b,bind-recursive=no",
            "type=nfs,target=/x",
            "source=a",
            "target=/x,what=1",
        ] {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_image_has_its_volumes_where_the_user_has_nothing() {
        let user = vec![volume("/data").unwrap(), tmpfs("/mem").unwrap()];
        let image = ["/data/", "/mem", "/other", "relative", "/"].map(str::to_owned);
        let targets: Vec<String> =
            with_volumes(user, &image).iter().map(|wish| wish.target().to_owned()).collect();
        assert_eq!(targets, ["/data", "/mem", "/other"]);
    }
}
