//! Ports of this machine that lead to a container: one container's at a time, and never one that a program listens at.
//!
//! The claim is the network's own record, taken under its lock when a container is connected. What is done here is to
//! look first whether somebody else listens, and to take ports away from containers that have ended without their
//! helper (`ended`) having run.

use super::plan::ports::{self, address};
use super::{Standalone, is_running, places, ps};
use crate::settings::Settings;
use knarr_agent::cri::v1::{PortMapping, Protocol};
use rustix::io::Errno;
use rustix::net::sockopt::{set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::net::SocketAddr;

/// Fails, in Docker's words, where a program of this machine listens at one of the ports. One command looks at a time:
/// to look is to listen, and another one would take that for such a program.
pub(super) async fn check_free(settings: &Settings, ports: &[PortMapping]) -> anyhow::Result<()> {
    let _looking = places::alone_with(settings, ".ports").await?;
    look(ports)
}

/// Puts the first free port in the place of a range of the host's ports that one port of a container is published at.
pub(super) async fn settle(settings: &Settings, published: &mut [String]) -> anyhow::Result<()> {
    for text in published {
        let choices = ports::choices(text);
        if choices.is_empty() {
            continue;
        }
        let running = ps::facts(settings).await?.into_iter().filter(|facts| facts.pid() != 0);
        let taken: Vec<PortMapping> =
            running.flat_map(|facts| ports::of_bindings(&facts.options["PortBindings"])).collect();
        let _looking = places::alone_with(settings, ".ports").await?;
        let free = choices.iter().find(|text| {
            ports::all(&[(*text).clone()])
                .is_ok_and(|wanted| !ports::overlap(&wanted, &taken) && look(&wanted).is_ok())
        });
        // Whoever finds none is told of the first.
        text.clone_from(free.unwrap_or(&choices[0]));
    }
    Ok(())
}

fn look(ports: &[PortMapping]) -> anyhow::Result<()> {
    for port in ports.iter().filter(|port| port.host_port != 0) {
        let place = SocketAddr::new(address(port)?, u16::try_from(port.host_port)?);
        let (name, bound) = match port.protocol() {
            Protocol::Tcp => ("tcp", listen(place, SocketType::STREAM)),
            Protocol::Udp => ("udp", listen(place, SocketType::DGRAM)),
            Protocol::Sctp => continue,
        };
        match bound {
            Err(Errno::ADDRINUSE) => {
                anyhow::bail!("failed to bind host port {place}/{name}: address already in use")
            }
            Err(Errno::ADDRNOTAVAIL) => {
                anyhow::bail!("failed to bind host port {place}/{name}: cannot assign requested address")
            }
            _ => {}
        }
    }
    Ok(())
}

/// As a server would that knows nothing of the other family.
fn listen(place: SocketAddr, kind: SocketType) -> rustix::io::Result<()> {
    let family = if place.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if place.is_ipv6() {
        set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::DGRAM {
        return bind(&socket, &place);
    }
    // What an ended connection of the port leaves behind is nobody who listens.
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &place)?;
    rustix::net::listen(&socket, 1)
}

/// The network refused a port that another container has.
pub(super) fn is_clash(error: &anyhow::Error) -> bool {
    format!("{error:#}").contains("port is already allocated")
}

/// Disconnects every other container that has ended; answers whether there was one.
pub(super) async fn release_ended(settings: &Settings, own: &str) -> anyhow::Result<bool> {
    let mut any = false;
    for place in places::all(settings)?.into_iter().filter(|place| place.directory != own) {
        // One that is being made, started or removed is not waited for: it may be waiting for us.
        let Some(lock) = place.try_lock(settings)? else { continue };
        let other = Standalone::open(settings, place, lock).await?;
        let ended = other.container().await?.is_some_and(|container| !is_running(&container));
        if ended && other.is_connected().await? {
            other.disconnect().await?;
            any = true;
        }
    }
    Ok(any)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn a_port_that_somebody_listens_at_is_refused() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = |protocol: Protocol| PortMapping {
            protocol: protocol as i32,
            host_ip: "127.0.0.1".into(),
            host_port: taken.local_addr().unwrap().port().into(),
            container_port: 80,
        };
        let error = look(&[port(Protocol::Tcp)]).unwrap_err().to_string();
        assert!(error.ends_with("/tcp: address already in use"), "{error}");
        let other = PortMapping { host_ip: "203.0.113.9".into(), ..port(Protocol::Tcp) };
        let error = look(&[other]).unwrap_err().to_string();
        assert!(error.ends_with("cannot assign requested address"), "{error}");
        look(&[PortMapping { host_port: 0, ..port(Protocol::Tcp) }]).unwrap();
    }
}
