//! ReplicationController: the older form of a replica set, with a plain map as its selector. It is read as one, and
//! works as one.

use super::replica_set::{ReplicaSets, Replicated};
use super::wiring::{Plane, Task, WORKERS, Wire};
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use std::borrow::Cow;

/// Woken by its controllers and their pods.
pub(crate) fn wire(plane: &mut Plane) -> Task {
    let mut wire = Wire::new("replicationcontroller", plane);
    let replicated = wire.keys::<ReplicationController>();
    let control = wire.pods::<ReplicationController>("replication-controller", |object| object.selector());
    let controller = ReplicaSets { client: wire.client(), replicated, control };
    wire.run(WORKERS, controller)
}

impl Replicated for ReplicationController {
    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.as_ref();
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: Some(ReplicaSetSpec {
                replicas: spec.and_then(|spec| spec.replicas),
                min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds),
                selector: self.selector().unwrap_or_default(),
                template: spec.and_then(|spec| spec.template.clone()),
            }),
            status: self.status.clone().map(|status| ReplicaSetStatus {
                replicas: status.replicas,
                ready_replicas: status.ready_replicas,
                available_replicas: status.available_replicas,
                fully_labeled_replicas: status.fully_labeled_replicas,
                observed_generation: status.observed_generation,
                conditions: status.conditions.map(|all| all.into_iter().map(newer).collect()),
                terminating_replicas: None,
            }),
        })
    }

    fn selector(&self) -> Option<LabelSelector> {
        let labels = self.spec.as_ref()?.selector.clone().filter(|labels| !labels.is_empty())?;
        Some(LabelSelector { match_labels: Some(labels), match_expressions: None })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let status = ReplicationControllerStatus {
            replicas: status.replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|all| all.into_iter().map(older).collect()),
        };
        Self { status: Some(status), ..self.clone() }
    }
}

fn newer(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}

fn older(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}
