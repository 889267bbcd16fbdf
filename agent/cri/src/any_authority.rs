//! What connects to a unix socket of ours may call the server what it likes. gRPC in Python and Java, and in Go wherever a
//! dialer is given (kubelets before 1.31, most device plugins), name the path of the socket as `:authority`, which is none
//! by the letter of HTTP, and the server below refuses such a request as a breach of protocol. Nobody here asks for that
//! name, so each is replaced by letters of the same number on its way in: what both sides remember of headers (HPACK's
//! table) stays of one size, which is what must hold. Everything else passes as it came.

mod frames;
mod header_block;

use frames::Frames;
use futures_util::{Stream, TryStreamExt};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::Connected;

/// The connections of a socket, for a tonic server.
pub fn incoming(listener: UnixListener) -> impl Stream<Item = io::Result<AnyAuthority<UnixStream>>> {
    UnixListenerStream::new(listener).map_ok(AnyAuthority::of)
}

/// One connection.
#[derive(Debug)]
pub struct AnyAuthority<S> {
    socket: S,
    frames: Frames,
    /// Read and looked at, but not taken yet.
    ready: Vec<u8>,
}

impl<S> AnyAuthority<S> {
    fn of(socket: S) -> Self {
        Self { socket, frames: Frames::default(), ready: Vec::new() }
    }

    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = buffer.remaining().min(self.ready.len());
        buffer.put_slice(&self.ready[..length]);
        self.ready.drain(..length);
        if self.ready.is_empty() {
            self.ready = Vec::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.ready.is_empty() {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
            let read = &buffer.filled()[before..];
            if read.is_empty() || this.frames.skips(read.len()) {
                return Poll::Ready(Ok(()));
            }
            this.frames.pass(read, &mut this.ready);
            buffer.set_filled(before);
        }
        this.give(buffer);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(context)
    }
}

impl<S: Connected> Connected for AnyAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.socket.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Preface, settings, headers whose authority is `/a`, a frame of data.
    const SENT: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
        \0\0\x05\x01\x04\0\0\0\x01\x83\x41\x02/a\0\0\x03\0\x01\0\0\0\x01abc";

    async fn through(sent: &[u8], taken: usize) -> Vec<u8> {
        let (mut client, server) = tokio::io::duplex(sent.len().max(1));
        client.write_all(sent).await.unwrap();
        drop(client);
        let (mut server, mut all) = (AnyAuthority::of(server), Vec::new());
        let mut buffer = vec![0; taken];
        loop {
            match server.read(&mut buffer).await.unwrap() {
                0 => return all,
                length => all.extend(&buffer[..length]),
            }
        }
    }

    #[tokio::test]
    async fn a_path_is_replaced_however_the_bytes_come() {
        let mut expected = SENT.to_vec();
        let at = expected.windows(2).position(|pair| pair == b"/a").unwrap();
        expected[at..at + 2].copy_from_slice(b"xx");
        for taken in [1, 2, 7, 8192] {
            assert_eq!(through(SENT, taken).await, expected, "{taken} at a time");
        }
    }

    #[tokio::test]
    async fn what_is_not_http_2_passes() {
        let text = b"GET /a HTTP/1.1\r\n\r\n";
        assert_eq!(through(text, 3).await, text);
        assert_eq!(through(b"", 3).await, b"");
    }
}
