//! Ports as `ps` shows them: those next to each other together, those that are published under another number last.

use super::plan::ports::joined;
use knarr_agent::cri::v1::PortMapping;
use serde_json::Value;
use std::net::IpAddr;

/// One port of a container, and where it is published, if it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Port {
    inside: u16,
    host: Option<(IpAddr, u16)>,
    protocol: String,
}

/// Ports that follow each other, of one address and protocol.
struct Group {
    ip: Option<IpAddr>,
    protocol: String,
    first: u16,
    last: u16,
}

/// `80-82/tcp, 0.0.0.0:90->90/tcp, 0.0.0.0:8080->8080/tcp`. `exposed` are the keys of `ExposedPorts`.
pub(super) fn displayed(published: &[PortMapping], exposed: &Value) -> String {
    let mut ports: Vec<Port> = published.iter().filter_map(of_mapping).collect();
    let known: Vec<(u16, String)> = ports.iter().map(|port| (port.inside, port.protocol.clone())).collect();
    for text in exposed.as_object().into_iter().flatten().map(|(text, _)| text) {
        let open = each(text).filter(|port| !known.contains(port));
        ports.extend(open.map(|(inside, protocol)| Port { inside, host: None, protocol }));
    }
    ports.sort();
    ports.dedup();
    let (mut done, mut open, mut moved) = (Vec::new(), Vec::<Group>::new(), Vec::new());
    for port in ports {
        if let Some((ip, outside)) = port.host.filter(|(_, outside)| *outside != port.inside) {
            let host = joined(&ip.to_string(), &outside.to_string());
            moved.push(format!("{host}->{}/{}", port.inside, port.protocol));
            continue;
        }
        let ip = port.host.map(|(ip, _)| ip);
        let new = Group { ip, first: port.inside, last: port.inside, protocol: port.protocol };
        match open.iter_mut().find(|group| group.ip == ip && group.protocol == new.protocol) {
            None => open.push(new),
            Some(group) if group.last.checked_add(1) == Some(new.first) => group.last = new.last,
            Some(group) => done.push(std::mem::replace(group, new).text()),
        }
    }
    done.extend(open.iter().map(Group::text));
    done.extend(moved);
    done.join(", ")
}

impl Group {
    fn text(&self) -> String {
        let ports = match self.first == self.last {
            true => self.first.to_string(),
            false => format!("{}-{}", self.first, self.last),
        };
        let outside = self.ip.map(|ip| format!("{}->", joined(&ip.to_string(), &ports)));
        format!("{}{ports}/{}", outside.unwrap_or_default(), self.protocol)
    }
}

fn of_mapping(mapping: &PortMapping) -> Option<Port> {
    let ip = if mapping.host_ip.is_empty() { "0.0.0.0" } else { &mapping.host_ip };
    Some(Port {
        inside: mapping.container_port.try_into().ok()?,
        host: Some((ip.parse().ok()?, mapping.host_port.try_into().ok()?)),
        protocol: mapping.protocol().as_str_name().to_ascii_lowercase(),
    })
}

/// `80`, `80/udp`, `80-90`.
fn each(text: &str) -> impl Iterator<Item = (u16, String)> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let range = first.parse::<u16>().ok().zip(last.parse::<u16>().ok());
    let protocol = protocol.to_ascii_lowercase();
    range.into_iter().flat_map(|(first, last)| first..=last).map(move |port| (port, protocol.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::plan::ports::all;
    use super::*;
    use serde_json::json;

    #[test]
    fn neighbours_are_shown_together() {
        for (published, exposed, expected) in [
            (&[][..], &["82/tcp", "80/tcp", "81/tcp"][..], "80-82/tcp"),
            (&[], &["81/udp"], "81/udp"),
            (&["8.8.8.8:82:82"], &["82/tcp"], "8.8.8.8:82->82/tcp"),
            (
                &["80-81:80-81", "9090:90"],
                &["70", "71", "73"],
                "70-71/tcp, 73/tcp, 0.0.0.0:80-81->80-81/tcp, 0.0.0.0:9090->90/tcp",
            ),
            (&["[::]:53:53/udp", "0.0.0.0:53:53/udp"], &[], "0.0.0.0:53->53/udp, [::]:53->53/udp"),
            (&["1:1"], &["5-6"], "0.0.0.0:1->1/tcp, 5-6/tcp"),
        ] {
            let texts: Vec<String> = published.iter().map(ToString::to_string).collect();
            let exposed = exposed.iter().map(|text| ((*text).to_owned(), json!({})));
            let exposed = Value::Object(exposed.collect());
            assert_eq!(displayed(&all(&texts).unwrap(), &exposed), expected);
        }
        assert_eq!(displayed(&[], &Value::Null), "");
    }
}
