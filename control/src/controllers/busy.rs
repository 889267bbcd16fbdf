//! How long a piece of work kept its thread: the time inside it, without what it waited for others.

use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

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

    #[tokio::test]
    async fn waiting_is_no_work() {
        let begin = Instant::now();
        let (output, busy) = measured(async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            7
        })
        .await;
        assert_eq!(output, 7);
        assert!(busy < begin.elapsed(), "{busy:?}");
    }
}
