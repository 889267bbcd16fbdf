//! The files every container of a pod gets: host name, hosts, name servers, and the shared memory that goes with the
//! pod's IPC namespace.

use super::paths::Paths;
use super::records::SandboxRecord;
use super::spec::PodFiles;
use anyhow::Context;
use knarr_cri::{Status, v1};
use knarr_sys::mount;
use std::path::Path;

/// Bytes of a pod's /dev/shm, as other runtimes have it.
const SHM_SIZE: &str = "67108864";
/// The annotation of a pod that wants another number of them.
pub const SHM_SIZE_ANNOTATION: &str = "knarr.dev/shm-size";

/// Where they are. With the host's IPC, shared memory is the host's too.
pub(crate) fn locate(paths: &Paths, sandbox: &SandboxRecord) -> PodFiles {
    let etc = paths.etc(&sandbox.id);
    PodFiles {
        hostname: etc.join("hostname"),
        hosts: etc.join("hosts"),
        resolv_conf: etc.join("resolv.conf"),
        shm: if sandbox.host_ipc() { "/dev/shm".into() } else { paths.shm(&sandbox.id) },
    }
}

/// The name the pod's processes see; the host's own for a pod in the host's network.
pub(crate) fn hostname(sandbox: &SandboxRecord) -> String {
    if sandbox.config.hostname.is_empty() || sandbox.host_network() {
        return rustix::system::uname().nodename().to_string_lossy().into_owned();
    }
    sandbox.config.hostname.clone()
}

/// Writes the files and mounts the shared memory.
pub(crate) fn make(paths: &Paths, sandbox: &SandboxRecord) -> anyhow::Result<()> {
    let files = locate(paths, sandbox);
    std::fs::create_dir_all(paths.etc(&sandbox.id))?;
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).with_context(|| format!("writing {}", path.display()))
    };
    write(&files.hostname, format!("{}\n", hostname(sandbox)))?;
    write(&files.hosts, std::fs::read_to_string("/etc/hosts").unwrap_or_default())?;
    let resolv_conf = match &sandbox.config.dns_config {
        Some(dns) if *dns != v1::DnsConfig::default() => resolv_conf(dns),
        _ => std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(),
    };
    write(&files.resolv_conf, resolv_conf)?;
    let size = sandbox.config.annotations.get(SHM_SIZE_ANNOTATION).map_or(SHM_SIZE, String::as_str);
    if sandbox.host_ipc() { Ok(()) } else { mount_shm(&files.shm, size) }
}

fn mount_shm(target: &Path, size: &str) -> anyhow::Result<()> {
    std::fs::create_dir_all(target)?;
    let context = mount::FsContext::open("tmpfs")?;
    context.set("source", "shm")?;
    context.set("mode", "1777")?;
    context.set("size", size)?;
    let detached = context.create(mount::attr::NOSUID | mount::attr::NODEV | mount::attr::NOEXEC)?;
    mount::move_to_path(&detached, target).context("mounting the pod's /dev/shm")
}

/// Removes what `make` made; fine if it is gone.
pub(crate) fn remove(paths: &Paths, sandbox_id: &str) -> anyhow::Result<()> {
    let shm = paths.shm(sandbox_id);
    mount::unmount_all(&shm)?;
    for directory in [shm, paths.etc(sandbox_id), paths.namespaces(sandbox_id)] {
        match std::fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", directory.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn resolv_conf(dns: &v1::DnsConfig) -> String {
    let mut text = String::new();
    if !dns.searches.is_empty() {
        text.push_str(&format!("search {}\n", dns.searches.join(" ")));
    }
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.options.is_empty() {
        text.push_str(&format!("options {}\n", dns.options.join(" ")));
    }
    text
}

/// Refuses names that would write lines of their own into the files.
pub(crate) fn check(config: &v1::PodSandboxConfig) -> Result<(), Status> {
    let one_word =
        |text: &String| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    if config.hostname.len() > 64 || !(config.hostname.is_empty() || one_word(&config.hostname)) {
        return Err(Status::invalid_argument(format!("hostname {:?} is not valid", config.hostname)));
    }
    let dns = config.dns_config.clone().unwrap_or_default();
    for (field, values) in [("servers", &dns.servers), ("searches", &dns.searches), ("options", &dns.options)]
    {
        if let Some(bad) = values.iter().find(|value| !one_word(value)) {
            return Err(Status::invalid_argument(format!("dns_config.{field}: {bad:?} is not valid")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn dns_is_written_as_the_resolver_reads_it() {
        let dns = v1::DnsConfig {
            servers: words(&["10.96.0.10", "8.8.8.8"]),
            searches: words(&["a.svc", "svc"]),
            options: words(&["ndots:5"]),
        };
        let expected = "search a.svc svc\nnameserver 10.96.0.10\nnameserver 8.8.8.8\noptions ndots:5\n";
        assert_eq!(resolv_conf(&dns), expected);
    }

    #[test]
    fn nothing_can_smuggle_in_a_line() {
        let dns = v1::DnsConfig { servers: words(&["1.1.1.1\nnameserver 6.6.6.6"]), ..Default::default() };
        let config = v1::PodSandboxConfig { dns_config: Some(dns), ..Default::default() };
        assert!(check(&config).unwrap_err().message().contains("dns_config.servers"));
        let config = v1::PodSandboxConfig { hostname: "a b".into(), ..Default::default() };
        assert!(check(&config).unwrap_err().message().contains("hostname"));
        assert!(check(&v1::PodSandboxConfig::default()).is_ok());
    }
}
