//! The leases of scheduler and controllers between us and others who would do the same work.

use super::*;
use crate::controllers::leader::{Chair, Pace};
use k8s_openapi::api::coordination::v1::Lease;

const NAME: &str = "kube-scheduler-of-a-test";
const PACE: Pace = Pace {
    duration: Duration::from_secs(60),
    renew_within: Duration::from_secs(4),
    period: Duration::from_secs(1),
};

async fn hand_to(leases: &Api<Lease>, holder: &str) {
    let lease = Patch::Merge(json!({"spec": {"holderIdentity": holder}}));
    leases.patch(NAME, &PatchParams::default(), &lease).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_the_lease_works_alone() {
    let directory = tempfile::tempdir().unwrap();
    let plane = plane(directory.path()).await;
    let leases: Api<Lease> = Api::namespaced(plane.client(), "kube-system");
    for name in ["kube-scheduler", "kube-controller-manager"] {
        let held = until(leases.clone(), name, |lease: &Lease| lease.spec.is_some()).await;
        assert_eq!(held.spec.unwrap().lease_duration_seconds, Some(90), "{name}");
    }
    let chair = Chair::new(&plane.client(), NAME, "ours", PACE);
    let mut held = chair.held();
    let is = |wanted: bool| move |held: &Option<bool>| *held == Some(wanted);
    let play = async {
        held.wait_for(is(true)).await.unwrap();
        hand_to(&leases, "theirs").await;
        held.wait_for(is(false)).await.unwrap();
        let lease = leases.get(NAME).await.unwrap();
        assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some("theirs"));
        hand_to(&leases, "").await;
        held.wait_for(is(true)).await.unwrap();
    };
    tokio::select! {
        () = chair.follow() => {}
        done = tokio::time::timeout(DEADLINE, play) => done.expect("the lease goes there and back"),
    }
    chair.release().await;
    let lease = leases.get(NAME).await.unwrap();
    assert_eq!(lease.spec.unwrap().holder_identity.as_deref(), Some(""));
    plane.shutdown().await.unwrap();
}
