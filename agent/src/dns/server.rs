//! Datagrams and streams of the name server.
//!
//! Names of the cluster are answered where the packet is read. Only forwarding waits for others, many at a time, and
//! their number is limited, so that a dead upstream or a flood costs a bounded amount of memory.

use super::reply::{self, Outcome};
use super::upstream::{Transport, Upstream};
use super::zone::Zone;
use anyhow::Context;
use futures_util::future::{FutureExt, select_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use hickory_proto::op::{Message, ResponseCode};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

/// Queries that wait for an upstream at the same time.
const MOST_FORWARDED: usize = 1024;
/// TCP clients at the same time.
const MOST_STREAMS: usize = 256;
/// How long no connection is accepted after one could not be.
const EXHAUSTED: Duration = Duration::from_millis(100);
/// How long a TCP client may be silent.
const IDLE: Duration = Duration::from_secs(10);

/// Bound sockets and everything that answers need.
#[derive(Debug)]
pub(crate) struct Server {
    udp: Vec<UdpSocket>,
    tcp: Vec<TcpListener>,
    names: Arc<Names>,
}

#[derive(Debug)]
struct Names {
    zone: watch::Receiver<Option<Arc<Zone>>>,
    domain: String,
    upstream: Upstream,
    forwarding: Semaphore,
    shift: AtomicUsize,
}

impl Server {
    /// Binds all addresses, also those that no link has yet.
    pub(crate) fn bind(
        addresses: &[SocketAddr],
        zone: watch::Receiver<Option<Arc<Zone>>>,
        upstream: Upstream,
        domain: &str,
    ) -> anyhow::Result<Self> {
        let mut server = Self {
            udp: Vec::new(),
            tcp: Vec::new(),
            names: Arc::new(Names {
                zone,
                domain: domain.trim_matches('.').to_lowercase(),
                upstream,
                forwarding: Semaphore::new(MOST_FORWARDED),
                shift: AtomicUsize::new(0),
            }),
        };
        for &address in addresses {
            let udp = open(address, SocketType::DGRAM)
                .with_context(|| format!("listen on udp {address} for DNS"))?;
            server.udp.push(UdpSocket::from_std(udp.into())?);
            let tcp = open(address, SocketType::STREAM)
                .with_context(|| format!("listen on tcp {address} for DNS"))?;
            listen(&tcp, 128).with_context(|| format!("listen on tcp {address} for DNS"))?;
            server.tcp.push(TcpListener::from_std(tcp.into())?);
        }
        Ok(server)
    }

    /// Serves until a socket fails for good. Everything runs inside this one future: dropping it closes the sockets at
    /// once, so that the addresses can be bound again.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let datagrams = self.udp.iter().map(|socket| serve_udp(socket, &self.names).boxed());
        let streams = self.tcp.iter().map(|listener| serve_tcp(listener, &self.names).boxed());
        let all: Vec<_> = datagrams.chain(streams).collect();
        if all.is_empty() {
            // No address at all: nothing to serve, and nothing wrong.
            std::future::pending::<()>().await;
        }
        select_all(all).await.0
    }
}

/// `IP_FREEBIND`: the address may appear later, when the first pod makes the bridge.
fn open(address: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if address.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    if kind == SocketType::STREAM {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}

async fn serve_udp(socket: &UdpSocket, names: &Names) -> anyhow::Result<()> {
    let mut buffer = vec![0; 4096];
    let mut forwarded = FuturesUnordered::new();
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            Some(()) = forwarded.next() => continue,
        };
        // An error here is the echo of an earlier packet (ICMP), not the end of the socket.
        let Ok((length, client)) = received else { continue };
        let packet = buffer.get(..length).unwrap_or_default();
        match names.decide(packet) {
            Outcome::Ignore => {}
            Outcome::Answer(answer) => send(socket, reply::datagram(&answer, packet), client).await,
            Outcome::Forward(query) => {
                let packet = packet.to_vec();
                forwarded.push(async move {
                    let answer = names.forward(&query, &packet, Transport::Udp).await;
                    send(socket, answer, client).await;
                });
            }
        }
    }
}

/// A client that cannot be reached asks again.
async fn send(socket: &UdpSocket, answer: Option<Vec<u8>>, client: SocketAddr) {
    if let Some(answer) = answer
        && let Err(error) = socket.send_to(&answer, client).await
    {
        tracing::debug!(%client, %error, "DNS answer not sent");
    }
}

async fn serve_tcp(listener: &TcpListener, names: &Names) -> anyhow::Result<()> {
    let mut streams = FuturesUnordered::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if streams.len() < MOST_STREAMS => accepted,
            // The client went away or fell silent; either way the stream is over.
            Some(_) = streams.next() => continue,
        };
        match accepted {
            Ok((stream, _)) => streams.push(serve_stream(stream, names)),
            // Out of descriptors, most likely: the connection waits in the queue, and so do we.
            Err(_) => sleep(EXHAUSTED).await,
        }
    }
}

async fn serve_stream(mut stream: TcpStream, names: &Names) -> anyhow::Result<()> {
    loop {
        let length = timeout(IDLE, stream.read_u16()).await??;
        let mut packet = vec![0; usize::from(length)];
        timeout(IDLE, stream.read_exact(&mut packet)).await??;
        let answer = match names.decide(&packet) {
            Outcome::Ignore => None,
            Outcome::Answer(answer) => answer.to_vec().ok(),
            Outcome::Forward(query) => names.forward(&query, &packet, Transport::Tcp).await,
        };
        let answer = answer.context("nothing to say")?;
        let length = u16::try_from(answer.len())?;
        timeout(IDLE, stream.write_all(&[&length.to_be_bytes()[..], &answer].concat())).await??;
    }
}

impl Names {
    fn decide(&self, packet: &[u8]) -> Outcome {
        let zone = self.zone.borrow().clone();
        reply::decide(packet, zone.as_deref(), &self.domain, self.shift.fetch_add(1, Ordering::Relaxed))
    }

    /// The upstream's answer, or SERVFAIL when there is none or too many wait already.
    async fn forward(&self, query: &Message, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let failure = || reply::status(query, ResponseCode::ServFail).to_vec().ok();
        let Ok(_place) = self.forwarding.try_acquire() else { return failure() };
        self.upstream.ask(packet, transport).await.or_else(failure)
    }
}

#[cfg(test)]
mod tests;
