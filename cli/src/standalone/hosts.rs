//! A container's own `/etc/hosts`, in Docker's order.

use super::Standalone;
use super::facts::Facts;
use super::network::{self, End};
use super::networks::membership::{Membership, SHARED};
use super::networks::names::hostname as hostname_of;
use crate::settings::Settings;
use anyhow::{Context, bail};
use std::fmt::Write;
use std::net::IpAddr;

const FIRST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n\
                     ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n";

/// What is known about the container's network.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// Its host name; empty in the host's network, whose own file it then gets.
    pub(super) hostname: &'a str,
    /// What `host-gateway` stands for.
    pub(super) gateway: &'a str,
    /// `--add-host`: `NAME:IP` or `NAME=IP`.
    pub(super) more: &'a [String],
}

/// The file without the container's own address; `host` is this machine's own.
pub(super) fn text(names: &Names<'_>, host: &str) -> anyhow::Result<String> {
    let mut text = if names.hostname.is_empty() { host.to_owned() } else { FIRST.to_owned() };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in names.more {
        let (name, ip) = line
            .split_once('=')
            .or_else(|| line.split_once(':'))
            .with_context(|| format!("bad format for add-host: \"{line}\""))?;
        let ip = if ip == "host-gateway" { names.gateway } else { ip.trim_matches(['[', ']']) };
        if ip.parse::<IpAddr>().is_err() {
            bail!("invalid IP address in add-host: \"{ip}\"");
        }
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bail!("bad format for add-host: \"{line}\"");
        }
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{ip}\t{name}");
    }
    Ok(text)
}

/// Writes the container's `/etc/hosts`, if that is ours, with the addresses that it has now and the names of the others.
pub(super) async fn write(place: &Standalone, sandbox_id: &str, hostname: &str) -> anyhow::Result<()> {
    let (file, base) = place.hosts_files();
    let Ok(base) = std::fs::read_to_string(base) else { return Ok(()) };
    let ends = network::of(&place.settings, &place.place, sandbox_id)?;
    let addresses: Vec<String> =
        ends.iter().flat_map(End::addresses).map(|address| address.to_string()).collect();
    let names = match &hostname_of(place.data_dir())[..] {
        [] => hostname.to_owned(),
        names => names.join(" "),
    };
    let mut text = base + &own_lines(&addresses, &names);
    for end in &ends {
        text += &linked(place, end).await?;
    }
    for names in network::names(&place.settings, place.data_dir())? {
        text += &names.others(&place.place.directory)?;
    }
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))
}

/// Fails where a container that another one is to be linked to is not there.
pub(super) async fn check_links(settings: &Settings, all: &[Membership]) -> anyhow::Result<()> {
    for (other, _) in all.iter().flat_map(|membership| &membership.links) {
        let found = Standalone::find(settings, other).await;
        found.with_context(|| format!("could not get container for {other}"))?;
    }
    Ok(())
}

/// The lines of those it is linked to. On the bridge of all, where nothing else has a name, they have to run.
async fn linked(place: &Standalone, end: &End) -> anyhow::Result<String> {
    let mut lines = String::new();
    for (other, alias) in &end.membership.links {
        let facts = match Standalone::find(&place.settings, other).await {
            Ok(other) => Facts::of(&other).await?,
            Err(_) => None,
        };
        let network = &end.membership.network;
        let same = |facts: &Facts| {
            facts.ends.iter().find(|other| other.membership.network == *network).map(End::addresses)
        };
        let addresses = facts.as_ref().filter(|facts| facts.pid() != 0).and_then(same).unwrap_or_default();
        let Some(facts) = facts.filter(|_| !addresses.is_empty()) else {
            if network == SHARED {
                bail!("Cannot link to a non running container: /{other} AS /{}/{alias}", place.name());
            }
            continue;
        };
        let id: String = facts.status.id.chars().take(12).collect();
        for address in addresses {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{address}\t{alias} {id} {}", facts.name);
        }
    }
    Ok(lines)
}

/// The lines of the container's own addresses, which change with every start; none without a network of its own.
pub(super) fn own_lines(addresses: &[String], hostname: &str) -> String {
    let lines = addresses.iter().filter(|_| !hostname.is_empty());
    lines.map(|address| format!("{address}\t{hostname}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_after_localhost() {
        let more = ["a:1.2.3.4".to_owned(), "gw=host-gateway".to_owned(), "six:::1".to_owned()];
        let names = Names { hostname: "c", gateway: "10.0.0.1", more: &more };
        let text = text(&names, "host\n").unwrap();
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("1.2.3.4\ta\n10.0.0.1\tgw\n::1\tsix\n"), "{text}");
        let both = ["10.0.0.2".to_owned(), "fd00::2".to_owned()];
        assert_eq!(own_lines(&both, "c"), "10.0.0.2\tc\nfd00::2\tc\n");
        assert_eq!(own_lines(&[], "c") + &own_lines(&both, ""), "");
    }

    #[test]
    fn the_hosts_own_file_stays() {
        let names = Names { gateway: "127.0.0.1", ..Names::default() };
        assert_eq!(text(&names, "1.1.1.1 x").unwrap(), "1.1.1.1 x\n");
        for wrong in ["a", "a:b", "a b:1.1.1.1", ":1.1.1.1"] {
            assert!(text(&Names { more: &[wrong.to_owned()], ..Names::default() }, "").is_err(), "{wrong}");
        }
    }
}
