//! What a program that lives long and mostly waits holds in memory: little of what its start needed.

use std::time::Duration;

/// By then a start is over: objects are listed, pods are found again.
const START: Duration = Duration::from_secs(10);

/// Does `work`, and lets go, once, of the memory that only its start needed.
pub(crate) async fn beside<T>(work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = let_go() => match never {},
    }
}

async fn let_go() -> std::convert::Infallible {
    tokio::time::sleep(START).await;
    let release = || {
        knarr_agent::give_back();
        knarr_agent::let_go_of_program();
    };
    // Whether it was done is nobody's concern.
    let _done = tokio::task::spawn_blocking(release).await;
    std::future::pending().await
}
