//! What a program that lives long and mostly waits holds in memory: little of what its start needed, or a time in which many
//! pods came.

use std::time::Duration;

/// By then a start is over: objects are listed, pods are found again. So is a time in which pods come and go, when none has
/// for that long.
const START: Duration = Duration::from_secs(10);

/// Does `work`, and lets go of the memory that only its start needed, and again after each time of work. Between them it
/// never wakes, and what it maps of its program is what it touches.
pub(crate) async fn beside<T>(work: impl Future<Output = T>) -> T {
    knarr_agent::map_program_by_pages();
    tokio::select! {
        done = work => done,
        never = let_go() => match never {},
    }
}

async fn let_go() -> std::convert::Infallible {
    tokio::time::sleep(START).await;
    loop {
        release().await;
        knarr_agent::pods_changed().await;
        while tokio::time::timeout(START, knarr_agent::pods_changed()).await.is_ok() {}
    }
}

async fn release() {
    let release = || {
        knarr_agent::give_back();
        knarr_agent::let_go_of_program();
    };
    // Whether it was done is nobody's concern.
    let _done = tokio::task::spawn_blocking(release).await;
}
