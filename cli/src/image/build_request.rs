//! What the command line asks of a build: context, Dockerfile, `.dockerignore`, secrets, agents, arguments.

use crate::args::{Build as Arguments, BuildLimits};
use crate::standalone::plan::{limits::ulimit, sizes};
use anyhow::{Context, anyhow, bail, ensure};
use knarr_images::{BuildContext, BuildRequest, Files, Image, ImageStore, Network, Platform, RunLimits};
use std::collections::BTreeMap;
use std::io::{BufReader, Read};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Reads everything that a build needs; `aside` is an empty directory for a context that comes as an archive.
pub(super) fn of(store: &ImageStore, arguments: &Arguments, aside: &Path) -> anyhow::Result<BuildRequest> {
    let from_stdin = arguments.context == Path::new("-");
    let context = if from_stdin { aside.to_owned() } else { arguments.context.clone() };
    check_context(&context)?;
    let given = if from_stdin { stdin_context(aside)? } else { None };
    let file = match &arguments.file {
        // In a context that came as an archive, it is one of its files.
        Some(file) if from_stdin && given.is_none() => context.join(file),
        Some(file) => file.clone(),
        None if given.is_some() => PathBuf::from("-"),
        None => default_file(&context),
    };
    let build_args = build_arguments(&arguments.build_arg)?;
    let epoch =
        build_args.get("SOURCE_DATE_EPOCH").cloned().or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok());
    let epoch = epoch.filter(|text| !text.is_empty());
    Ok(BuildRequest {
        dockerfile: match given {
            Some(text) => text,
            None => read_dockerfile(&file)?,
        },
        ignore: read_ignore(&file, &context)?,
        file: match file.file_name().unwrap_or_default().to_string_lossy() {
            name if name == "-" => "Dockerfile".to_owned(),
            name => name.into_owned(),
        },
        context,
        tags: arguments.tag.clone(),
        arguments: build_args,
        secrets: arguments.secret.iter().map(|text| secret(text)).collect::<anyhow::Result<_>>()?,
        ssh: arguments.ssh.iter().map(|text| agent(text)).collect::<anyhow::Result<_>>()?,
        contexts: arguments
            .build_context
            .iter()
            .map(|text| context_of(text, |place| layout(store, place, arguments.platform.as_deref())))
            .collect::<anyhow::Result<_>>()?,
        hosts: arguments.add_host.iter().map(|text| host(text)).collect::<anyhow::Result<_>>()?,
        no_cache_stages: arguments.no_cache_filter.iter().map(|name| name.to_ascii_lowercase()).collect(),
        limits: limits(&arguments.limits)?,
        annotations: arguments
            .annotation
            .iter()
            .map(|text| annotation(text))
            .collect::<anyhow::Result<_>>()?,
        labels: arguments.label.iter().map(|text| pair(text)).collect(),
        target: arguments.target.clone(),
        platform: arguments.platform.clone(),
        no_cache: arguments.no_cache,
        network: match arguments.network.as_str() {
            "host" | "default" => Network::Host,
            "none" => Network::None,
            other => bail!("--network {other}: not known; host or none"),
        },
        source_date_epoch: epoch
            .map(|text| text.parse().map_err(|_| anyhow!("invalid SOURCE_DATE_EPOCH: {text}")))
            .transpose()?,
    })
}

/// What comes on stdin: an archive, which is unpacked, or a Dockerfile, which is answered.
fn stdin_context(aside: &Path) -> anyhow::Result<Option<String>> {
    let mut stdin = BufReader::with_capacity(1 << 16, std::io::stdin().lock());
    let mut start = Vec::new();
    stdin.by_ref().take(512).read_to_end(&mut start).context("read stdin")?;
    let packed = [&b"\x1f\x8b"[..], b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd"];
    let is_archive =
        start.get(257..262) == Some(b"ustar") || packed.iter().any(|magic| start.starts_with(magic));
    let mut whole = std::io::Cursor::new(start).chain(stdin);
    if is_archive {
        Files::open(aside)?.import(&mut whole).context("the context on stdin")?;
        return Ok(None);
    }
    let mut text = String::new();
    whole.read_to_string(&mut text).context("read the Dockerfile from stdin")?;
    Ok(Some(text))
}

fn check_context(context: &Path) -> anyhow::Result<()> {
    let text = context.to_string_lossy();
    if ["http://", "https://", "git://", "git@"].iter().any(|scheme| text.starts_with(scheme)) {
        bail!("{text}: remote contexts are not supported yet; a directory is");
    }
    let found = std::fs::metadata(context);
    if !found.with_context(|| format!("unable to prepare context: path {text:?}"))?.is_dir() {
        bail!("unable to prepare context: {text:?} is not a directory");
    }
    Ok(())
}

/// `Dockerfile`, else `dockerfile`, else `Containerfile`.
fn default_file(context: &Path) -> PathBuf {
    let names = ["Dockerfile", "dockerfile", "Containerfile"].map(|name| context.join(name));
    names.iter().find(|file| file.exists()).unwrap_or(&names[0]).clone()
}

fn read_dockerfile(file: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes).context("read the Dockerfile from stdin")?;
    } else {
        bytes = std::fs::read(file)
            .with_context(|| format!("failed to read dockerfile: open {}", file.display()))?;
    }
    String::from_utf8(bytes).map_err(|_| anyhow!("{}: not UTF-8", file.display()))
}

/// `DOCKERFILE.dockerignore` wins over the context's own.
fn read_ignore(file: &Path, context: &Path) -> anyhow::Result<String> {
    let mut own = file.as_os_str().to_owned();
    own.push(".dockerignore");
    for path in [PathBuf::from(own), context.join(".dockerignore"), context.join(".containerignore")] {
        match std::fs::read(&path) {
            Ok(bytes) => return Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        }
    }
    Ok(String::new())
}

fn limits(given: &BuildLimits) -> anyhow::Result<RunLimits> {
    let share = &given.share;
    let size = |flag: &str, text: &Option<String>| match text.as_deref() {
        None => Ok(None),
        Some("-1") if flag == "memory-swap" => Ok(Some(-1)),
        Some(text) => sizes::named(flag, text).map(Some),
    };
    let positive = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
    Ok(RunLimits {
        shm_size: positive(size("shm-size", &given.shm_size)?),
        ulimits: given.ulimit.iter().map(|text| ulimit(text)).collect::<anyhow::Result<_>>()?,
        memory: size("memory", &share.memory)?,
        // Without a limit of the memory it limits nothing.
        memory_swap: size("memory-swap", &share.memory_swap)?.filter(|_| share.memory.is_some()),
        cpu_shares: positive(share.cpu_shares),
        cpu_period: positive(share.cpu_period),
        cpu_quota: share.cpu_quota,
        cpuset_cpus: share.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: share.cpuset_mems.clone().unwrap_or_default(),
        cgroup_parent: given.cgroup_parent.clone().unwrap_or_default(),
    })
}

/// `[manifest:]NAME=VALUE`, in BuildKit's words; what only an index has is not for an image.
fn annotation(text: &str) -> anyhow::Result<(String, String)> {
    let (name, value) =
        text.split_once('=').with_context(|| format!("invalid annotation {text:?}, expected key=value"))?;
    let name = match name.split_once(':') {
        Some((kind, name)) if kind.split(',').any(|kind| kind == "manifest") => name,
        Some(("index" | "manifest-descriptor" | "index-descriptor", _)) => {
            bail!("--annotation {text}: only manifests have annotations here")
        }
        _ => name,
    };
    ensure!(!name.is_empty(), "invalid annotation {text:?}, expected key=value");
    Ok((name.to_owned(), value.to_owned()))
}

fn pair(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.to_owned(), value.to_owned())
}

/// `NAME=VALUE`; a NAME alone has this process' own value, if there is one.
fn build_arguments(given: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let mut arguments = BTreeMap::new();
    for text in given {
        match text.split_once('=') {
            Some(("", _)) => bail!("--build-arg {text}: the name is empty"),
            Some((name, value)) => drop(arguments.insert(name.to_owned(), value.to_owned())),
            None => arguments.extend(std::env::var(text).ok().map(|value| (text.clone(), value))),
        }
    }
    Ok(arguments)
}

/// `id=NAME[,src=FILE|,env=VARIABLE]`; without a source the variable of that name, else the file of that name.
fn secret(text: &str) -> anyhow::Result<(String, Vec<u8>)> {
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(PathBuf::from(value)),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", _)) => {}
            _ => bail!("--secret {text}: {field:?} is not known; id=NAME[,src=FILE|,env=VARIABLE]"),
        }
    }
    let id = id.with_context(|| format!("--secret {text}: id is missing"))?;
    let value = match (file, variable) {
        (Some(file), _) => {
            std::fs::read(&file).with_context(|| format!("--secret {text}: {}", file.display()))?
        }
        (None, Some(name)) => {
            std::env::var(&name).with_context(|| format!("--secret {text}: {name}"))?.into_bytes()
        }
        (None, None) => match std::env::var(&id) {
            Ok(value) => value.into_bytes(),
            Err(_) => std::fs::read(&id).with_context(|| format!("--secret {text}: {id}"))?,
        },
    };
    Ok((id, value))
}

/// `default`, `ID`, `ID=SOCKET`: without a socket, the one of this shell.
fn agent(text: &str) -> anyhow::Result<(String, PathBuf)> {
    let (id, socket) = text.split_once('=').map_or((text, None), |(id, socket)| (id, Some(socket)));
    let own = || std::env::var("SSH_AUTH_SOCK").ok().filter(|path| !path.is_empty());
    let socket = socket.map(str::to_owned).or_else(own);
    let socket = socket.with_context(|| {
        format!("--ssh {text}: invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set")
    })?;
    let path = std::path::absolute(&socket)?;
    let found = std::fs::metadata(&path).with_context(|| format!("--ssh {text}: {}", path.display()))?;
    ensure!(
        found.file_type().is_socket(),
        "--ssh {text}: {}: only sockets of agents are supported",
        path.display()
    );
    Ok((id.to_owned(), path))
}

/// `NAME=DIRECTORY`, `NAME=docker-image://IMAGE`, `NAME=oci-layout://DIRECTORY[:TAG][@DIGEST]`.
fn context_of(
    text: &str,
    layout: impl FnOnce(&str) -> anyhow::Result<Image>,
) -> anyhow::Result<(String, BuildContext)> {
    let (name, place) =
        text.split_once('=').with_context(|| format!("invalid context value: {text}, expected key=value"))?;
    if let Some(image) = place.strip_prefix("docker-image:") {
        let image = image.trim_start_matches('/');
        return Ok((name.to_owned(), BuildContext::Image(image.to_owned())));
    }
    if let Some(place) = place.strip_prefix("oci-layout:") {
        let image = layout(place.strip_prefix("//").unwrap_or(place));
        let image = image.with_context(|| format!("--build-context {text}"))?;
        return Ok((name.to_owned(), BuildContext::Image(image.id)));
    }
    check_context(Path::new(place)).with_context(|| format!("--build-context {text}"))?;
    Ok((name.to_owned(), BuildContext::Directory(std::path::absolute(place)?)))
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

/// `NAME:IP` or `NAME=IP`.
fn host(text: &str) -> anyhow::Result<(String, String)> {
    let parts = text.split_once(['=', ':']).filter(|(name, _)| !name.is_empty());
    let (name, address) = parts.with_context(|| format!("bad format for add-host: {text:?}"))?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = match address {
        "host-gateway" => Ipv4Addr::LOCALHOST.into(),
        address => address.parse().map_err(|_| anyhow!("invalid IP address in add-host: {address:?}"))?,
    };
    Ok((name.to_owned(), address.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_name_their_source() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret").unwrap();
        let (id, value) = secret(&format!("id=x,src={}", file.path().display())).unwrap();
        assert_eq!((id.as_str(), &value[..]), ("x", &b"s3cret"[..]));
        for wrong in ["src=/etc/passwd", "id=x,nope=1", "id=x,env=KNARR_NOT_SET"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn build_arguments_need_a_name() {
        assert_eq!(build_arguments(&["a=b=c".into()]).unwrap()["a"], "b=c");
        assert!(build_arguments(&["=b".into()]).is_err());
        assert!(build_arguments(&["KNARR_NOT_SET".into()]).unwrap().is_empty());
    }

    #[test]
    fn names_and_hosts() {
        let context_of = |text| context_of(text, |place| bail!("no layout {place}"));
        let (name, place) = context_of("base=docker-image://alpine:3").unwrap();
        assert_eq!((name.as_str(), place), ("base", BuildContext::Image("alpine:3".into())));
        assert_eq!(context_of("src=/").unwrap().1, BuildContext::Directory("/".into()));
        assert!(context_of("src").is_err() && context_of("src=/no/such/place").is_err());
        assert!(
            format!("{:#}", context_of("a=oci-layout:///b:c@d").unwrap_err()).contains("no layout /b:c@d")
        );
        assert_eq!(host("a:1.2.3.4").unwrap(), ("a".into(), "1.2.3.4".into()));
        assert_eq!(host("a=[::1]").unwrap(), ("a".into(), "::1".into()));
        assert!(host("a").is_err() && host("a:b").is_err() && host(":1.2.3.4").is_err());
        assert!(agent("x=/etc/passwd").is_err());
    }
}
