//! `--publish`: `[IP:][HOST:]CONTAINER[/PROTOCOL]`, with ranges, and with a free port of the host where none is named.

use anyhow::{Context, bail};
use knarr_agent::cri::v1::{PortMapping, Protocol};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};

/// All mappings; a host port of 0 is still to be chosen.
pub(in crate::standalone) fn all(texts: &[String]) -> anyhow::Result<Vec<PortMapping>> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(published(text)?);
    }
    Ok(all)
}

fn published(text: &str) -> anyhow::Result<Vec<PortMapping>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => bail!("invalid proto: {protocol}"),
    };
    let (host_ip, ports) = match ports.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((ip, ports)) => (ip, ports),
        None => match ports.matches(':').count() {
            2 => ports.split_once(':').unwrap_or(("", ports)),
            _ => ("", ports),
        },
    };
    let host_ip = match host_ip {
        "" => String::new(),
        text => {
            let ip: IpAddr = text.parse().with_context(|| format!("invalid IP address: {text}"))?;
            ip.to_string()
        }
    };
    let (host, container) = ports.split_once(':').unwrap_or(("", ports));
    let containers = range(container).with_context(|| format!("invalid containerPort: {container}"))?;
    let hosts: Vec<u16> = match host {
        "" | "0" => vec![0; containers.len()],
        host => range(host).with_context(|| format!("invalid hostPort: {host}"))?.collect(),
    };
    if hosts.len() != containers.len() {
        bail!("invalid ranges specified for container and host Ports: {container} and {host}");
    }
    let mapping = |(host, container): (u16, u16)| PortMapping {
        protocol: protocol as i32,
        container_port: container.into(),
        host_port: host.into(),
        host_ip: host_ip.clone(),
    };
    Ok(hosts.into_iter().zip(containers).map(mapping).collect())
}

/// The ways in which a range of the host's ports for one port of the container can be meant; none where there is no such
/// range.
pub(in crate::standalone) fn choices(text: &str) -> Vec<String> {
    let (ports, protocol) =
        text.split_once('/').map_or((text, String::new()), |(ports, rest)| (ports, format!("/{rest}")));
    let Some((outside, container)) = ports.rsplit_once(':') else { return Vec::new() };
    let (ip, hosts) =
        outside.rsplit_once(':').map_or((String::new(), outside), |(ip, hosts)| (format!("{ip}:"), hosts));
    match range(hosts) {
        Some(hosts) if hosts.len() > 1 && !container.contains('-') => {
            hosts.map(|host| format!("{ip}{host}:{container}{protocol}")).collect()
        }
        _ => Vec::new(),
    }
}

/// Some port is in both.
pub(in crate::standalone) fn overlap(some: &[PortMapping], others: &[PortMapping]) -> bool {
    let any = |ip: &str| matches!(ip, "" | "0.0.0.0" | "::");
    some.iter().any(|one| {
        others.iter().any(|other| {
            one.host_port == other.host_port
                && one.protocol == other.protocol
                && (one.host_ip == other.host_ip || any(&one.host_ip) || any(&other.host_ip))
        })
    })
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

/// `--expose`: fails for what is no port or range of them.
pub(in crate::standalone) fn check_exposed(texts: &[String]) -> anyhow::Result<()> {
    for text in texts {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        if ports.contains(':') {
            bail!("invalid port format for --expose: {text}");
        }
        if range(ports).is_none() || !["tcp", "udp", "sctp"].contains(&protocol.to_ascii_lowercase().as_str())
        {
            bail!("invalid range format for --expose: {text}");
        }
    }
    Ok(())
}

/// Takes a port that nobody listens at, for each that was not named.
pub(super) fn choose_free(ports: &mut [PortMapping]) -> anyhow::Result<()> {
    for port in ports.iter_mut().filter(|port| port.host_port == 0) {
        let ip = address(port)?;
        let free = match port.protocol() {
            Protocol::Udp => UdpSocket::bind((ip, 0))?.local_addr()?,
            Protocol::Tcp | Protocol::Sctp => TcpListener::bind((ip, 0))?.local_addr()?,
        };
        port.host_port = free.port().into();
    }
    Ok(())
}

/// The address of the host; any of IPv4 where none is named.
pub(in crate::standalone) fn address(port: &PortMapping) -> anyhow::Result<IpAddr> {
    match port.host_ip.as_str() {
        "" => Ok(Ipv4Addr::UNSPECIFIED.into()),
        text => text.parse().with_context(|| format!("invalid IP address: {text}")),
    }
}

/// A port without an address is published at all of them: those of IPv4, and those of IPv6 where containers have it.
pub(super) fn for_families(ports: Vec<PortMapping>, second: bool) -> anyhow::Result<Vec<PortMapping>> {
    let mut all = Vec::new();
    for port in ports {
        if address(&port)? == Ipv6Addr::LOCALHOST {
            bail!(
                "--publish {}: the kernel takes no answers to ::1 from another link; 127.0.0.1 can be published",
                outside(&port)
            );
        }
        if !second && address(&port)?.is_ipv6() {
            bail!(
                "--publish {}: containers have no IPv6 addresses here (run_network.pod_cidr_v6 is not set)",
                outside(&port)
            );
        }
        let families = match (port.host_ip.as_str(), second) {
            ("", true) => &["0.0.0.0", "::"][..],
            ("", false) => &["0.0.0.0"],
            _ => &[""],
        };
        all.extend(families.iter().map(|family| match *family {
            "" => port.clone(),
            family => PortMapping { host_ip: family.to_owned(), ..port.clone() },
        }));
    }
    Ok(all)
}

/// The name of a mapping's container side: `80/tcp`.
fn inside(port: &PortMapping) -> String {
    let protocol = match port.protocol() {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("{}/{protocol}", port.container_port)
}

fn host_ip(port: &PortMapping) -> &str {
    if port.host_ip.is_empty() { "0.0.0.0" } else { &port.host_ip }
}

/// The host's side: `0.0.0.0:8080`, `[::]:8080`.
fn outside(port: &PortMapping) -> String {
    joined(host_ip(port), &port.host_port.to_string())
}

/// Address and port, with brackets around what has colons itself.
pub(in crate::standalone) fn joined(host: &str, port: &str) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// `0.0.0.0:8080->80/tcp, [::]:8080->80/tcp, ...`
pub(super) fn shown(ports: &[PortMapping]) -> String {
    let shown = ports.iter().map(|port| format!("{}->{}", outside(port), inside(port)));
    shown.collect::<Vec<_>>().join(", ")
}

/// As `docker inspect` has them: `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
pub(super) fn bindings(ports: &[PortMapping]) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for port in ports {
        let binding = json!({"HostIp": host_ip(port), "HostPort": port.host_port.to_string()});
        match all.entry(inside(port)).or_insert_with(|| json!([])) {
            Value::Array(list) => list.push(binding),
            other => *other = json!([binding]),
        }
    }
    Value::Object(all)
}

/// What `bindings` describes.
pub(in crate::standalone) fn of_bindings(document: &Value) -> Vec<PortMapping> {
    let mut ports = Vec::new();
    for (name, list) in document.as_object().into_iter().flatten() {
        let (port, protocol) = name.split_once('/').unwrap_or((name, "tcp"));
        for binding in list.as_array().into_iter().flatten() {
            let (ip, host) = (binding["HostIp"].as_str(), binding["HostPort"].as_str());
            let host = joined(ip.unwrap_or_default(), host.unwrap_or_default());
            let text = format!("{host}:{port}/{protocol}");
            ports.extend(published(&text).unwrap_or_default());
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_for_one_port_is_a_choice() {
        assert_eq!(choices("0.0.0.0:7000-7001:80/udp"), ["0.0.0.0:7000:80/udp", "0.0.0.0:7001:80/udp"]);
        assert_eq!(choices("[::1]:7000-7001:80"), ["[::1]:7000:80", "[::1]:7001:80"]);
        assert_eq!(choices("7000-7001:80"), ["7000:80", "7001:80"]);
        for none in ["80", "8080:80", "7000-7001:80-81", "80-81", "127.0.0.1::80"] {
            assert!(choices(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn ports_read_like_docker() {
        let one = |text: &str| {
            let mapping = published(text).unwrap().remove(0);
            (mapping.host_ip.clone(), mapping.host_port, mapping.container_port, inside(&mapping))
        };
        assert_eq!(one("127.0.0.1:8080:80/udp"), ("127.0.0.1".into(), 8080, 80, "80/udp".into()));
        assert_eq!(one("8080:80"), (String::new(), 8080, 80, "80/tcp".into()));
        assert_eq!(one("80"), (String::new(), 0, 80, "80/tcp".into()));
        assert_eq!(one("127.0.0.1::80"), ("127.0.0.1".into(), 0, 80, "80/tcp".into()));
        assert_eq!(one("127.0.0.1:0:80"), ("127.0.0.1".into(), 0, 80, "80/tcp".into()));
        assert_eq!(one("[::1]:8080:80"), ("::1".into(), 8080, 80, "80/tcp".into()));
        assert_eq!(one("[0::0]::80/udp"), ("::".into(), 0, 80, "80/udp".into()));
        let ranges = published("3000-3002:4000-4002").unwrap();
        assert_eq!((ranges.len(), ranges[2].host_port, ranges[2].container_port), (3, 3002, 4002));
        for wrong in
            ["80:http", "80:80/icmp", "nowhere:80:80", "1-2:3", "70000", "[::1:80:80", "[x]:80:80", ""]
        {
            assert!(published(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_are_exposed_like_docker() {
        let check = |text: &str| check_exposed(&[text.to_owned()]).map_err(|error| error.to_string());
        assert!(check("80").is_ok() && check("80-90/udp").is_ok());
        assert_eq!(check("x"), Err("invalid range format for --expose: x".to_owned()));
        assert_eq!(check("1:2"), Err("invalid port format for --expose: 1:2".to_owned()));
    }

    #[test]
    fn ports_are_shown_like_docker() {
        let ports = all(&["8080:80".into(), "127.0.0.1:53:53/udp".into()]).unwrap();
        assert_eq!(shown(&ports), "0.0.0.0:8080->80/tcp, 127.0.0.1:53->53/udp");
        assert_eq!(bindings(&ports)["80/tcp"][0]["HostPort"], "8080");
    }

    #[test]
    fn ports_are_published_in_both_families() {
        let ports = |texts: &[&str], second| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            for_families(all(&texts).unwrap(), second).map(|ports| shown(&ports))
        };
        assert_eq!(ports(&["8080:80"], true).unwrap(), "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp");
        assert_eq!(ports(&["8080:80"], false).unwrap(), "0.0.0.0:8080->80/tcp");
        let one = ports(&["[2001:db8::1]:1:80", "0.0.0.0:2:80"], true).unwrap();
        assert_eq!(one, "[2001:db8::1]:1->80/tcp, 0.0.0.0:2->80/tcp");
        assert_eq!(
            ports(&["[::]:1:80"], false).unwrap_err().to_string(),
            "--publish [::]:1: containers have no IPv6 addresses here (run_network.pod_cidr_v6 is not set)"
        );
        assert!(ports(&["[::1]:1:80"], true).unwrap_err().to_string().contains("127.0.0.1 can be"));
        let both = for_families(all(&["8080:80".into()]).unwrap(), true).unwrap();
        assert_eq!(shown(&of_bindings(&bindings(&both))), shown(&both));
    }

    #[test]
    fn a_document_says_what_it_was_made_of() {
        let ports = all(&["127.0.0.1:8080:80".into(), "53:53/udp".into()]).unwrap();
        let again = of_bindings(&bindings(&ports));
        assert_eq!(
            (again.len(), shown(&again)),
            (2, "0.0.0.0:53->53/udp, 127.0.0.1:8080->80/tcp".to_owned())
        );
    }

    #[test]
    fn a_free_port_is_chosen() {
        let mut ports = all(&["80".into(), "81/udp".into(), "5:82".into()]).unwrap();
        choose_free(&mut ports).unwrap();
        assert!(ports[0].host_port > 0 && ports[1].host_port > 0 && ports[2].host_port == 5);
    }
}
