//! How long a piece of work kept its thread: the time inside it, without what it waited for others.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;
use tokio::time::Instant;

/// What a future gives, and the time that went into polling it.
pub(super) async fn measured<F: Future>(work: F) -> (F::Output, Duration) {
    let mut work = pin!(work);
    let mut busy = Duration::ZERO;
    let output = std::future::poll_fn(|context| {
        let begin = Instant::now();
        let polled = work.as_mut().poll(context);
        busy += begin.elapsed();
        polled
    })
    .await;
    (output, busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_no_work() {
        let (work, wait) = (Duration::from_millis(200), Duration::from_millis(500));
        let begin = Instant::now();
        let (output, busy) = measured(async {
            // This clock goes on while the future is polled, and while nothing else is to be done.
            tokio::time::advance(work).await;
            tokio::time::sleep_until(begin + work + wait).await;
            7
        })
        .await;
        assert_eq!((output, busy, begin.elapsed()), (7, work, work + wait));
    }
}
