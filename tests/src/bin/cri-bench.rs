//! Times the calls of CRI at any engine's socket, ours or a rival's, with one client: the same messages for both.
//!
//! ```text
//! cri-bench SOCKET IMAGE times ROUNDS    one pod after the other: the median of each call
//! cri-bench SOCKET IMAGE fill COUNT      so many pods with one container each stay (20 are made at a time)
//! cri-bench SOCKET IMAGE clean           all pods go
//! ```
// A program for a script: its output is its purpose, and its failure ends the script.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::panic)]

use knarr_cri::v1::*;
use knarr_tests::cri_client::Client;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

/// Pods made at the same time.
const AT_ONCE: usize = 20;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        [socket, image, "times", rounds] => {
            times(&mut Client::connect(Path::new(socket)), image, rounds.parse().expect("ROUNDS")).await;
        }
        [socket, image, "fill", count] => fill(socket, image, count.parse().expect("COUNT")).await,
        [socket, _, "clean"] => clean(&mut Client::connect(Path::new(socket))).await,
        _ => panic!("usage: cri-bench SOCKET IMAGE times ROUNDS | fill COUNT | clean"),
    }
}

fn pod(name: &str) -> PodSandboxConfig {
    PodSandboxConfig {
        metadata: Some(PodSandboxMetadata {
            name: name.into(),
            uid: format!("{name}-uid"),
            namespace: "bench".into(),
            attempt: 0,
        }),
        hostname: name.into(),
        log_directory: std::env::temp_dir().join("cri-bench").join(name).display().to_string(),
        linux: Some(LinuxPodSandboxConfig::default()),
        ..Default::default()
    }
}

fn sleeper(image: &str) -> ContainerConfig {
    ContainerConfig {
        metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
        image: Some(ImageSpec { image: image.into(), ..Default::default() }),
        command: ["sleep", "100000"].map(str::to_owned).to_vec(),
        log_path: "main.log".into(),
        linux: Some(LinuxContainerConfig::default()),
        ..Default::default()
    }
}

/// Times of each call.
type Times = BTreeMap<&'static str, Vec<Duration>>;

async fn timed<T>(
    times: &mut Times,
    call: &'static str,
    work: impl Future<Output = Result<T, tonic::Status>>,
) -> T {
    let begin = Instant::now();
    let result = work.await.unwrap_or_else(|error| panic!("{call}: {error}"));
    times.entry(call).or_default().push(begin.elapsed());
    result
}

async fn times(client: &mut Client, image: &str, rounds: usize) {
    let mut times = Times::new();
    // The first round warms caches and is not counted.
    for round in 0..=rounds {
        if round == 1 {
            times.clear();
        }
        one_round(client, image, &format!("bench-{}-{round}", std::process::id()), &mut times).await;
    }
    for (call, mut list) in times {
        list.sort();
        let milliseconds = |at: usize| list.get(at).map_or(0.0, |time| time.as_secs_f64() * 1000.0);
        println!(
            "{call}\t{:.2}\t{:.2}\t{:.2}",
            milliseconds(list.len() / 2),
            milliseconds(0),
            milliseconds(list.len() - 1)
        );
    }
}

async fn one_round(client: &mut Client, image: &str, name: &str, times: &mut Times) {
    let config = pod(name);
    let id = timed(times, "1 RunPodSandbox", client.run_pod(&config)).await;
    let container = timed(times, "2 CreateContainer", client.create(&id, &config, sleeper(image))).await;
    timed(times, "3 StartContainer", client.start(&container)).await;
    timed(times, "4 ExecSync", client.exec(&container, ":")).await;
    timed(times, "5 ContainerStatus", client.status(&container)).await;
    timed(times, "6 StopContainer", client.stop_container(&container, 0)).await;
    timed(times, "7 RemoveContainer", client.remove_container(&container)).await;
    timed(times, "8 StopPodSandbox", client.stop_pod(&id)).await;
    let request = RemovePodSandboxRequest { pod_sandbox_id: id };
    timed(times, "9 RemovePodSandbox", client.runtime.remove_pod_sandbox(request)).await;
}

async fn fill(socket: &str, image: &str, count: usize) {
    let (begin, numbers) = (Instant::now(), (0..count).collect::<Vec<_>>());
    let mut slowest = Duration::ZERO;
    for numbers in numbers.chunks(AT_ONCE) {
        let made: Vec<_> =
            numbers.iter().map(|number| tokio::spawn(make(socket.into(), image.into(), *number))).collect();
        for one in made {
            slowest = slowest.max(one.await.expect("a pod"));
        }
    }
    println!(
        "{count} pods in {:.1} s, the slowest in {:.0} ms",
        begin.elapsed().as_secs_f64(),
        slowest.as_secs_f64() * 1000.0
    );
}

async fn make(socket: String, image: String, number: usize) -> Duration {
    let mut client = Client::connect(Path::new(&socket));
    let config = pod(&format!("fill-{number}"));
    let begin = Instant::now();
    let id = client.run_pod(&config).await.expect("RunPodSandbox");
    let container = client.create(&id, &config, sleeper(&image)).await.expect("CreateContainer");
    client.start(&container).await.expect("StartContainer");
    begin.elapsed()
}

async fn clean(client: &mut Client) {
    for pod in client.pods(&[]).await.expect("ListPodSandbox") {
        client.remove_pod(&pod.id).await.expect("RemovePodSandbox");
    }
}
