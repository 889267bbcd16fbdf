//! The addresses and names under which the server can be reached, and the certificate that must carry all of them:
//! it is signed anew when the machine gets another address, or when its end comes near.

use crate::pki::{Identity, Pki, Subject};
use crate::server::tls::ServerCertificate;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const CHECK_INTERVAL: Duration = Duration::from_secs(60);

const SERVICE_NAMES: [&str; 5] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
];

/// What never changes while the server runs; the machine's own addresses come on top.
#[derive(Debug, Clone)]
pub(super) struct ServerNames {
    pub(super) advertise: IpAddr,
    pub(super) service: IpAddr,
    pub(super) listen: IpAddr,
}

impl ServerNames {
    fn all(&self) -> Vec<String> {
        let mut addresses: BTreeSet<IpAddr> = local_addresses().into_iter().collect();
        addresses.extend([
            self.advertise,
            self.service,
            Ipv4Addr::LOCALHOST.into(),
            std::net::Ipv6Addr::LOCALHOST.into(),
        ]);
        addresses.extend(Some(self.listen).filter(|listen| !listen.is_unspecified()));
        let mut names: Vec<String> = SERVICE_NAMES.map(str::to_owned).into();
        names.extend(host_name());
        names.extend(addresses.iter().map(ToString::to_string));
        names
    }

    /// The server's certificate with all present names.
    pub(super) fn identity(&self, pki: &Pki) -> anyhow::Result<Identity> {
        let names = self.all();
        pki.identity("server", &Subject { common_name: "kube-apiserver", organization: None, names: &names })
    }
}

/// Looks after the certificate until the server stops.
pub(super) async fn renew(
    pki: Arc<Pki>,
    names: ServerNames,
    certificate: Arc<ServerCertificate>,
    mut shutdown: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
            () = crate::server::stopped(&mut shutdown) => return,
        }
        let (pki, names, certificate) = (pki.clone(), names.clone(), certificate.clone());
        let renewed = tokio::task::spawn_blocking(move || certificate.replace(&names.identity(&pki)?)).await;
        if let Ok(Err(error)) = renewed {
            tracing::warn!("renew the server's certificate: {error:#}");
        }
    }
}

/// The address that other machines know: that of the default route, or the one we listen on.
pub(super) fn advertised(listen: IpAddr) -> IpAddr {
    if !listen.is_unspecified() {
        return listen;
    }
    // Connecting a datagram socket sends nothing; it makes the kernel choose a source address.
    let probe = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(SocketAddr::from(([192, 0, 2, 1], 9)))?;
        Ok(socket.local_addr()?.ip())
    };
    let any = || local_addresses().into_iter().find(|address| !address.is_loopback());
    probe().ok().or_else(any).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    knarr_api::names::dns1123_subdomain(&name).is_empty().then_some(name)
}

/// This machine's IPv4 addresses, as the kernel's routing table knows them.
fn local_addresses() -> Vec<IpAddr> {
    parse_fib(&std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default())
}

/// An address line is followed by what it is: `|-- 10.0.0.5`, then `/32 host LOCAL`.
fn parse_fib(text: &str) -> Vec<IpAddr> {
    let mut found = BTreeSet::new();
    let mut last: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            last = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            found.extend(last);
        }
    }
    found.into_iter().map(IpAddr::V4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_addresses_are_read_from_the_routing_table() {
        let text = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.0.0.0
        /24 link UNICAST
     |-- 10.0.0.5
        /32 host LOCAL
     |-- 10.0.0.255
        /32 link BROADCAST
     |-- 127.0.0.1
        /32 host LOCAL
";
        let expected: Vec<IpAddr> = vec!["10.0.0.5".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        assert_eq!(parse_fib(text), expected);
    }
}
