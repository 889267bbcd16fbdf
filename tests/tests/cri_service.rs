//! The engine as a service of a machine: its configuration explained, the service manager told, metrics, logs.
#![allow(clippy::unwrap_used)] // Helpers of tests: a failed expectation ends the test that made it.

use knarr_cri::v1::ExecSyncRequest;
use knarr_tests::bins;
use knarr_tests::engine::{Engine, PATIENCE, container, file_holds, pod};
use knarr_tests::eventually::eventually;
use knarr_tests::free_port::free_port;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

#[test]
fn the_printed_configuration_is_explained_and_can_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.toml");
    std::fs::write(
        &file,
        "[engine]\nclamp_denied_limits = false\n[engine.runtimes]\nother = \"/bin/other\"\n",
    )
    .unwrap();
    let print = || {
        let mut command = Command::new(bins::find("knarr"));
        bins::run(command.arg("--config").arg(&file).args(["engine", "--print-config"])).ok()
    };
    let first = print();
    assert!(first.contains("clamp_denied_limits = false") && first.contains("/bin/other"), "{first}");
    for line in first.lines().collect::<Vec<_>>().windows(2) {
        if let Some((key, _)) = line[1].trim_start_matches("# ").split_once(" =") {
            assert!(line[0].starts_with("# "), "{key} is not explained: {first}");
        }
    }
    std::fs::write(&file, &first).unwrap();
    assert_eq!(print(), first);
}

fn get(address: &str, path: &str) -> Result<String, String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    Ok(answer)
}

#[tokio::test]
async fn the_manager_hears_of_it_and_metrics_count_calls_and_pods() {
    let address = format!("127.0.0.1:{}", free_port());
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let manager = UnixDatagram::bind(&socket).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let environment = [("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", "200000")];
    let mut engine = Engine::start_with(&format!("metrics_listen = \"{address}\""), &environment).await;
    let mut heard = Vec::new();
    while !["READY=1", "WATCHDOG=1"].iter().all(|word| heard.iter().any(|said: &String| said.contains(word)))
    {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        heard.push(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    assert!(heard[0].contains("READY=1"), "{heard:?}");

    let config = pod(&engine, "pod");
    let id = engine.run_pod(&config).await.unwrap();
    let main = engine.run(&id, &config, container("main", &["sleep", "1000"])).await.unwrap();
    assert!(engine.status("no-such-container").await.is_err());
    let request =
        ExecSyncRequest { container_id: main.clone(), cmd: vec!["/no-such-program".into()], timeout: 60 };
    assert!(engine.runtime.exec_sync(request).await.is_err());
    let metrics = get(&address, "/metrics").unwrap();
    for line in [
        "knarr_engine_call_duration_seconds_count{method=\"RunPodSandbox\",code=\"OK\"} 1",
        "knarr_engine_call_duration_seconds_count{method=\"ContainerStatus\",code=\"NotFound\"} 1",
        "knarr_engine_pods{state=\"ready\"} 1",
        "knarr_engine_containers{state=\"running\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    assert!(get(&address, "/healthz").unwrap().ends_with("ok"));
    assert!(get(&address, "/other").unwrap().starts_with("HTTP/1.0 404"));
    engine.stop_container(&main, 0).await.unwrap();
    eventually("the exited container is counted", PATIENCE, || {
        let metrics = get(&address, "/metrics")?;
        if metrics.contains("knarr_engine_containers{state=\"exited\"} 1") { Ok(()) } else { Err(metrics) }
    });
    let log = file_holds(&engine.path("engine.log"), "no-such-program");
    let line = log.lines().find(|line| line.contains("no-such-program")).unwrap();
    assert!(
        line.contains("method=\"ExecSync\"") && line.contains(&format!("container=\"{main}\"")),
        "{line}"
    );
    assert!(!log.contains("no-such-container"), "what is only refused is no news: {log}");
    engine.remove_pod(&id).await.unwrap();
}
