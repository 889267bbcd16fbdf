//! Frames from a connection. Data is passed on as it comes, never gathered into whole frames (which may be 16 MiB).

use super::frame::{Frame, FrameHeader, HEADER, invalid, parse_control};
use super::header_block::Inflater;
use bytes::BytesMut;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest control frame taken, in bytes.
const MAX_CONTROL: usize = 64 << 10;

/// Most data passed on at a time.
const MAX_PIECE: usize = 32 << 10;

pub(in super::super) struct Reader<R> {
    from: R,
    buffer: BytesMut,
    inflater: Inflater,
    /// The data frame being read: its stream, its last flag, and how much is still to come.
    open_data: Option<(u32, bool, usize)>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(in super::super) fn new(from: R) -> Self {
        Self { from, buffer: BytesMut::with_capacity(MAX_PIECE), inflater: Inflater::new(), open_data: None }
    }

    /// The next frame (or piece of data); `None` when the peer has closed. Safe to cancel.
    pub(in super::super) async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.parse()? {
                return Ok(Some(frame));
            }
            self.buffer.reserve(MAX_PIECE);
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn parse(&mut self) -> io::Result<Option<Frame>> {
        if let Some((stream, fin, left)) = self.open_data {
            return Ok(self.take_data(stream, fin, left));
        }
        let Some(header) = self.buffer.first_chunk::<HEADER>().map(|bytes| FrameHeader::parse(*bytes)) else {
            return Ok(None);
        };
        if let Some(stream) = header.data_stream() {
            drop(self.buffer.split_to(HEADER));
            return Ok(self.take_data(stream, header.fin, header.length));
        }
        if header.length > MAX_CONTROL {
            return Err(invalid(format!("SPDY control frame of {} bytes", header.length)));
        }
        if self.buffer.len() < HEADER + header.length {
            return Ok(None);
        }
        let frame = self.buffer.split_to(HEADER + header.length);
        parse_control(header, frame.get(HEADER..).unwrap_or_default(), &mut self.inflater).map(Some)
    }

    /// A piece of a data frame that has `left` bytes to come; an empty frame is a piece too (it may be the last).
    fn take_data(&mut self, stream: u32, fin: bool, left: usize) -> Option<Frame> {
        let count = left.min(self.buffer.len()).min(MAX_PIECE);
        if count == 0 && left > 0 {
            self.open_data = Some((stream, fin, left));
            return None;
        }
        let data = self.buffer.split_to(count).freeze();
        let left = left - count;
        self.open_data = (left > 0).then_some((stream, fin, left));
        Some(Frame::Data { stream, data, fin: fin && left == 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    async fn frames_of(bytes: &[u8]) -> io::Result<Vec<Frame>> {
        let mut reader = Reader::new(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = reader.next().await? {
            frames.push(frame);
        }
        Ok(frames)
    }

    #[tokio::test]
    async fn data_and_control_frames_are_told_apart() {
        let mut bytes = vec![0, 0, 0, 5, 1, 0, 0, 2, b'h', b'i'];
        bytes.extend([0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]);
        bytes.extend([0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 5, 0, 0, 0, 5]);
        let frames = frames_of(&bytes).await.unwrap();
        assert_eq!(
            frames,
            [
                Frame::Data { stream: 5, data: "hi".into(), fin: true },
                Frame::Ping { id: 9 },
                Frame::Reset { stream: 5 }
            ]
        );
        assert!(frames_of(&[0x80, 2, 0, 6, 0, 0, 0, 4, 0, 0, 0, 9]).await.is_err(), "SPDY/2");
    }

    proptest! {
        #[test]
        fn nonsense_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let _ = runtime.block_on(frames_of(&bytes));
        }
    }
}
