//! What a service manager (systemd) is told: that clients can come, that the process is alive, that it is ending.
//!
//! Without one (`NOTIFY_SOCKET` is not set) nothing happens. A message that cannot be sent is not worth ending for: the
//! manager has time limits of its own.

use sd_notify::NotifyState;

/// Clients can come. From now on the manager also hears of us as often as it asked to. Called inside the tokio runtime,
/// whose timer sends the signs of life: they stop where nothing else would make progress either.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
    if let Some(limit) = sd_notify::watchdog_enabled() {
        tokio::spawn(async move {
            let mut beat = tokio::time::interval(limit / 2);
            loop {
                beat.tick().await;
                tell(NotifyState::Watchdog);
            }
        });
    }
}

/// The process is on its way out.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!("telling the service manager: {error}");
    }
}
