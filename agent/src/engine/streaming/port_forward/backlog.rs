//! What a client has sent for one forwarded connection and the pod has not taken yet.
//!
//! All connections of a client share one stream of bytes, so waiting for one of them is waiting for all. Each may
//! therefore have a good deal on its way; one whose server takes nothing for a while is given up, and only that one.

use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Bytes on their way to one connection.
const ROOM: usize = 1 << 20;

/// How long a full backlog may stay full.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// The side that reads from the client.
#[derive(Debug)]
pub(super) struct Input {
    queue: mpsc::UnboundedSender<Bytes>,
    room: Arc<Semaphore>,
    stalled: CancellationToken,
}

/// The side that writes to the pod.
#[derive(Debug)]
pub(super) struct Backlog {
    queue: mpsc::UnboundedReceiver<Bytes>,
    room: Arc<Semaphore>,
    stalled: CancellationToken,
}

pub(super) fn backlog() -> (Input, Backlog) {
    let (sender, queue) = mpsc::unbounded_channel();
    let (room, stalled) = (Arc::new(Semaphore::new(ROOM)), CancellationToken::new());
    let input = Input { queue: sender, room: room.clone(), stalled: stalled.clone() };
    (input, Backlog { queue, room, stalled })
}

impl Input {
    /// Takes a piece, when there is room for it; false when nothing more is wanted.
    pub(super) async fn push(&self, data: Bytes) -> bool {
        let wanted = u32::try_from(data.len().min(ROOM)).unwrap_or(u32::MAX);
        let room = tokio::select! {
            room = tokio::time::timeout(STALL_LIMIT, self.room.acquire_many(wanted)) => room,
            () = self.queue.closed() => return false,
        };
        match room {
            Ok(Ok(permit)) => permit.forget(),
            Ok(Err(_)) => return false,
            Err(_) => {
                self.stalled.cancel();
                return false;
            }
        }
        self.queue.send(data).is_ok()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl Backlog {
    /// The next piece; `None` at the end of the client's input.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        self.queue.recv().await
    }

    /// A piece of this length has been passed on.
    pub(super) fn taken(&self, length: usize) {
        self.room.add_permits(length.min(ROOM));
    }

    /// Cancelled when this connection is given up.
    pub(super) fn stalled(&self) -> CancellationToken {
        self.stalled.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_full_backlog_is_given_up_and_one_that_moves_is_not() {
        let (input, mut backlog) = backlog();
        let piece = Bytes::from(vec![0; ROOM / 2]);
        assert!(input.push(piece.clone()).await && input.push(piece.clone()).await);
        let (pushed, ()) = tokio::join!(input.push(piece.clone()), async {
            tokio::time::advance(STALL_LIMIT / 2).await;
            let length = backlog.next().await.unwrap().len();
            backlog.taken(length);
        });
        assert!(pushed && !backlog.stalled().is_cancelled());
        assert!(!input.push(piece).await);
        assert!(backlog.stalled().is_cancelled());
    }
}
