//! A container's own `/etc/hosts`, in Docker's order.

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
