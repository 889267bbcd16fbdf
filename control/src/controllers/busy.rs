//! How long a piece of work kept a processor: the time inside it, without what it waited for others, and without the time in
//! which a busy machine ran something else.

use rustix::time::{ClockId, clock_gettime};
use std::future::Future;
use std::pin::pin;
use std::time::Duration;

/// What a future gives, and the processor time that went into polling it.
pub(super) async fn measured<F: Future>(work: F) -> (F::Output, Duration) {
    let mut work = pin!(work);
    let mut busy = Duration::ZERO;
    let output = std::future::poll_fn(|context| {
        // One poll is on one thread.
        let begin = of_thread();
        let polled = work.as_mut().poll(context);
        busy += of_thread().saturating_sub(begin);
        polled
    })
    .await;
    (output, busy)
}

/// Processor time of this thread.
fn of_thread() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn waiting_is_no_work() {
        let work = Duration::from_millis(20);
        let (output, busy) = measured(async {
            let begin = of_thread();
            while of_thread() - begin < work {
                std::hint::spin_loop();
            }
            tokio::time::sleep(Duration::from_secs(1000)).await;
            7
        })
        .await;
        assert_eq!(output, 7);
        assert!(busy >= work && busy < Duration::from_secs(500), "{busy:?}");
    }
}
