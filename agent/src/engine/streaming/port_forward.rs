//! Port forwarding: each connection to the client's port becomes a pair of SPDY streams (data, and error for what went
//! wrong), and here a connection to the port inside the pod's network namespace.
//!
//! A pair is found by the header `requestid`; both streams name the same port. Clients without SPDY use a pair of
//! channels of a WebSocket for each port (`channels`).

mod backlog;
mod channels;

use super::negotiate::{Protocol, Transport};
use super::spdy::{Command, Frame, Headers, Reader, Writer};
use super::{websocket, websocket_tunnel};
use crate::engine::stream_target::StreamTarget;
use backlog::{Backlog, Input, backlog};
use bytes::{Bytes, BytesMut};
use knarr_sys::namespace::{self, Kind};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

/// A connection inside the pod's namespace is made at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A client that has sent nothing for so long after the server's end has nothing more to say. Those that wait to be told
/// before they close (kubectl before 1.30) hold their own client as long.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes passed on at a time.
const PIECE: usize = 32 << 10;

/// Connections of one client at the same time.
const MAX_PAIRS: usize = 1000;

/// Serves one client until it closes. `ports` are those named in the request, for clients that cannot name them later.
pub(super) async fn run<T>(
    io: T,
    protocol: Protocol,
    sandbox_id: &str,
    ports: &[u16],
    target: Arc<dyn StreamTarget>,
) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let netns =
        target.netns_of(sandbox_id).await.map_err(|status| io::Error::other(status.message().to_owned()))?;
    drop(target);
    match protocol.transport {
        Transport::SpdyInWebSocket => serve(websocket_tunnel::open(io).await, netns).await,
        Transport::WebSocket => channels::serve(io, protocol, ports, netns).await,
        Transport::Spdy => serve(io, netns).await,
    }
}

async fn serve<T>(io: T, netns: Option<PathBuf>) -> io::Result<()>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (read, write) = tokio::io::split(io);
    let mut reader = Reader::new(read);
    let mut client = Client {
        writer: Writer::spawn(write),
        netns,
        waiting: HashMap::new(),
        inputs: HashMap::new(),
        windows: false,
    };
    while let Some(frame) = reader.next().await? {
        client.take(frame).await?;
    }
    Ok(())
}

/// One half of a pair, until the other comes.
#[derive(Debug, Clone, Copy)]
struct Half {
    stream: u32,
    is_data: bool,
}

struct Client {
    writer: Writer,
    netns: Option<PathBuf>,
    waiting: HashMap<String, Half>,
    /// Where the data of each stream goes; removed at its end.
    inputs: HashMap<u32, Input>,
    windows: bool,
}

impl Client {
    async fn take(&mut self, frame: Frame) -> io::Result<()> {
        match frame {
            Frame::Open { stream, headers, .. } => self.open(stream, &headers).await,
            Frame::Data { stream, data, fin } => self.data(stream, data, fin).await,
            Frame::Reset { stream } => {
                self.inputs.remove(&stream);
                Ok(())
            }
            Frame::Ping { id } => self.writer.send(Command::Ping(id)).await,
            Frame::Windows => {
                self.windows = true;
                Ok(())
            }
            Frame::GoAway | Frame::Other => Ok(()),
        }
    }

    async fn open(&mut self, stream: u32, headers: &Headers) -> io::Result<()> {
        const PROTOCOL_ERROR: u32 = 1;
        let port = headers.get("port").and_then(|port| port.parse().ok()).filter(|port| *port != 0_u16);
        let is_data = match headers.get("streamtype") {
            Some("data") => Some(true),
            Some("error") => Some(false),
            _ => None,
        };
        self.inputs.retain(|_, input| !input.is_closed());
        let crowded = self.inputs.len() + self.waiting.len() >= MAX_PAIRS;
        let (Some(port), Some(is_data), false) = (port, is_data, crowded) else {
            return self.writer.send(Command::Reset(stream, PROTOCOL_ERROR)).await;
        };
        self.writer.send(Command::Reply(stream)).await?;
        let request =
            headers.get("requestid").map_or_else(|| pair_without_id(stream, is_data), str::to_owned);
        match self.waiting.remove(&request) {
            Some(other) if other.is_data != is_data => {
                let (data, error) = if is_data { (stream, other.stream) } else { (other.stream, stream) };
                self.forward(port, data, error);
            }
            _ => {
                self.waiting.insert(request, Half { stream, is_data });
            }
        }
        Ok(())
    }

    fn forward(&mut self, port: u16, data: u32, error: u32) {
        let (input, backlog) = backlog();
        self.inputs.insert(data, input);
        let down = |stream| Downlink::Spdy { writer: self.writer.clone(), stream };
        tokio::spawn(forward(self.netns.clone(), port, down(data), down(error), backlog));
    }

    async fn data(&mut self, stream: u32, data: Bytes, fin: bool) -> io::Result<()> {
        if self.windows && !data.is_empty() {
            let length = data.len() as u32;
            self.writer.send(Command::WindowUpdate(stream, length)).await?;
            self.writer.send(Command::WindowUpdate(0, length)).await?;
        }
        if let Some(input) = self.inputs.get(&stream)
            && !data.is_empty()
        {
            // A connection that has ended takes no more; its own task tells the client.
            input.push(data).await;
        }
        if fin {
            self.inputs.remove(&stream);
        }
        Ok(())
    }
}

/// Clients older than the header open error, then data, two numbers apart.
fn pair_without_id(stream: u32, is_data: bool) -> String {
    format!("stream {}", if is_data { stream.saturating_sub(2) } else { stream })
}

/// Where one stream or channel to the client is written.
#[derive(Debug)]
enum Downlink {
    Spdy { writer: Writer, stream: u32 },
    Channel { messages: mpsc::Sender<Message>, base64: bool, channel: u8 },
}

impl Downlink {
    async fn data(&self, data: Bytes) -> io::Result<()> {
        match self {
            Self::Spdy { writer, stream } => writer.send(Command::Data(*stream, data, false)).await,
            Self::Channel { messages, base64, channel } => {
                let message = websocket::message(*base64, *channel, &data);
                messages.send(message).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
            }
        }
    }

    /// Channels have no end of their own.
    async fn end(&self) -> io::Result<()> {
        match self {
            Self::Spdy { writer, stream } => writer.send(Command::Data(*stream, Bytes::new(), true)).await,
            Self::Channel { .. } => Ok(()),
        }
    }
}

/// One forwarded connection; what goes wrong is told over its error stream.
async fn forward(
    netns: Option<PathBuf>,
    port: u16,
    data: Downlink,
    error: Downlink,
    input: Backlog,
) -> io::Result<()> {
    let problem = match connect(netns, port).await {
        Ok(connection) => {
            let stalled = input.stalled();
            let ended = tokio::select! {
                ended = exchange(connection, &data, input) => ended,
                () = stalled.cancelled() => Err(io::Error::other("the pod does not take what is sent")),
            };
            ended.err().map(|error| error.to_string())
        }
        Err(error) => Some(format!("failed to connect to localhost:{port} inside the pod: {error}")),
    };
    if let Some(problem) = problem {
        data.end().await?;
        error.data(format!("an error occurred forwarding {port}: {problem}").into()).await?;
    }
    error.end().await
}

/// Copies both ways until both have ended; each direction may end on its own.
async fn exchange(connection: TcpStream, data: &Downlink, mut input: Backlog) -> io::Result<()> {
    let (mut read, mut write) = connection.into_split();
    let sent = AtomicU64::new(0);
    let upward = async {
        while let Some(data) = input.next().await {
            write.write_all(&data).await?;
            sent.fetch_add(1, Ordering::Relaxed);
            input.taken(data.len());
        }
        // A server that has already closed is at its end as well.
        let _ = write.shutdown().await;
        Ok::<_, io::Error>(())
    };
    let downward = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(PIECE);
            if read.read_buf(&mut buffer).await? == 0 {
                return data.end().await;
            }
            data.data(buffer.split().freeze()).await?;
        }
    };
    tokio::pin!(upward, downward);
    tokio::select! {
        ended = &mut upward => {
            ended?;
            downward.await
        }
        // The server has said all it had to say. What the client still sends may go, but is not waited for: an idle
        // client keeps its side open.
        ended = &mut downward => {
            ended?;
            let mut before = sent.load(Ordering::Relaxed);
            loop {
                if let Ok(ended) = tokio::time::timeout(LINGER, &mut upward).await {
                    return ended;
                }
                let now = sent.load(Ordering::Relaxed);
                if std::mem::replace(&mut before, now) == now {
                    return Ok(());
                }
            }
        }
    }
}

/// Connects to the pod's loopback: IPv4, else IPv6.
async fn connect(netns: Option<PathBuf>, port: u16) -> io::Result<TcpStream> {
    let connect = move || match netns {
        Some(netns) => namespace::within(&[(Kind::Network, &netns)], || connect_here(port)),
        None => connect_here(port),
    };
    let stream = tokio::task::spawn_blocking(connect).await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

fn connect_here(port: u16) -> io::Result<std::net::TcpStream> {
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let first = std::net::TcpStream::connect_timeout(&v4, CONNECT_TIMEOUT);
    first.or_else(|error| std::net::TcpStream::connect_timeout(&v6, CONNECT_TIMEOUT).map_err(|_| error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    /// A connection whose server has said all it had to say, and the server's end.
    async fn half_closed() -> (TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        server.shutdown().await.unwrap();
        (connection, server)
    }

    fn nobody() -> Downlink {
        Downlink::Channel { messages: mpsc::channel(1).0, base64: false, channel: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_client_learns_soon_that_the_server_has_ended() {
        let (connection, _server) = half_closed().await;
        let (_idle, input) = backlog();
        let begun = Instant::now();
        exchange(connection, &nobody(), input).await.unwrap();
        assert!(begun.elapsed() < LINGER * 2, "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_still_sent_arrives() {
        let (connection, mut server) = half_closed().await;
        let (client, input) = backlog();
        let sends = async {
            for _ in 0..5 {
                sleep(LINGER * 2 / 3).await;
                assert!(client.push(Bytes::from_static(b"x")).await);
            }
            drop(client);
        };
        let data = nobody();
        let (ended, ()) = tokio::join!(exchange(connection, &data, input), sends);
        ended.unwrap();
        let mut heard = String::new();
        server.read_to_string(&mut heard).await.unwrap();
        assert_eq!(heard, "xxxxx");
    }
}
