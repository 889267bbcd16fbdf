//! The planner's decisions as tables and properties.

use super::*;
use crate::kubelet::backoff::Backoff;
use crate::kubelet::observed::{Granted, ObservedContainer, RunState, Sandbox};
use crate::kubelet::resources;
use proptest::prelude::*;
use serde_json::json;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}))
        .unwrap()
}

fn sandbox(ready: bool) -> Sandbox {
    Sandbox { id: "s0".into(), ready, created_at: at(0), attempt: 0, ips: vec!["10.0.0.2".into()] }
}

/// A container in the first sandbox; its id is its name and number.
fn container(
    pod: &Pod,
    name: &str,
    restart_count: u32,
    state: RunState,
    exit_code: i32,
) -> ObservedContainer {
    let hash = pod::find_container(pod, name).map(|(_, c)| pod::container_hash(&c)).unwrap_or_default();
    ObservedContainer {
        id: format!("{name}{restart_count}"),
        sandbox_id: "s0".into(),
        name: name.into(),
        restart_count,
        hash,
        state,
        created_at: at(i64::from(restart_count)),
        started_at: Some(at(10)),
        finished_at: (state == RunState::Exited).then(|| at(100)),
        exit_code,
        reason: String::new(),
        message: String::new(),
        image: "i".into(),
        image_id: "sha256:1".into(),
        log_path: String::new(),
        termination_message: None,
        granted: None,
        user: None,
    }
}

/// The key of a container's back-off.
fn made(pod: &Pod, name: &str) -> (String, String) {
    Memory::made(&pod::find_container(pod, name).unwrap().1)
}

fn decide(pod: &Pod, observed: &ObservedPod, memory: &Memory, now: i64) -> Plan {
    plan(World { pod, observed, memory, ending: None, blocked: false, now: at(now) })
}

fn observed(ready: bool, containers: Vec<ObservedContainer>) -> ObservedPod {
    let mut containers = containers;
    containers.sort_by_key(|c| std::cmp::Reverse((c.restart_count, c.created_at)));
    ObservedPod { sandboxes: vec![sandbox(ready)], containers }
}

/// Names of containers to start.
fn starts(plan: &Plan) -> Vec<&str> {
    let names = plan.actions.iter().filter_map(|action| match action {
        Action::Start { container, .. } => Some(container.as_str()),
        _ => None,
    });
    names.collect()
}

#[test]
fn a_new_pod_gets_a_sandbox_and_then_its_containers_together() {
    let pod = pod(json!({"containers": [{"name": "a"}, {"name": "b"}]}));
    let memory = Memory::default();
    let first = decide(&pod, &ObservedPod::default(), &memory, 0);
    assert_eq!(first.actions, [Action::CreateSandbox { attempt: 0 }]);
    let second = decide(&pod, &observed(true, vec![]), &memory, 0);
    assert_eq!(starts(&second), ["a", "b"]);
    let running = ["a", "b"].map(|name| container(&pod, name, 0, RunState::Running, 0));
    assert_eq!(decide(&pod, &observed(true, running.into()), &memory, 0), Plan::default());
}

#[test]
fn restart_policies() {
    // policy, exit code, is it started again, is the pod over
    for (policy, exit_code, restarted, completed) in [
        ("Always", 0, true, false),
        ("Always", 1, true, false),
        ("OnFailure", 0, false, true),
        ("OnFailure", 1, true, false),
        ("Never", 0, false, true),
        ("Never", 1, false, true),
    ] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}]}));
        let dead = container(&pod, "a", 0, RunState::Exited, exit_code);
        let plan = decide(&pod, &observed(true, vec![dead]), &Memory::default(), 100);
        assert_eq!(
            (!starts(&plan).is_empty(), plan.completed),
            (restarted, completed),
            "{policy} {exit_code}"
        );
        if completed {
            assert!(matches!(plan.actions[..], [Action::StopPod { .. }]), "the sandbox is let go");
        }
    }
}

#[test]
fn a_crash_loop_waits_from_the_last_exit() {
    use crate::kubelet::backoff::Backoff;
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let world = observed(true, vec![container(&pod, "a", 1, RunState::Exited, 1)]);
    let mut memory = Memory::default();
    let second = Backoff::after_attempt(Some(Backoff::after_attempt(None, at(60))), at(90));
    memory.restarts.insert(made(&pod, "a"), second);
    let waiting = decide(&pod, &world, &memory, 101);
    assert_eq!(waiting.actions, []);
    assert_eq!(waiting.waiting["a"].reason, "CrashLoopBackOff");
    assert_eq!(waiting.waiting["a"].message, "back-off 20s restarting failed container=a pod=p_n(u)");
    assert_eq!(waiting.wake_at, Some(at(120)));
    let expected = Action::Start { container: "a".into(), attempt: 2, after_exit: true };
    assert_eq!(decide(&pod, &world, &memory, 120).actions, std::slice::from_ref(&expected));
    let mended = self::pod(json!({"containers": [{"name": "a", "image": "better"}]}));
    assert_eq!(decide(&mended, &world, &memory, 101).actions, [expected], "another image starts anew");
}

/// What the node ended for its successor is started as if both were one step: the exit before is what counts.
#[test]
fn a_replacement_waits_only_if_the_exit_before_was_recent() {
    let pod = pod(json!({"restartPolicy": "OnFailure", "containers": [{"name": "a"}]}));
    let ended = container(&pod, "a", 1, RunState::Exited, 0);
    let world = observed(true, vec![ended.clone()]);
    let decided = |before: Option<Option<i64>>| {
        let mut memory = Memory::default();
        memory.restarts.insert(made(&pod, "a"), Backoff::after_attempt(None, at(85)));
        memory.replaced.extend(before.map(|before| (ended.id.clone(), before.map(at))));
        let plan = decide(&pod, &world, &memory, 101);
        assert_eq!(plan.completed, before.is_none());
        plan.actions.iter().find_map(|action| match action {
            Action::Start { after_exit, .. } => Some(*after_exit),
            _ => None,
        })
    };
    assert_eq!(decided(None), None, "it ended well by itself");
    assert_eq!(decided(Some(None)), Some(false), "the first exit does not count");
    assert_eq!(decided(Some(Some(89))), Some(true));
    assert_eq!(decided(Some(Some(91))), None, "9 seconds are too few");
}

#[test]
fn ephemeral_containers_start_in_a_pod_that_does_not_get_on() {
    let pod = pod(json!({"initContainers": [{"name": "init"}], "containers": [{"name": "main"}],
        "ephemeralContainers": [{"name": "debug", "image": "i"}]}));
    let stuck = container(&pod, "init", 0, RunState::Running, 0);
    assert_eq!(starts(&decide(&pod, &observed(true, vec![stuck]), &Memory::default(), 0)), ["debug"]);
}

#[test]
fn init_containers_come_one_by_one_and_sidecars_stay() {
    let pod = pod(json!({"restartPolicy": "Never",
        "initContainers": [{"name": "one"}, {"name": "side", "restartPolicy": "Always"}, {"name": "two"}],
        "containers": [{"name": "main"}]}));
    let (memory, running, done) = (Memory::default(), RunState::Running, RunState::Exited);
    let c = |name: &str, state| container(&pod, name, 0, state, 0);
    let steps = [
        (vec![], vec!["one"]),
        (vec![c("one", running)], vec![]),
        (vec![c("one", done)], vec!["side"]),
        (vec![c("one", done), c("side", running)], vec!["two"]),
        (vec![c("one", done), c("side", running), c("two", done)], vec!["main"]),
        (vec![c("one", done), c("side", done), c("two", done), c("main", running)], vec!["side"]),
    ];
    for (containers, expected) in steps {
        assert_eq!(
            starts(&decide(&pod, &observed(true, containers.clone()), &memory, 500)),
            expected,
            "{containers:?}"
        );
    }
    let failed = container(&pod, "one", 0, done, 1);
    assert!(
        decide(&pod, &observed(true, vec![failed]), &memory, 500).completed,
        "a failed init container ends the pod"
    );
    let over = vec![c("one", done), c("side", running), c("two", done), c("main", done)];
    let plan = decide(&pod, &observed(true, over), &memory, 500);
    assert!(
        plan.completed && matches!(plan.actions[..], [Action::StopPod { .. }]),
        "sidecars do not keep a pod alive"
    );
}

#[test]
fn probes_and_edits_replace_a_container() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let mut changed = container(&pod, "a", 0, RunState::Running, 0);
    changed.hash = "other".into();
    let plan = decide(&pod, &observed(true, vec![changed]), &Memory::default(), 0);
    let [Action::Kill { message, replaced: true, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!(message, "Container a definition changed, will be restarted");

    let running = container(&pod, "a", 0, RunState::Running, 0);
    let unhealthy = Some(Unhealthy { probe: "liveness", grace: Some(Duration::from_secs(3)) });
    let mut memory = Memory::default();
    memory.health.insert(running.id.clone(), Health { started: true, ready: true, unhealthy });
    let plan = decide(&pod, &observed(true, vec![running]), &memory, 0);
    let [Action::Kill { message, grace, .. }] = &plan.actions[..] else { panic!("{plan:?}") };
    assert_eq!(message, "Container a failed liveness probe, will be restarted");
    assert_eq!(*grace, Duration::from_secs(3));
}

#[test]
fn a_start_under_way_is_not_shown_as_a_back_off() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let dead = container(&pod, "a", 0, RunState::Exited, 1);
    let finished = dead.finished_at.unwrap();
    let world = observed(true, vec![dead]);
    let mut memory = Memory::default();
    memory.restarts.insert(made(&pod, "a"), Backoff::after_attempt(None, finished));
    let now = finished.as_second() + 1;
    assert_eq!(decide(&pod, &world, &memory, now).waiting["a"].reason, "CrashLoopBackOff");
    memory.starting.insert("a".into());
    assert!(decide(&pod, &world, &memory, now).waiting.is_empty());
}

#[test]
fn failed_pulls_are_shown_as_such_and_then_as_a_back_off() {
    let pod = pod(json!({"containers": [{"name": "a", "image": "x"}]}));
    let mut memory = Memory::default();
    let failure = StartFailure {
        reason: "ErrImagePull".into(),
        message: "m".into(),
        retry_at: at(20),
        then: Some((at(12), "Back-off".into())),
        begun: false,
    };
    memory.failures.insert("a".into(), failure);
    let world = observed(true, vec![]);
    let early = decide(&pod, &world, &memory, 11);
    assert_eq!((early.waiting["a"].reason.as_str(), early.wake_at), ("ErrImagePull", Some(at(12))));
    let later = decide(&pod, &world, &memory, 13);
    assert_eq!((later.waiting["a"].reason.as_str(), later.wake_at), ("ImagePullBackOff", Some(at(20))));
    assert_eq!(starts(&decide(&pod, &world, &memory, 20)), ["a"]);
}

#[test]
fn an_ending_pod_is_stopped_and_forgotten_in_that_order() {
    let pod = pod(json!({"containers": [{"name": "a"}]}));
    let memory = Memory::default();
    let ending = Ending { grace: Duration::from_secs(7), remove: true, failure: None };
    let end = |observed: &ObservedPod| {
        plan(World {
            pod: &pod,
            observed,
            memory: &memory,
            ending: Some(&ending),
            blocked: false,
            now: at(0),
        })
    };
    let running = observed(true, vec![container(&pod, "a", 0, RunState::Running, 0)]);
    assert_eq!(end(&running).actions, [Action::StopPod { grace: Duration::from_secs(7) }]);
    let dead = observed(false, vec![container(&pod, "a", 0, RunState::Exited, 0)]);
    let expected = [Action::RemoveContainer { id: "a0".into() }, Action::RemoveSandbox { id: "s0".into() }];
    assert_eq!(end(&dead).actions, expected);
    let too_late = observed(false, vec![container(&pod, "a", 0, RunState::Created, 0)]);
    assert_eq!(end(&too_late).actions, expected, "made when its sandbox had been stopped");
    assert!(end(&ObservedPod::default()).stopped);
    let kept = Ending { remove: false, ..ending.clone() };
    let plan = plan(World {
        pod: &pod,
        observed: &dead,
        memory: &memory,
        ending: Some(&kept),
        blocked: false,
        now: at(0),
    });
    assert!(plan.stopped && plan.actions.is_empty(), "containers of a failed pod stay for their logs");
}

#[test]
fn other_limits_come_without_a_restart_unless_asked_for() {
    let with = |cpu: &str, policy: &str| {
        pod(json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": cpu, "memory": "1Mi"}},
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": policy}]}]}))
    };
    let before = with("1", "NotRequired");
    let mut running = container(&before, "a", 0, RunState::Running, 0);
    running.granted = Some(wanted(&before, &pod::spec(&before).containers[0]));
    let world = observed(true, vec![running]);
    let mut memory = Memory::default();
    assert!(decide(&before, &world, &memory, 0).actions.is_empty());
    let resize = Action::Resize { id: "a0".into(), container: "a".into() };
    let larger = with("2", "NotRequired");
    assert_eq!(decide(&larger, &world, &memory, 0).actions, [resize]);
    let restarted = decide(&with("2", "RestartContainer"), &world, &memory, 0).actions;
    assert!(
        matches!(&restarted[..], [Action::Kill { message, .. }] if message == "Container a resize requires restart")
    );
    let asked = wanted(&larger, &pod::spec(&larger).containers[0]);
    let mut alone = world.clone();
    alone.containers[0].granted =
        Some(Granted { own_processors: true, memory: 1 << 20, ..Granted::default() });
    assert!(decide(&larger, &alone, &memory, 0).actions.is_empty(), "its processors are its own");
    memory.refused.insert("a0".into(), Refused { wanted: asked, message: "no".into(), retry_at: at(10) });
    let waits = decide(&larger, &world, &memory, 0);
    assert!(waits.actions.is_empty() && waits.wake_at == Some(at(10)), "{waits:?}");
    assert_eq!(decide(&larger, &world, &memory, 10).actions.len(), 1, "it is asked again");
}

#[test]
fn what_cannot_be_granted_waits_and_what_shrinks_never_does() {
    let with =
        |cpu: &str| pod(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": cpu}}}]}));
    let allocatable =
        [("cpu".to_string(), k8s_openapi::apimachinery::pkg::api::resource::Quantity("4".into()))].into();
    let (has, other) = (with("1"), with("2"));
    let ask = |cpu: &str| {
        let pending = resize_pending(&with(cpu), &has, &[&other], &allocatable);
        pending.map(|pending| (pending.reason, pending.message))
    };
    assert_eq!(ask("2"), None);
    assert_eq!(ask("500m"), None);
    let text = "Node didn't have enough resource: cpu, requested: 3000, used: 2000, capacity: 4000";
    assert_eq!(ask("3"), Some(("Deferred", text.to_string())));
    let text = "Node didn't have enough capacity: cpu, requested: 5000, capacity: 4000";
    assert_eq!(ask("5"), Some(("Infeasible", text.to_string())));
    let meanwhile = with_resources_of(&with("3"), &has);
    assert_eq!(resources::pod_request(&meanwhile, "cpu"), 1000);
}

#[test]
fn a_new_agent_knows_what_was_granted_from_the_status() {
    let mut asked = pod(
        json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "3"}}}]}),
    );
    assert_eq!(resources::pod_request(&as_granted(&asked).unwrap_or_else(|| asked.clone()), "cpu"), 3000);
    let status = json!({"conditions": [{"type": RESIZE_PENDING, "status": "True"}],
        "containerStatuses": [{"name": "a", "ready": true, "restartCount": 0, "image": "", "imageID": "",
            "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}}]});
    asked.status = serde_json::from_value(status).unwrap();
    let granted = as_granted(&asked).unwrap();
    assert_eq!(resources::pod_request(&granted, "cpu"), 1000);
    assert_eq!(resources::pod_limit(&granted, "cpu"), Some(2000));
}

/// A runtime that does at once what it is told, and in which `exits` end containers by themselves.
#[derive(Debug, Default)]
struct Model {
    pod: ObservedPod,
    now: i64,
}

impl Model {
    fn act(&mut self, spec: &Pod, action: &Action) {
        match action {
            Action::CreateSandbox { attempt } => {
                assert!(self.pod.sandboxes.iter().all(|s| !s.ready), "two working sandboxes");
                let id = format!("s{attempt}");
                let fresh =
                    Sandbox { id, ready: true, created_at: at(self.now), attempt: *attempt, ips: vec![] };
                self.pod.sandboxes.insert(0, fresh);
            }
            Action::Start { container: name, attempt, .. } => {
                assert!(self.pod.living().all(|c| c.name != *name), "two containers of one name");
                let mut fresh = container(spec, name, *attempt, RunState::Running, 0);
                fresh.sandbox_id = self.pod.ready_sandbox().expect("a start without a sandbox").id.clone();
                fresh.created_at = at(self.now);
                self.pod.containers.insert(0, fresh);
            }
            Action::Kill { id, .. } => self.exit(|c| c.id == *id, 137),
            Action::StopPod { .. } => {
                self.exit(|_| true, 143);
                self.pod.sandboxes.iter_mut().for_each(|s| s.ready = false);
            }
            Action::Resize { id, container: name } => {
                let granted = pod::find_container(spec, name).map(|(_, container)| wanted(spec, &container));
                self.pod.containers.iter_mut().filter(|c| c.id == *id).for_each(|c| c.granted = granted);
            }
            Action::RemoveContainer { id } => self.pod.containers.retain(|c| c.id != *id || !c.is_dead()),
            Action::RemoveSandbox { id } => {
                self.pod.containers.retain(|c| c.sandbox_id != *id);
                self.pod.sandboxes.retain(|s| s.id != *id);
            }
        }
    }

    fn exit(&mut self, which: impl Fn(&ObservedContainer) -> bool, exit_code: i32) {
        let now = at(self.now);
        for container in self.pod.containers.iter_mut().filter(|c| !c.is_dead()).filter(|c| which(c)) {
            container.state = RunState::Exited;
            container.finished_at = Some(now);
            container.exit_code = exit_code;
        }
    }

    /// Plans and acts until nothing is left to do; every real pod settles within a few rounds.
    fn settle(&mut self, spec: &Pod, ending: Option<&Ending>) -> Plan {
        for _ in 0..50 {
            let memory = Memory::default();
            let plan = plan(World {
                pod: spec,
                observed: &self.pod,
                memory: &memory,
                ending,
                blocked: false,
                now: at(self.now),
            });
            if plan.actions.is_empty() {
                return plan;
            }
            plan.actions.iter().for_each(|action| self.act(spec, action));
            self.finish_init(spec);
            self.now += 1;
        }
        panic!("no end: {:?}", self.pod);
    }

    fn finish_init(&mut self, spec: &Pod) {
        let init: Vec<String> = pod::init_containers(spec)
            .filter(|(kind, _)| *kind == pod::Kind::Init)
            .map(|(_, c)| c.name.clone())
            .collect();
        self.exit(|c| init.contains(&c.name), 0);
    }
}

#[derive(Debug, Clone)]
enum Event {
    Exit(usize, i32),
    SandboxDies,
    ImageEdit,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_usize..4, 0..3).prop_map(|(which, code)| Event::Exit(which, code)),
        1 => Just(Event::SandboxDies),
        1 => Just(Event::ImageEdit),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_pod_settles_and_can_be_ended(
        policy in prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")],
        events in proptest::collection::vec(event(), 0..12),
        init in 0_usize..3,
    ) {
        let names = ["i0", "i1"];
        let init: Vec<_> = names[..init.min(2)].iter().map(|name| json!({"name": name})).collect();
        let mut spec = pod(json!({"restartPolicy": policy, "initContainers": init,
            "containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "x"}]}));
        let mut model = Model::default();
        model.settle(&spec, None);
        for (index, event) in events.into_iter().enumerate() {
            match event {
                Event::Exit(which, code) => {
                    let id = model.pod.living().nth(which).map(|c| c.id.clone());
                    model.exit(|c| Some(&c.id) == id.as_ref(), code);
                }
                Event::SandboxDies => model.pod.sandboxes.iter_mut().for_each(|s| s.ready = false),
                Event::ImageEdit => {
                    spec.spec.as_mut().unwrap().containers[0].image = Some(format!("x{index}"));
                }
            }
            let plan = model.settle(&spec, None);
            if policy == "Always" {
                prop_assert!(!plan.completed);
                prop_assert_eq!(model.pod.living().count(), 2);
            }
        }
        let ending = Ending { grace: Duration::ZERO, remove: true, failure: None };
        prop_assert!(model.settle(&spec, Some(&ending)).stopped);
        prop_assert!(model.pod.is_empty());
    }
}

#[test]
fn a_pod_that_the_node_cannot_serve_waits() {
    let pod = pod(json!({"containers": [{"name": "c"}], "initContainers": [{"name": "i"}]}));
    let observed = ObservedPod::default();
    let memory = Memory::default();
    let world =
        World { pod: &pod, observed: &observed, memory: &memory, ending: None, blocked: true, now: at(0) };
    let held = plan(world);
    assert_eq!((held.actions.as_slice(), held.stopped, held.completed), (&[][..], false, false));
    let reasons: Vec<_> =
        held.waiting.iter().map(|(name, waits)| (name.as_str(), waits.reason.as_str())).collect();
    assert_eq!(reasons, [("c", "Blocked"), ("i", "Blocked")]);
    let ending = Ending { grace: std::time::Duration::ZERO, remove: true, failure: None };
    assert!(plan(World { ending: Some(&ending), ..world }).stopped, "it can be deleted all the same");
}
