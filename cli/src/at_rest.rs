//! What a program that lives long and mostly waits holds in memory: little of what its start needed.

use std::time::Duration;

/// By then a start is over: objects are listed, pods are found again.
const START: Duration = Duration::from_secs(10);
/// Between two times at which the program's own pages are let go of; those in use are back within a millisecond.
const PERIOD: Duration = Duration::from_secs(60);

/// Does `work`, and beside it lets go of memory that nobody needs any more.
pub(crate) async fn beside<T>(work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = let_go() => match never {},
    }
}

async fn let_go() -> std::convert::Infallible {
    tokio::time::sleep(START).await;
    // Whether it was done is nobody's concern: it is tried again.
    let _done = tokio::task::spawn_blocking(knarr_agent::give_back).await;
    loop {
        let _done = tokio::task::spawn_blocking(knarr_agent::let_go_of_program).await;
        tokio::time::sleep(PERIOD).await;
    }
}
