//! What the command line asks of a build: secrets, agents, arguments, limits, names.

use super::build_context::{self, Lent};
use crate::args::{Build as Arguments, BuildLimits};
use crate::standalone::plan::{limits::ulimit, sizes};
use anyhow::{Context, anyhow, bail, ensure};
use knarr_images::{BuildRequest, ImageStore, Network, RunLimits};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// Reads everything that a build needs; `aside` is an empty directory for contexts that are not here yet.
pub(super) async fn of(
    store: &ImageStore,
    arguments: &Arguments,
    aside: &Path,
) -> anyhow::Result<BuildRequest> {
    let secrets = arguments.secret.iter().map(|text| secret(text)).collect::<anyhow::Result<_>>()?;
    let ssh = arguments.ssh.iter().map(|text| agent(text)).collect::<anyhow::Result<_>>()?;
    let lent = Lent { secrets: &secrets, ssh: &ssh };
    let contexts = build_context::named(store, arguments, &lent, aside).await?;
    let place = build_context::place(store, arguments, &lent, aside).await?;
    let (context, dockerfile) = place.dockerfile(arguments.file.as_deref())?;
    let build_args = build_arguments(&arguments.build_arg)?;
    let epoch =
        build_args.get("SOURCE_DATE_EPOCH").cloned().or_else(|| std::env::var("SOURCE_DATE_EPOCH").ok());
    let epoch = epoch.filter(|text| !text.is_empty());
    Ok(BuildRequest {
        dockerfile: dockerfile.text,
        ignore: dockerfile.ignore,
        file: dockerfile.name,
        context,
        secrets,
        ssh,
        contexts,
        tags: arguments.tag.clone(),
        arguments: build_args,
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
    fn hosts_and_agents() {
        assert_eq!(host("a:1.2.3.4").unwrap(), ("a".into(), "1.2.3.4".into()));
        assert_eq!(host("a=[::1]").unwrap(), ("a".into(), "::1".into()));
        assert!(host("a").is_err() && host("a:b").is_err() && host(":1.2.3.4").is_err());
        assert!(agent("x=/etc/passwd").is_err());
    }
}
