//! What an interactive container has said before anyone attached to it.
//!
//! `kubectl run -i` attaches when it has seen the pod run, and by then the first lines, or the prompt, are out. They
//! are kept for the first client; without them a short program seems to have said nothing at all.

use knarr_monitor::attach_frame::{Kind, MAX_DATA};
use std::collections::VecDeque;

/// Most bytes kept; of more, the newest. It must fit into what an attached client may leave unread.
const MAX_KEPT: usize = 64 << 10;

/// Reads are joined to pieces of this size, so that a program that writes bytes one by one costs no more than others.
const PIECE: usize = 4 << 10;
const _: () = assert!(PIECE <= MAX_DATA);

/// Pieces of output in their order.
#[derive(Debug, Default)]
pub(crate) struct EarlyOutput {
    pieces: VecDeque<(Kind, Vec<u8>)>,
    length: usize,
}

impl EarlyOutput {
    pub(crate) fn push(&mut self, kind: Kind, data: &[u8]) {
        self.length += data.len();
        for chunk in data.chunks(PIECE) {
            match self.pieces.back_mut() {
                Some((last, bytes)) if *last == kind && bytes.len() + chunk.len() <= PIECE => {
                    bytes.extend_from_slice(chunk);
                }
                _ => self.pieces.push_back((kind, chunk.to_vec())),
            }
        }
        while self.length > MAX_KEPT
            && let Some((_, oldest)) = self.pieces.pop_front()
        {
            self.length -= oldest.len();
        }
    }

    /// From the oldest to the newest.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (Kind, &[u8])> {
        self.pieces.iter().map(|(kind, data)| (*kind, data.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(early: &EarlyOutput) -> String {
        early.pieces().map(|(_, data)| String::from_utf8_lossy(data).into_owned()).collect()
    }

    #[test]
    fn order_and_streams_are_kept() {
        let mut early = EarlyOutput::default();
        for (kind, data) in
            [(Kind::Stdout, "a"), (Kind::Stdout, "b"), (Kind::Stderr, "c"), (Kind::Stdout, "d")]
        {
            early.push(kind, data.as_bytes());
        }
        let pieces: Vec<_> = early.pieces().map(|(kind, data)| (kind, data.to_vec())).collect();
        let wanted =
            [(Kind::Stdout, b"ab".to_vec()), (Kind::Stderr, b"c".to_vec()), (Kind::Stdout, b"d".to_vec())];
        assert_eq!(pieces, wanted);
    }

    #[test]
    fn of_much_the_newest_is_kept() {
        let mut early = EarlyOutput::default();
        let all: String = (0..50_000).map(|number| format!("{number}\n")).collect();
        all.as_bytes().chunks(7000).for_each(|chunk| early.push(Kind::Stdout, chunk));
        let kept = text(&early);
        assert!(all.ends_with(&kept));
        assert!(kept.len() <= MAX_KEPT && kept.len() > MAX_KEPT - 2 * PIECE, "{}", kept.len());
    }
}
