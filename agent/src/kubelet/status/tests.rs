//! Statuses of pods in every stage of their life, as tables.

use super::*;
use crate::kubelet::observed::{ObservedContainer, RunState, Sandbox};
use crate::kubelet::plan::Health;
use k8s_openapi::api::core::v1::PodCondition;
use serde_json::{Value, json};
use std::time::Duration;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A container `name` in `state`; the exit code counts for dead ones.
fn observed(name: &str, state: RunState, exit_code: i32) -> ObservedContainer {
    ObservedContainer {
        id: format!("{name}-id"),
        sandbox_id: "s".into(),
        name: name.into(),
        restart_count: 0,
        hash: String::new(),
        state,
        created_at: at(1),
        started_at: Some(at(2)),
        finished_at: Some(at(3)),
        exit_code,
        reason: if exit_code == 0 { "Completed".into() } else { "Error".into() },
        message: String::new(),
        image: "i".into(),
        image_id: "sha256:i".into(),
        log_path: String::new(),
        termination_message: None,
        granted: None,
        user: None,
    }
}

/// A world around one pod, changed by each test.
struct Case {
    pod: Pod,
    previous: PodStatus,
    observed: ObservedPod,
    memory: Memory,
    waiting: BTreeMap<String, Waiting>,
    ending: Option<Ending>,
    blocked: Option<(String, String)>,
    stopped: bool,
}

impl Case {
    fn new(spec: Value, containers: Vec<ObservedContainer>) -> Case {
        let pod = json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec});
        let sandbox = Sandbox {
            id: "s".into(),
            ready: true,
            created_at: at(1),
            attempt: 0,
            ips: vec!["10.0.0.9".into()],
        };
        Case {
            pod: serde_json::from_value(pod).unwrap(),
            previous: PodStatus::default(),
            observed: ObservedPod { sandboxes: vec![sandbox], containers },
            memory: Memory::default(),
            waiting: BTreeMap::new(),
            ending: None,
            blocked: None,
            stopped: false,
        }
    }

    fn status(&self) -> PodStatus {
        pod_status(Inputs {
            pod: &self.pod,
            previous: &self.previous,
            observed: &self.observed,
            memory: &self.memory,
            waiting: &self.waiting,
            messages: &BTreeMap::new(),
            ending: self.ending.as_ref(),
            blocked: self.blocked.as_ref(),
            stopped: self.stopped,
            host_ips: &["192.0.2.1".to_string()],
            runtime_name: "knarr",
            start_time: at(0),
            now: at(10),
        })
    }
}

fn condition(status: &PodStatus, kind: &str) -> PodCondition {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind).unwrap().clone()
}

fn main(policy: &str) -> Value {
    json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]})
}

#[test]
fn phases() {
    use RunState::{Exited, Running};
    let a_b = |a: (RunState, i32), b: (RunState, i32)| vec![observed("a", a.0, a.1), observed("b", b.0, b.1)];
    let cases = [
        ("nothing yet", main("Always"), vec![], "Pending"),
        ("one has not begun", main("Always"), vec![observed("a", Running, 0)], "Pending"),
        ("both run", main("Always"), a_b((Running, 0), (Running, 0)), "Running"),
        ("one has ended", main("Never"), a_b((Running, 0), (Exited, 1)), "Running"),
        ("both ended well", main("Never"), a_b((Exited, 0), (Exited, 0)), "Succeeded"),
        ("one ended badly", main("Never"), a_b((Exited, 0), (Exited, 1)), "Failed"),
        ("will be tried again", main("OnFailure"), a_b((Exited, 0), (Exited, 1)), "Running"),
        ("ended, but always restarted", main("Always"), a_b((Exited, 0), (Exited, 0)), "Running"),
    ];
    for (what, spec, containers, expected) in cases {
        let status = Case::new(spec, containers).status();
        assert_eq!(status.phase.as_deref(), Some(expected), "{what}");
    }
}

/// After a reboot the containers of before are still known while the init containers run again.
#[test]
fn a_pod_that_begins_anew_is_pending() {
    let spec = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]});
    for (state, expected) in [(RunState::Running, "Pending"), (RunState::Exited, "Running")] {
        let containers = vec![observed("i", state, 0), observed("a", RunState::Exited, 137)];
        let status = Case::new(spec.clone(), containers).status();
        assert_eq!(status.phase.as_deref(), Some(expected));
    }
}

#[test]
fn a_final_phase_never_changes_back() {
    let mut case = Case::new(main("Never"), vec![observed("a", RunState::Running, 0)]);
    case.previous.phase = Some("Failed".into());
    case.previous.reason = Some("Evicted".into());
    let status = case.status();
    assert_eq!((status.phase.as_deref(), status.reason.as_deref()), (Some("Failed"), Some("Evicted")));
}

/// A pod whose image is changed is not seen without its container, if the next one starts within a second.
#[test]
fn an_end_that_makes_room_for_a_successor_is_told_a_moment_later() {
    let mut case =
        Case::new(json!({"containers": [{"name": "a"}]}), vec![observed("a", RunState::Running, 0)]);
    case.previous = case.status();
    let ready = |status: &PodStatus| condition(status, "Ready").status == "True";
    assert!(ready(&case.previous));
    let mut ended = observed("a", RunState::Exited, 137);
    ended.finished_at = Some(at(9));
    case.observed.containers = vec![ended.clone()];
    assert!(!ready(&case.status()), "it ended by itself");
    case.memory.replaced.insert(ended.id.clone(), None);
    assert!(!ready(&case.status()), "a second ago");
    case.observed.containers[0].finished_at = Some(at(9) + Duration::from_millis(1));
    let told = next_told(&case.observed, &case.memory, at(10));
    assert_eq!(told, Some(at(10) + Duration::from_millis(1)));
    let mut next = observed("a", RunState::Created, 0);
    (next.id, next.restart_count) = ("next".into(), 1);
    case.observed.containers.insert(0, next);
    assert_eq!(case.status(), case.previous);
    case.waiting.insert("a".into(), Waiting { reason: "ErrImagePull".into(), message: String::new() });
    assert!(!ready(&case.status()), "its successor cannot start");
    case.waiting.clear();
    case.observed.containers[0].state = RunState::Running;
    let status = case.status();
    assert!(ready(&status));
    assert_eq!(status.container_statuses.unwrap()[0].restart_count, 1);
    case.ending = Some(Ending { grace: Duration::ZERO, remove: true, failure: None });
    case.observed.containers.remove(0);
    assert!(!ready(&case.status()), "the pod ends");
}

#[test]
fn a_pod_is_not_over_while_a_successor_is_awaited() {
    for policy in ["OnFailure", "Never"] {
        let ended = vec![observed("a", RunState::Exited, 0), observed("b", RunState::Exited, 0)];
        let mut case = Case::new(main(policy), ended);
        assert_eq!(case.status().phase.as_deref(), Some("Succeeded"));
        case.memory.replaced.insert("b-id".into(), None);
        assert_eq!(case.status().phase.as_deref(), Some("Running"), "{policy}");
    }
}

#[test]
fn what_the_node_ends_has_failed_for_its_reason() {
    let mut case = Case::new(main("Always"), vec![observed("a", RunState::Exited, 137)]);
    let failure = Some(("Evicted".to_string(), "low on resource".to_string()));
    case.ending = Some(Ending { grace: Duration::ZERO, remove: false, failure });
    case.stopped = true;
    let status = case.status();
    assert_eq!(status.phase.as_deref(), Some("Failed"));
    assert_eq!(
        (status.reason.as_deref(), status.message.as_deref()),
        (Some("Evicted"), Some("low on resource"))
    );
}

#[test]
fn init_containers_gate_everything() {
    let spec = json!({"initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
        "containers": [{"name": "a"}]});
    let case = Case::new(spec.clone(), vec![observed("i", RunState::Running, 0)]);
    let status = case.status();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    let initialized = condition(&status, "Initialized");
    assert_eq!(initialized.reason.as_deref(), Some("ContainersNotInitialized"));
    assert_eq!(initialized.message.as_deref(), Some("containers with incomplete status: [i s]"));
    let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("PodInitializing"));
    let all = [("i", RunState::Exited), ("s", RunState::Running), ("a", RunState::Running)];
    let status = Case::new(spec, all.map(|(name, state)| observed(name, state, 0)).into()).status();
    assert_eq!(status.phase.as_deref(), Some("Running"));
    for kind in ["Initialized", "Ready", "ContainersReady", "PodReadyToStartContainers", "PodScheduled"] {
        assert_eq!(condition(&status, kind).status, "True", "{kind}");
    }
}

#[test]
fn probes_and_gates_decide_readiness() {
    let spec = json!({"readinessGates": [{"conditionType": "g"}],
        "containers": [{"name": "a", "readinessProbe": {"tcpSocket": {"port": 1}}}]});
    let mut case = Case::new(spec, vec![observed("a", RunState::Running, 0)]);
    let status = case.status();
    let ready = condition(&status, "ContainersReady");
    assert_eq!(ready.message.as_deref(), Some("containers with unready status: [a]"));
    case.memory.health.insert("a-id".into(), Health { started: true, ready: true, unhealthy: None });
    let status = case.status();
    assert_eq!(condition(&status, "ContainersReady").status, "True");
    let ready = condition(&status, "Ready");
    assert_eq!(ready.reason.as_deref(), Some("ReadinessGatesNotReady"));
    assert_eq!(
        ready.message.as_deref(),
        Some("corresponding condition of pod readiness gate \"g\" does not exist.")
    );
    let gate = json!({"conditions": [{"type": "g", "status": "True"}]});
    case.pod.status = serde_json::from_value(gate).unwrap();
    let status = case.status();
    assert_eq!(condition(&status, "Ready").status, "True");
    assert_eq!(condition(&status, "g").status, "True", "what others wrote stays");
}

#[test]
fn a_condition_keeps_the_time_of_its_change() {
    let mut case = Case::new(main("Always"), vec![]);
    case.previous = serde_json::from_value(json!({"conditions": [
        {"type": "Ready", "status": "False", "lastTransitionTime": "1970-01-01T00:00:05Z"},
        {"type": "Initialized", "status": "False", "lastTransitionTime": "1970-01-01T00:00:05Z"}]}))
    .unwrap();
    let status = case.status();
    assert_eq!(condition(&status, "Ready").last_transition_time, Some(Time(at(5))));
    assert_eq!(condition(&status, "Initialized").last_transition_time, Some(Time(at(10))));
}

#[test]
fn containers_wait_run_and_end() {
    let mut case = Case::new(main("Always"), vec![observed("a", RunState::Exited, 3)]);
    let reason = Waiting { reason: "CrashLoopBackOff".into(), message: "back-off 10s".into() };
    case.waiting.insert("a".into(), reason);
    let statuses = case.status().container_statuses.unwrap();
    let waiting = statuses[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("CrashLoopBackOff"));
    let last = statuses[0].last_state.clone().unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (3, Some("Error")));
    assert_eq!(last.container_id.as_deref(), Some("knarr://a-id"));
    assert_eq!(statuses[0].started, Some(false));
    let second = statuses[1].state.clone().unwrap().waiting.unwrap();
    assert_eq!(second.reason.as_deref(), Some("ContainerCreating"));
    let lost = Case::new(main("Never"), vec![observed("a", RunState::Unknown, 0)]).status();
    let lost = lost.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((lost.exit_code, lost.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn a_restart_is_shown_as_waiting_until_it_runs() {
    let mut case = Case::new(main("Always"), vec![observed("a", RunState::Exited, 3)]);
    let reason = Waiting { reason: "CrashLoopBackOff".into(), message: "back-off 10s".into() };
    case.waiting.insert("a".into(), reason);
    case.previous = case.status();
    case.waiting.clear();
    assert_eq!(case.status().container_statuses, case.previous.container_statuses, "it is being started");
    let mut next = observed("a", RunState::Created, 0);
    (next.id, next.restart_count) = ("next".into(), 1);
    case.observed.containers.insert(0, next);
    assert_eq!(case.status().container_statuses, case.previous.container_statuses, "it is made");
    case.observed.containers[0].state = RunState::Running;
    let running = case.status().container_statuses.unwrap().remove(0);
    assert!(running.state.unwrap().running.is_some());
    assert_eq!((running.restart_count, running.last_state.unwrap().terminated.unwrap().exit_code), (1, 3));
}

#[test]
fn a_pod_that_is_taken_away_has_ended() {
    let ended = |previous: &PodStatus, mut case: Case| {
        case.previous = previous.clone();
        case.ending = Some(Ending { grace: Duration::ZERO, remove: true, failure: None });
        case.stopped = true;
        case.status()
    };
    let run = Case::new(main("Always"), ["a", "b"].map(|name| observed(name, RunState::Exited, 0)).into());
    let before = run.status();
    let status = ended(&before, Case::new(main("Always"), vec![]));
    assert_eq!(status.phase.as_deref(), Some("Succeeded"), "as it was seen last");
    assert_eq!(status.container_statuses, before.container_statuses);
    let status = ended(&PodStatus::default(), Case::new(main("Always"), vec![]));
    assert_eq!(status.phase.as_deref(), Some("Failed"), "nothing ever ran");
    let first = status.container_statuses.unwrap()[0].state.clone().unwrap().terminated.unwrap();
    assert_eq!((first.exit_code, first.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
}

#[test]
fn who_wrote_too_much_is_no_victim_of_the_node() {
    let target = |message: &str| {
        let mut case = Case::new(main("Always"), vec![observed("a", RunState::Exited, 137)]);
        let failure = Some(("Evicted".to_string(), message.to_string()));
        case.ending = Some(Ending { grace: Duration::ZERO, remove: false, failure });
        let conditions = case.status().conditions.unwrap_or_default();
        conditions.iter().any(|condition| condition.type_ == "DisruptionTarget")
    };
    assert!(target("The node was low on resource: memory. "));
    assert!(!target("Usage of EmptyDir volume \"v\" exceeds the limit \"1Mi\". "));
    assert!(target(crate::kubelet::admission::PREEMPTED), "a critical pod needed the room");
}

#[test]
fn addresses_are_the_sandboxes_or_the_nodes() {
    let addresses = |spec: Value| {
        let status = Case::new(spec, vec![]).status();
        (status.pod_ip.unwrap(), status.host_ip.unwrap())
    };
    assert_eq!(addresses(json!({"containers": []})), ("10.0.0.9".into(), "192.0.2.1".into()));
    assert_eq!(
        addresses(json!({"hostNetwork": true, "containers": []})),
        ("192.0.2.1".into(), "192.0.2.1".into())
    );
}

/// A pod that is held back says why, and loses the words with its end.
#[test]
fn a_pod_that_is_held_back_says_why() {
    let mut case = Case::new(main("Always"), vec![]);
    case.blocked = Some(("AppArmor".into(), "Cannot enforce AppArmor".into()));
    case.waiting = ["a", "b"]
        .map(|name| (name.into(), Waiting { reason: "Blocked".into(), message: String::new() }))
        .into();
    let status = case.status();
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(status.reason.as_deref(), Some("AppArmor"));
    assert_eq!(status.message.as_deref(), Some("Cannot enforce AppArmor"));
    let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
    assert_eq!((waiting.reason.as_deref(), waiting.message), (Some("Blocked"), None));
}
