//! Pods under fire: while clients make, use and remove them, the engine, monitors and runtimes are killed at any moment.
//! Whatever the engine says exists afterwards must work, and nothing else may be left on the machine.
//!
//! `KNARR_CHAOS_SECONDS` (15) and `KNARR_CHAOS_SEED` make it longer and different.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::*;
use knarr_tests::census::{self, Living};
use knarr_tests::cri_client::Client;
use knarr_tests::engine::{Engine, PATIENCE, container, pod};
use knarr_tests::eventually::answers;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// No call may take longer, whatever is killed meanwhile.
const CALL_DEADLINE: Duration = Duration::from_secs(120);
const WORKERS: u64 = 4;
const MOST_PODS: usize = 3;
/// Steps of all clients together that make a storm.
const ENOUGH: u32 = 20;

/// xorshift: the same choices for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % sides as u64).unwrap()
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.roll(from.len())) }
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// One client and its pods.
struct Worker {
    number: u64,
    made: u64,
    client: Client,
    template: PodSandboxConfig,
    dice: Dice,
}

impl Worker {
    /// One random step. Errors are what a client sees while things die; a call that hangs is a failure.
    async fn step(&mut self) {
        let choice = self.dice.roll(10);
        let step = self.choose(choice);
        let ended = tokio::time::timeout(CALL_DEADLINE, step).await;
        assert!(ended.is_ok(), "a call of kind {choice} did not end");
    }

    async fn choose(&mut self, choice: usize) -> Option<()> {
        let pods = self.pods().await?;
        let ready: Vec<_> =
            pods.iter().filter(|pod| pod.state() == PodSandboxState::SandboxReady).cloned().collect();
        let any_pod = self.dice.pick(&pods).map(|pod| pod.id.clone());
        let containers = self.containers().await?;
        let any = self.dice.pick(&containers).map(|one| one.id.clone());
        match choice {
            0 | 1 if pods.len() < MOST_PODS => {
                let config = self.next_pod();
                self.client.run_pod(&config).await.ok()?;
            }
            2..=4 => {
                let pod = self.dice.pick(&ready)?.clone();
                self.run_container(&pod).await?;
            }
            5 | 6 => drop(self.client.exec(&any?, "echo hello; sleep 0.1").await.ok()?),
            7 => self.client.stop_container(&any?, 0).await.ok()?,
            8 => self.client.remove_container(&any?).await.ok()?,
            _ if self.dice.roll(2) == 0 => self.client.stop_pod(&any_pod?).await.ok()?,
            _ => self.client.remove_pod(&any_pod?).await.ok()?,
        }
        Some(())
    }

    fn next_pod(&mut self) -> PodSandboxConfig {
        self.made += 1;
        let name = format!("w{}-{}", self.number, self.made);
        let mut config = self.template.clone();
        let metadata = config.metadata.as_mut().unwrap();
        (metadata.name, metadata.uid) = (name.clone(), format!("{name}-uid"));
        config.labels = HashMap::from([("worker".into(), self.number.to_string())]);
        config.log_directory = format!("{}/{name}", config.log_directory);
        config.linux.as_mut().unwrap().cgroup_parent =
            format!("{}/{name}", self.template.linux.as_ref().unwrap().cgroup_parent);
        config
    }

    async fn run_container(&mut self, pod: &PodSandbox) -> Option<()> {
        self.made += 1;
        let lines = ["while :; do echo tick; sleep 0.2; done", "sleep 1000", "echo short; exit 3"];
        let mut config = container(&format!("c{}", self.made), &["sh", "-c", self.dice.pick(&lines)?]);
        config.stdin = self.dice.roll(3) == 0;
        config.tty = self.dice.roll(4) == 0;
        config.labels = HashMap::from([("worker".into(), self.number.to_string())]);
        let name = pod.metadata.clone()?.name;
        let parent = format!("{}/{name}", self.template.linux.as_ref()?.cgroup_parent);
        let mut of = self.template.clone();
        of.linux.as_mut()?.cgroup_parent = parent;
        let id = self.client.create(&pod.id, &of, config).await.ok()?;
        self.client.start(&id).await.ok()
    }

    async fn pods(&mut self) -> Option<Vec<PodSandbox>> {
        self.client.pods(&[("worker", &self.number.to_string())]).await.ok()
    }

    async fn containers(&mut self) -> Option<Vec<Container>> {
        self.client.containers(&[("worker", &self.number.to_string())]).await.ok()
    }
}

/// Kills a process; it may have ended meanwhile.
fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Kills something every few hundred milliseconds; the engine comes back at once.
async fn sabotage(engine: &mut Engine, dice: &mut Dice, goes_on: impl Fn() -> bool) {
    let mut beat = tokio::time::interval(Duration::from_millis(150));
    while goes_on() {
        beat.tick().await;
        match dice.roll(8) {
            0 => {
                engine.kill();
                engine.serve().await;
            }
            1 => {
                if let Some((pid, _)) = dice.pick(&census::processes(engine, "knarr-monitor")) {
                    kill(*pid);
                }
            }
            // Runtimes live for milliseconds: look until there is one.
            2 | 3 => {
                let moment = Instant::now() + Duration::from_millis(100);
                while Instant::now() < moment {
                    if let Some((pid, _)) = dice.pick(&census::processes(engine, "knarr-runtime")) {
                        kill(*pid);
                        break;
                    }
                }
            }
            _ => {}
        }
    }
}

/// What the engine says exists.
async fn living(client: &mut Client) -> Result<Living, String> {
    let mut living = Living::default();
    let pods = client.pods(&[]).await.map_err(|error| error.to_string())?;
    for pod in pods {
        let status = client.pod_status(&pod.id).await.map_err(|error| error.to_string())?;
        let name = pod.metadata.clone().unwrap_or_default().name;
        if pod.state() == PodSandboxState::SandboxReady {
            living.addresses.insert(status.network.unwrap_or_default().ip);
            living.cgroups.insert(name);
        } else {
            living.idle_cgroups.insert(name);
        }
        living.pods.insert(pod.id);
    }
    let containers = client.containers(&[]).await.map_err(|error| error.to_string())?;
    living.containers.extend(containers.into_iter().map(|one| one.id));
    Ok(living)
}

async fn accounts(engine: &Engine, client: &Client, what: &str) {
    answers(what, 2 * PATIENCE, || async {
        let living = living(&mut client.clone()).await?;
        let differences = census::differences(engine, &living);
        if differences.is_empty() { Ok(()) } else { Err(differences.join("\n")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_dies_the_machine_holds_what_the_engine_says_and_no_more() {
    let seed = setting("KNARR_CHAOS_SEED", 20_261_121);
    let end = Instant::now() + Duration::from_secs(setting("KNARR_CHAOS_SECONDS", 15));
    let mut engine = Engine::start().await;
    let (over, steps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut template = pod(&engine, "chaos");
    template.linux.as_mut().unwrap().cgroup_parent = engine.cgroup();
    let workers: Vec<_> = (1..=WORKERS)
        .map(|number| {
            let dice = Dice(seed.wrapping_mul(number + 1) | 1);
            let (client, template) = (engine.client.clone(), template.clone());
            let (mut worker, over) = (Worker { number, made: 0, client, template, dice }, over.clone());
            let steps = steps.clone();
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    worker.step().await;
                    steps.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    // As long as asked for, and until something has been done in it on a machine that is slow.
    let goes_on = || Instant::now() < end || steps.load(Ordering::Relaxed) <= ENOUGH;
    sabotage(&mut engine, &mut Dice(seed | 1), goes_on).await;
    over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    let mut client = engine.client.clone();
    accounts(&engine, &client, "after the storm nothing is left over or missing").await;
    for one in client.containers(&[]).await.unwrap() {
        if one.state() == ContainerState::ContainerRunning {
            // It may be one of those that end by themselves, and just now.
            let answer = client.exec(&one.id, "true").await;
            if !answer.as_ref().is_ok_and(|answer| answer.exit_code == 0) {
                let state = client.ended(&one.id).await.state();
                assert_eq!(state, ContainerState::ContainerExited, "{one:?}: {answer:?}");
            }
        }
    }
    for pod in client.pods(&[]).await.unwrap() {
        client.remove_pod(&pod.id).await.unwrap();
    }
    accounts(&engine, &client, "without pods nothing is left").await;
}
