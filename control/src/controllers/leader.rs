//! Leader election: scheduler and controllers each run in one place, whoever else serves the same store or, as
//! `kube-scheduler` or `kube-controller-manager`, works through the same API.
//!
//! The leader's name and the time of its last sign of life stand in a Lease, written with the version it was read
//! at, so that two can never both succeed. Time is only compared with the own clock: a lease is dead when it has not
//! changed for its duration, as seen from here. A leader that cannot renew stops before anybody else may begin. One
//! that loses its lease lets others be faster the next time: a holder that is emptied by hand hands the work over.

use super::runner::{is_conflict, is_not_found, message_of};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

const NAMESPACE: &str = "kube-system";
/// Between two looks at a lease that others have.
const LOOK: Duration = Duration::from_secs(2);

/// One that lost its lease lets others be faster for so long.
const STAND_BACK: Duration = Duration::from_secs(20);

/// How often a leader gives a sign of life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Silence after which it counts as gone.
    pub(crate) duration: Duration,
    /// One that could not renew for so long steps down.
    pub(crate) renew_within: Duration,
    pub(crate) period: Duration,
}

impl Pace {
    /// Of several servers one should follow soon.
    pub(crate) const SHARED: Self = Self {
        duration: Duration::from_secs(15),
        renew_within: Duration::from_secs(10),
        period: Duration::from_secs(2),
    };
    /// The only server of its store ends with its controllers: few writes, for a disk that is at rest.
    pub(crate) const ALONE: Self = Self {
        duration: Duration::from_secs(90),
        renew_within: Duration::from_secs(60),
        period: Duration::from_secs(30),
    };
}

/// One lease, and whether we have it.
pub(crate) struct Chair {
    api: Api<Lease>,
    name: &'static str,
    identity: String,
    pace: Pace,
    /// `None` before the first look.
    held: watch::Sender<Option<bool>>,
}

impl Chair {
    /// The lease `name`, not looked at yet.
    pub(crate) fn new(client: &Client, name: &'static str, identity: &str, pace: Pace) -> Self {
        let api = Api::namespaced(client.clone(), NAMESPACE);
        Self { api, name, identity: identity.to_owned(), pace, held: watch::channel(None).0 }
    }

    /// Whether we have it; changes as that changes.
    pub(crate) fn held(&self) -> watch::Receiver<Option<bool>> {
        self.held.subscribe()
    }

    /// Takes the lease whenever it is free and keeps it, until the future is dropped.
    pub(crate) async fn follow(&self) {
        loop {
            self.acquire().await;
            tracing::info!(lease = self.name, identity = self.identity, "leading");
            self.held.send_replace(Some(true));
            self.renew().await;
            tracing::warn!(lease = self.name, identity = self.identity, "no longer leading");
            self.held.send_replace(Some(false));
            tokio::time::sleep(self.pace.renew_within.min(STAND_BACK)).await;
        }
    }

    /// Resolves when this process has the lease.
    async fn acquire(&self) {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(error = message_of(&error), "leader election"),
            }
            self.held.send_if_modified(|held| held.replace(false) != Some(false));
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<(Option<String>, Instant)>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(self.name).await? else {
            return taken(self.api.create(&PostParams::default(), &self.renewed(None)).await);
        };
        let version = lease.metadata.resource_version.clone();
        if seen.as_ref().is_none_or(|(before, _)| *before != version) {
            *seen = Some((version, Instant::now()));
        }
        let quiet = seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        if !may_take(&lease, &self.identity, quiet) {
            return Ok(false);
        }
        taken(self.api.replace(self.name, &PostParams::default(), &self.renewed(Some(lease))).await)
    }

    /// Keeps the lease; resolves when that has failed for too long, or when somebody else has it.
    async fn renew(&self) {
        let Pace { renew_within, period, .. } = self.pace;
        let mut last = Instant::now();
        while last.elapsed() < renew_within {
            tokio::time::sleep(period.min(renew_within.saturating_sub(last.elapsed()))).await;
            match tokio::time::timeout(renew_within - period, self.renew_once()).await {
                Ok(Ok(true)) => last = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::warn!(
                        lease = self.name,
                        error = message_of(&error),
                        "renew the lease of the leader"
                    );
                }
                Err(_) => {
                    tracing::warn!(lease = self.name, "renewing the lease of the leader takes too long")
                }
            }
        }
    }

    /// Answers whether the lease is still ours.
    async fn renew_once(&self) -> Result<bool, kube::Error> {
        let lease = match self.api.get(self.name).await {
            Err(error) if is_not_found(&error) => return Ok(false),
            other => other?,
        };
        if holder(&lease) != Some(&*self.identity) {
            return Ok(false);
        }
        taken(self.api.replace(self.name, &PostParams::default(), &self.renewed(Some(lease))).await)
    }

    /// Lets the next one begin at once.
    pub(crate) async fn release(&self) {
        let Ok(mut lease) = self.api.get(self.name).await else { return };
        if holder(&lease) != Some(&*self.identity) {
            return;
        }
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
        }
        if let Err(error) = self.api.replace(self.name, &PostParams::default(), &lease).await {
            tracing::debug!(error = message_of(&error), "release the lease of the leader");
        }
    }

    fn renewed(&self, old: Option<Lease>) -> Lease {
        renewed(old, (self.name, &self.identity), self.pace.duration, Timestamp::now())
    }
}

/// A conflict means that somebody else was faster.
fn taken(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if is_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn may_take(lease: &Lease, identity: &str, quiet: Duration) -> bool {
    let seconds = lease.spec.as_ref().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    let duration = seconds.map_or(Pace::SHARED.duration, Duration::from_secs);
    holder(lease).is_none_or(|holder| holder == identity) || quiet >= duration
}

/// The lease in our hands from now on.
fn renewed(old: Option<Lease>, (name, identity): (&str, &str), duration: Duration, now: Timestamp) -> Lease {
    let mut lease = old.unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: None,
    });
    let known = holder(&lease) == Some(identity);
    let spec = lease.spec.take().unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(duration.as_secs()).ok(),
        acquire_time: spec.acquire_time.filter(|_| known).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(spec.lease_transitions.unwrap_or(0) + i32::from(!known)),
        ..spec
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_passes_on_when_its_holder_is_silent_or_lets_go() {
        let duration = Pace::ALONE.duration;
        let by = |old: Option<&Lease>, who: &str| {
            renewed(old.cloned(), ("kube-scheduler", who), duration, Timestamp::now())
        };
        let mine = by(None, "me");
        assert!(may_take(&mine, "me", Duration::ZERO));
        assert!(!may_take(&mine, "other", duration - Pace::ALONE.period));
        assert!(may_take(&mine, "other", duration));
        let theirs = by(Some(&mine), "other");
        assert_eq!(theirs.spec.as_ref().unwrap().lease_transitions, Some(2));
        let again = by(Some(&theirs), "other");
        let acquired = |lease: &Lease| lease.spec.as_ref().unwrap().acquire_time.clone();
        assert_eq!(acquired(&again), acquired(&theirs));
        assert_eq!(again.spec.as_ref().unwrap().lease_transitions, Some(2));
        let mut free = theirs;
        free.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert!(may_take(&free, "me", Duration::ZERO));
    }

    #[test]
    fn a_leader_has_time_to_stop_before_the_next_one_begins() {
        for pace in [Pace::SHARED, Pace::ALONE] {
            assert!(pace.renew_within < pace.duration && pace.period * 2 <= pace.renew_within, "{pace:?}");
        }
    }
}
