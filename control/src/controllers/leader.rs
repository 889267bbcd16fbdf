//! Leader election: of several control planes on one store, one runs scheduler and controllers; the others wait.
//!
//! The leader's name and the time of its last sign of life stand in a Lease, written with the version it was read
//! at, so that two can never both succeed. Time is only compared with the own clock: a lease is dead when it has not
//! changed for its duration, as seen from here. A leader that cannot renew stops before anybody else may begin.

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use std::future::Future;
use std::time::Duration;
use tokio::time::Instant;

const NAME: &str = "kube-controller-manager";
const NAMESPACE: &str = "kube-system";
/// Silence after which a leader counts as gone.
const DURATION: Duration = Duration::from_secs(15);
/// A leader that could not renew for so long steps down.
const RENEW_WITHIN: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_secs(2);

/// Runs `work` while this process leads, again and again; returns when the work returns by itself.
pub(crate) async fn lead<F>(client: &Client, identity: &str, mut work: impl FnMut() -> F)
where
    F: Future<Output = ()>,
{
    let candidate = Candidate { api: Api::namespaced(client.clone(), NAMESPACE), identity };
    loop {
        candidate.acquire().await;
        tracing::info!(identity, "leading");
        tokio::select! {
            () = work() => return candidate.release().await,
            () = candidate.renew() => tracing::warn!(identity, "no longer leading"),
        }
    }
}

struct Candidate<'a> {
    api: Api<Lease>,
    identity: &'a str,
}

impl Candidate<'_> {
    /// Resolves when this process is the leader.
    async fn acquire(&self) {
        let mut seen: Option<(Option<String>, Instant)> = None;
        loop {
            match self.try_acquire(&mut seen).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::debug!(%error, "leader election"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    async fn try_acquire(&self, seen: &mut Option<(Option<String>, Instant)>) -> Result<bool, kube::Error> {
        let Some(lease) = self.api.get_opt(NAME).await? else {
            let lease = renewed(None, self.identity, Timestamp::now());
            return taken(self.api.create(&PostParams::default(), &lease).await);
        };
        let version = lease.metadata.resource_version.clone();
        if seen.as_ref().is_none_or(|(before, _)| *before != version) {
            *seen = Some((version, Instant::now()));
        }
        let quiet = seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        if !may_take(&lease, self.identity, quiet) {
            return Ok(false);
        }
        let lease = renewed(Some(lease), self.identity, Timestamp::now());
        taken(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }

    /// Keeps the lease; resolves when that has failed for too long, or when somebody else has it.
    async fn renew(&self) {
        let mut last = Instant::now();
        while last.elapsed() < RENEW_WITHIN {
            tokio::time::sleep(PERIOD).await;
            match tokio::time::timeout(RENEW_WITHIN - PERIOD, self.renew_once()).await {
                Ok(Ok(true)) => last = Instant::now(),
                Ok(Ok(false)) => return,
                Ok(Err(error)) => tracing::warn!(%error, "renew the lease of the leader"),
                Err(_) => tracing::warn!("renewing the lease of the leader takes too long"),
            }
        }
    }

    /// Answers whether the lease is still ours.
    async fn renew_once(&self) -> Result<bool, kube::Error> {
        let lease = self.api.get(NAME).await?;
        if holder(&lease) != Some(self.identity) {
            return Ok(false);
        }
        let lease = renewed(Some(lease), self.identity, Timestamp::now());
        taken(self.api.replace(NAME, &PostParams::default(), &lease).await)
    }

    /// Lets the next one begin at once.
    async fn release(&self) {
        let Ok(mut lease) = self.api.get(NAME).await else { return };
        if holder(&lease) == Some(self.identity) {
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = Some(String::new());
            }
            if let Err(error) = self.api.replace(NAME, &PostParams::default(), &lease).await {
                tracing::debug!(%error, "release the lease of the leader");
            }
        }
    }
}

/// A conflict means that somebody else was faster.
fn taken(result: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if super::runner::is_conflict(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

fn may_take(lease: &Lease, identity: &str, quiet: Duration) -> bool {
    holder(lease).is_none_or(|holder| holder == identity) || quiet >= DURATION
}

/// The lease in our hands from now on.
fn renewed(old: Option<Lease>, identity: &str, now: Timestamp) -> Lease {
    let mut lease = old.unwrap_or_else(|| Lease {
        metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
        spec: None,
    });
    let known = holder(&lease) == Some(identity);
    let spec = lease.spec.take().unwrap_or_default();
    lease.spec = Some(LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
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
        let mine = renewed(None, "me", Timestamp::now());
        assert!(may_take(&mine, "me", Duration::ZERO));
        assert!(!may_take(&mine, "other", DURATION - PERIOD));
        assert!(may_take(&mine, "other", DURATION));
        let theirs = renewed(Some(mine.clone()), "other", Timestamp::now());
        assert_eq!(theirs.spec.as_ref().unwrap().lease_transitions, Some(2));
        let again = renewed(Some(theirs.clone()), "other", Timestamp::now());
        let acquired = |lease: &Lease| lease.spec.as_ref().unwrap().acquire_time.clone();
        assert_eq!(acquired(&again), acquired(&theirs));
        assert_eq!(again.spec.as_ref().unwrap().lease_transitions, Some(2));
        let mut free = theirs;
        free.spec.as_mut().unwrap().holder_identity = Some(String::new());
        assert!(may_take(&free, "me", Duration::ZERO));
    }
}
