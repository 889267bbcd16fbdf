//! Asking the host's name servers for what is not ours.
//!
//! The query is passed on byte for byte under an id and from a port of our own, both random: an answer that was not
//! sent by the server that we asked cannot be slipped in. The list is read again when the file changes.

use hickory_proto::op::{Message, MessageType};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

const DNS_PORT: u16 = 53;
/// How long one server has for its answer; then the next one is asked.
const PATIENCE: Duration = Duration::from_secs(2);
/// As many servers as the C library asks.
const MOST_SERVERS: usize = 3;

/// How the client asked, which is how we ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

/// The host's name servers.
#[derive(Debug)]
pub(crate) struct Upstream {
    file: PathBuf,
    /// Our own addresses: asking ourselves would never end.
    own: Vec<IpAddr>,
    /// Never held across an await.
    read: Mutex<Option<(SystemTime, Vec<SocketAddr>)>>,
}

impl Upstream {
    pub(crate) fn new(file: &Path, own: Vec<IpAddr>) -> Self {
        Self { file: file.to_owned(), own, read: Mutex::new(None) }
    }

    /// The first server's answer, under the id of the client; absent when none answered.
    pub(crate) async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        for server in self.servers() {
            let answer = match transport {
                Transport::Udp => timeout(PATIENCE, by_udp(server, query)).await,
                Transport::Tcp => timeout(PATIENCE, by_tcp(server, query)).await,
            };
            match answer {
                Ok(Ok(answer)) => return Some(answer),
                Ok(Err(error)) => tracing::debug!(%server, %error, "name server failed"),
                Err(_) => tracing::debug!(%server, "name server did not answer"),
            }
        }
        None
    }

    fn servers(&self) -> Vec<SocketAddr> {
        let modified = fs::metadata(&self.file).and_then(|metadata| metadata.modified()).ok();
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*read, modified) {
            (Some((when, servers)), Some(modified)) if *when == modified => servers.clone(),
            _ => {
                let servers = name_servers(&fs::read_to_string(&self.file).unwrap_or_default(), &self.own);
                *read = modified.map(|modified| (modified, servers.clone()));
                servers
            }
        }
    }
}

/// The servers that a resolv.conf names, except ourselves; the local one where it names none (as resolv.conf(5)).
fn name_servers(text: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listed: Vec<IpAddr> = words
        .filter_map(|words| match words.as_slice() {
            ["nameserver", address, ..] => address.parse().ok(),
            _ => None,
        })
        .collect();
    let listed = if listed.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { listed };
    let others = listed.into_iter().filter(|address| !own.contains(address));
    others.take(MOST_SERVERS).map(|address| SocketAddr::new(address, DNS_PORT)).collect()
}

/// The query under a fresh id, and the id of the client.
fn disguise(query: &[u8]) -> Option<(Vec<u8>, [u8; 2])> {
    let client = *query.first_chunk::<2>()?;
    let fresh = Message::query().metadata.id.to_be_bytes();
    let mut bytes = query.to_vec();
    bytes.get_mut(..2)?.copy_from_slice(&fresh);
    Some((bytes, client))
}

/// The answer under the client's id, if it answers the question that was asked.
fn accept(asked: &[u8], answer: &[u8], client: [u8; 2]) -> Option<Vec<u8>> {
    if answer.get(..2)? != asked.get(..2)? {
        return None;
    }
    let (asked, parsed) = (Message::from_vec(asked).ok()?, Message::from_vec(answer).ok()?);
    if parsed.metadata.message_type != MessageType::Response || parsed.queries != asked.queries {
        return None;
    }
    let mut bytes = answer.to_vec();
    bytes.get_mut(..2)?.copy_from_slice(&client);
    Some(bytes)
}

fn too_short() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "the query has no header")
}

async fn by_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let (asked, client) = disguise(query).ok_or_else(too_short)?;
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&asked).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is a forgery or a late answer to somebody else: the right one may still come.
        if let Some(answer) = accept(&asked, buffer.get(..length).unwrap_or_default(), client) {
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let (asked, client) = disguise(query).ok_or_else(too_short)?;
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(asked.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], &asked].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    accept(&asked, &answer, client).ok_or_else(|| std::io::Error::other("the answer is to another question"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_servers_as_the_c_library_does() {
        let own: Vec<IpAddr> = vec!["10.42.0.1".parse().unwrap()];
        let addresses = |text: &str| -> Vec<String> {
            name_servers(text, &own).iter().map(|server| server.ip().to_string()).collect()
        };
        assert_eq!(
            addresses("# x\nnameserver 192.0.2.1\nsearch a b\nnameserver\t10.42.0.1\n"),
            ["192.0.2.1"]
        );
        assert_eq!(addresses("nameserver nonsense\noptions ndots:5"), ["127.0.0.1"]);
        assert_eq!(addresses("nameserver 10.42.0.1"), Vec::<String>::new());
        let five: String = (1..=5).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(addresses(&five).len(), 3);
    }
}
