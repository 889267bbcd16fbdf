//! The addresses that this host has, in the network namespace of the calling thread.

use nix::ifaddrs::getifaddrs;
use std::net::IpAddr;

/// Each with the name of its link.
///
/// # Errors
/// `getifaddrs(3)` failed.
pub(crate) fn all() -> nix::Result<Vec<(String, IpAddr)>> {
    let address = |storage: nix::sys::socket::SockaddrStorage| {
        let four = storage.as_sockaddr_in().map(|four| IpAddr::from(four.ip()));
        four.or_else(|| storage.as_sockaddr_in6().map(|six| IpAddr::from(six.ip())))
    };
    let links = getifaddrs()?;
    Ok(links.filter_map(|link| Some((link.interface_name, address(link.address?)?))).collect())
}
