//! CronJob: a job for every time its schedule names, as many side by side as its policy allows.
//!
//! The name of a job carries the minute it is for, so that no time is served twice, whoever tries again.

mod plan;

use super::events::{Recorder, Severity};
use super::informer::{Key, Lister};
use super::runner::{Next, Reconcile, ignore_not_found, is_conflict, message_of};
use super::status;
use super::wiring::{Plane, Task, WORKERS, Wire, owner_key};
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt};
use plan::Plan;
use std::sync::Arc;

/// Woken by its cron jobs, their jobs, and the clock.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("cronjob", plane);
    let cron_jobs = wire.keys::<CronJob>();
    let jobs = wire.owned::<Job>("CronJob");
    let recorder = Recorder::new(wire.client(), "cronjob-controller");
    let controller = CronJobs { client: wire.client(), cron_jobs, jobs, recorder };
    wire.run(WORKERS, controller)
}

/// Everything one reconcile needs.
pub(crate) struct CronJobs {
    client: Client,
    cron_jobs: Lister<CronJob>,
    jobs: Lister<Job>,
    recorder: Recorder,
}

impl Reconcile for CronJobs {
    /// Starts the job that is due, forgets those that have ended, and waits for the next time.
    async fn reconcile(&self, key: Key) -> Result<Next, kube::Error> {
        let Some(cron) = self.cron_jobs.get(&key) else { return Ok(Next::Wait) };
        let mut jobs = self.jobs.claimable(&key.namespace, cron.metadata.uid.as_deref().unwrap_or_default());
        jobs.retain(|job| {
            owner_key(&**job, "CronJob").as_ref() == Some(&key)
                && job.owner_references().iter().any(|owner| Some(&owner.uid) == cron.metadata.uid.as_ref())
        });
        let plan = plan::plan(&cron, &jobs, Timestamp::now());
        if !plan.surprised {
            return self.act(&cron, plan).await;
        }
        // What the copies do not agree about may be what this controller did a moment ago.
        let Some((cron, jobs)) = self.look_again(&cron, jobs).await? else { return Ok(Next::Wait) };
        self.act(&cron, plan::plan(&cron, &jobs, Timestamp::now())).await
    }
}

impl CronJobs {
    /// The cron job as it is now, and of its active jobs those that no copy tells of yet.
    async fn look_again(
        &self,
        cron: &CronJob,
        mut jobs: Vec<Arc<Job>>,
    ) -> Result<Option<(CronJob, Vec<Arc<Job>>)>, kube::Error> {
        let api: Api<CronJob> = Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default());
        let present = api.get_opt(&cron.name_any()).await?;
        let Some(cron) = present.filter(|present| present.metadata.uid == cron.metadata.uid) else {
            return Ok(None);
        };
        let active = cron.status.iter().flat_map(|status| status.active.iter().flatten());
        for one in active.filter(|one| one.uid.is_some()) {
            if jobs.iter().any(|job| job.metadata.uid == one.uid) {
                continue;
            }
            let found = self.api(&cron).get_opt(one.name.as_deref().unwrap_or_default()).await?;
            jobs.extend(found.filter(|job| job.metadata.uid == one.uid).map(Arc::new));
        }
        Ok(Some((cron, jobs)))
    }

    async fn act(&self, cron: &CronJob, mut plan: Plan) -> Result<Next, kube::Error> {
        for (severity, reason, message) in std::mem::take(&mut plan.events) {
            self.recorder.record(cron, severity, reason, message);
        }
        let mut failure = None;
        for job in &plan.delete {
            failure = self.delete(cron, job).await.err().or(failure);
        }
        if let Some(job) = plan.create.take().filter(|_| failure.is_none()) {
            match self.create(cron, &job).await {
                Ok(created) => plan.started(&created),
                Err(error) => failure = Some(error),
            }
        }
        if cron.status.as_ref() != Some(&plan.status) {
            let written = CronJob { status: Some(plan.status), ..cron.clone() };
            status::replace(&self.client, &written).await?;
        }
        failure.map_or(Ok(plan.next), Err)
    }

    /// A job of that name and of this owner was made before, and only the status was lost.
    async fn create(&self, cron: &CronJob, job: &Job) -> Result<Job, kube::Error> {
        let api = self.api(cron);
        match api.create(&PostParams::default(), job).await {
            Ok(created) => {
                let message = format!("Created job {}", created.name_any());
                self.recorder.record(cron, Severity::Normal, "SuccessfulCreate", message);
                Ok(created)
            }
            Err(error) if is_conflict(&error) => {
                let known = api.get(&job.name_any()).await?;
                let ours = known
                    .owner_references()
                    .iter()
                    .any(|owner| Some(&owner.uid) == cron.metadata.uid.as_ref());
                if ours { Ok(known) } else { Err(error) }
            }
            Err(error) => {
                let message = format!("Error creating job: {}", message_of(&error));
                self.recorder.record(cron, Severity::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn delete(&self, cron: &CronJob, job: &Arc<Job>) -> Result<(), kube::Error> {
        let name = job.name_any();
        match ignore_not_found(self.api(cron).delete(&name, &DeleteParams::background()).await) {
            Ok(()) => {
                let message = format!("Deleted job {name}");
                self.recorder.record(cron, Severity::Normal, "SuccessfulDelete", message);
                Ok(())
            }
            Err(error) => {
                let message = format!("Deleted job: {}", message_of(&error));
                self.recorder.record(cron, Severity::Warning, "FailedDelete", message);
                Err(error)
            }
        }
    }

    fn api(&self, cron: &CronJob) -> Api<Job> {
        Api::namespaced(self.client.clone(), &cron.namespace().unwrap_or_default())
    }
}
