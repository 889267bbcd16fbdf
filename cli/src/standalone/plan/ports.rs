//! `--publish`: `[IP:][HOST:]CONTAINER[/PROTOCOL]`, with ranges, and with a free port of the host where none is named.

use anyhow::{Context, bail};
use knarr_agent::cri::v1::{PortMapping, Protocol};
use serde_json::{Map, Value, json};
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

/// All mappings; a host port of 0 is still to be chosen.
pub(in crate::standalone) fn all(texts: &[String]) -> anyhow::Result<Vec<PortMapping>> {
    let mut all = Vec::new();
    for text in texts {
        all.extend(published(text).with_context(|| format!("--publish {text}"))?);
    }
    Ok(all)
}

fn published(text: &str) -> anyhow::Result<Vec<PortMapping>> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => bail!("invalid proto: {other}"),
    };
    let (host_ip, ports) = match ports.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some((ip, ports)) => (ip, ports),
        None => match ports.matches(':').count() {
            2 => ports.split_once(':').unwrap_or(("", ports)),
            _ => ("", ports),
        },
    };
    if !host_ip.is_empty() {
        let ip: IpAddr = host_ip.parse().with_context(|| format!("invalid IP address: {host_ip}"))?;
        if ip.is_ipv6() {
            bail!("{ip}: publishing at IPv6 addresses is not supported yet");
        }
    }
    let (host, container) = ports.split_once(':').unwrap_or(("", ports));
    let containers = range(container).with_context(|| format!("Invalid containerPort: {container}"))?;
    let hosts: Vec<u16> = match host {
        "" => vec![0; containers.len()],
        host => range(host).with_context(|| format!("Invalid hostPort: {host}"))?.collect(),
    };
    if hosts.len() != containers.len() {
        bail!("Invalid ranges specified for container and host Ports: {container} and {host}");
    }
    let mapping = |(host, container): (u16, u16)| PortMapping {
        protocol: protocol as i32,
        container_port: container.into(),
        host_port: host.into(),
        host_ip: host_ip.into(),
    };
    Ok(hosts.into_iter().zip(containers).map(mapping).collect())
}

fn range(text: &str) -> anyhow::Result<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last): (u16, u16) = (first.parse()?, last.parse()?);
    if first == 0 || last < first {
        bail!("{text}: not a range of ports");
    }
    Ok(first..=last)
}

/// Takes a port that nobody listens at, for each that was not named.
pub(super) fn choose_free(ports: &mut [PortMapping]) -> anyhow::Result<()> {
    for port in ports.iter_mut().filter(|port| port.host_port == 0) {
        let ip = port.host_ip.parse().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let free = match port.protocol() {
            Protocol::Udp => UdpSocket::bind((ip, 0))?.local_addr()?,
            Protocol::Tcp | Protocol::Sctp => TcpListener::bind((ip, 0))?.local_addr()?,
        };
        port.host_port = free.port().into();
    }
    Ok(())
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

/// `0.0.0.0:8080->80/tcp, ...`
pub(super) fn shown(ports: &[PortMapping]) -> String {
    let shown = ports.iter().map(|port| format!("{}:{}->{}", host_ip(port), port.host_port, inside(port)));
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
            let text = format!("{}:{}:{port}/{protocol}", ip.unwrap_or_default(), host.unwrap_or_default());
            ports.extend(published(&text).unwrap_or_default());
        }
    }
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let ranges = published("3000-3002:4000-4002").unwrap();
        assert_eq!((ranges.len(), ranges[2].host_port, ranges[2].container_port), (3, 3002, 4002));
        for wrong in ["80:http", "0:80", "80:80/icmp", "nowhere:80:80", "1-2:3", "70000", "[::1]:80:80", ""] {
            assert!(published(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_are_shown_like_docker() {
        let ports = all(&["8080:80".into(), "127.0.0.1:53:53/udp".into()]).unwrap();
        assert_eq!(shown(&ports), "0.0.0.0:8080->80/tcp, 127.0.0.1:53->53/udp");
        assert_eq!(bindings(&ports)["80/tcp"][0]["HostPort"], "8080");
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
